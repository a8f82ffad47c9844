"""A data set made to fit what a format holds, and a report of what that costs.

The order of preference, where a shape has no place: polygon -> mask -> box -> label of the picture;
mask -> polygon (traced along pixel edges, exact) -> box -> label; box -> rectangle as polygon or
mask -> label. A label of a whole picture is left out where only shapes have a place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data import masks
from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.formats._columns import report_rows
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry, ReviewState, Source, Split

__all__ = ["fit"]

_SHAPES = {
    Geometry.LABEL: "label of a whole picture",
    Geometry.BOX: "box",
    Geometry.POLYGON: "polygon",
    Geometry.RLE: "mask",
}


def fit(dataset: Dataset, holds: Holds, report: LabelReport) -> Dataset:
    """What the format holds of a data set; fitting it again changes nothing.

    Args:
        report: takes what is changed or lost, by the ids of the labels.
    """
    labels = _fit_shapes(dataset, holds, report)
    labels = _fit_values(labels, holds, report)
    fitted = replace(dataset, annotations=labels)
    _fit_media(fitted, holds, report)
    _fit_classes(fitted, holds, report)
    media = dataset.media
    if not holds.splits and (media.split != Split.NONE).any():
        fitted = replace(fitted, media=replace(media, split=np.full_like(media.split, Split.NONE)))
    report.num_media, report.num_annotations = len(fitted.media), len(fitted.annotations)
    return fitted


def _target(geometry: Geometry, holds: Holds) -> Geometry | None:
    """What a shape becomes; None where it has no place at all."""
    places = {
        Geometry.LABEL: holds.labels,
        Geometry.BOX: holds.boxes,
        Geometry.POLYGON: holds.polygons,
        Geometry.RLE: holds.masks,
    }
    preference = {
        Geometry.LABEL: (Geometry.LABEL,),
        Geometry.BOX: (Geometry.BOX, Geometry.POLYGON, Geometry.RLE, Geometry.LABEL),
        Geometry.POLYGON: (Geometry.POLYGON, Geometry.RLE, Geometry.BOX, Geometry.LABEL),
        Geometry.RLE: (Geometry.RLE, Geometry.POLYGON, Geometry.BOX, Geometry.LABEL),
    }
    return next((shape for shape in preference[geometry] if places[shape]), None)


def _fit_shapes(dataset: Dataset, holds: Holds, report: LabelReport) -> AnnotationColumns:
    labels = dataset.annotations
    keep = np.ones(len(labels), dtype=np.bool_)
    for geometry in Geometry:
        if _target(geometry, holds) is geometry:
            continue
        for rows, target, kind in _groups(dataset, labels, geometry, holds):
            action = "left out" if target is None else f"becomes a {_SHAPES[target]}"
            chosen = np.zeros(len(labels), dtype=np.bool_)
            chosen[rows] = True
            _report_ids(report, kind, action, labels.id, chosen)
            if target is None:
                keep[rows] = False
            else:
                labels = _converted(dataset, labels, rows, target)
    if not keep.all():
        labels = _with(dataset, labels).keep_annotations(keep).annotations
    if not (holds.boxes or holds.polygons or holds.masks):
        labels = _each_class_once(_with(dataset, labels), report)
    return labels


def _with(dataset: Dataset, annotations: AnnotationColumns) -> Dataset:
    return Dataset(categories=dataset.categories, media=dataset.media, annotations=annotations)


def _groups(
    dataset: Dataset, labels: AnnotationColumns, geometry: Geometry, holds: Holds
) -> Iterator[tuple[NDArray[np.int64], Geometry | None, str]]:
    """Labels of one shape, what they become, and what to call them.

    A mask needs the size of its picture: without one the next best shape is taken.
    """
    rows = np.flatnonzero(labels.geometry == geometry)
    target, media = _target(geometry, holds), dataset.media
    needs_size = target is Geometry.RLE
    media_rows = labels.media_index[rows]
    unsized = needs_size & ((media.width[media_rows] <= 0) | (media.height[media_rows] <= 0))
    kind = _SHAPES[geometry]
    if not unsized.all():
        yield rows[~unsized], target, kind
    if unsized.any():
        next_best = _target(Geometry.BOX, replace(holds, masks=False))
        yield rows[unsized], next_best, f"{kind} in a picture of unknown size"


def _converted(
    dataset: Dataset, labels: AnnotationColumns, rows: NDArray[np.int64], target: Geometry
) -> AnnotationColumns:
    geometry = labels.geometry.copy()
    geometry[rows] = target
    shapes = list(labels.segmentation)
    areas, boxes = labels.area.copy(), labels.boxes_xyxy
    for row in rows.tolist():
        shapes[row] = _shape(dataset, labels, row, target)
    if target in (Geometry.BOX, Geometry.LABEL):
        sizes = boxes[rows, 2:] - boxes[rows, :2]
        areas[rows] = sizes[:, 0] * sizes[:, 1]
    if target is Geometry.LABEL:
        boxes = boxes.copy()
        media_rows = labels.media_index[rows]
        boxes[rows, :2] = 0
        boxes[rows, 2] = dataset.media.width[media_rows]
        boxes[rows, 3] = dataset.media.height[media_rows]
    return replace(
        labels,
        geometry=geometry,
        segmentation=RaggedBytes.of(shapes),
        area=areas,
        boxes_xyxy=boxes,
    )


def _shape(dataset: Dataset, labels: AnnotationColumns, row: int, target: Geometry) -> bytes | None:
    """The segmentation of one label as the target shape."""
    text = labels.segmentation[row]
    media_row = labels.media_index[row]
    height, width = int(dataset.media.height[media_row]), int(dataset.media.width[media_row])
    match labels.geometry[row], target:
        case (_, Geometry.BOX | Geometry.LABEL):
            return None
        case (Geometry.BOX, Geometry.POLYGON):
            x0, y0, x1, y1 = labels.boxes_xyxy[row].tolist()
            return msgspec.json.encode([[x0, y0, x1, y0, x1, y1, x0, y1]])
        case (Geometry.BOX, Geometry.RLE):
            return masks.box_to_rle(labels.boxes_xyxy[row], height, width)
        case (Geometry.POLYGON, Geometry.RLE):
            return masks.polygons_to_rle(text or b"[]", height, width)
        case _:
            return masks.rle_to_polygons(text or b"{}")


def _each_class_once(dataset: Dataset, report: LabelReport) -> AnnotationColumns:
    """Of several objects of one class in a picture, one label."""
    labels = dataset.annotations
    keys = labels.media_index * max(len(dataset.categories), 1) + labels.category_index
    first = np.zeros(len(labels), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    kind, action = "further object of a class in one picture", "one label for all of them"
    _report_ids(report, kind, action, labels.id, ~first)
    return labels if first.all() else dataset.keep_annotations(first).annotations


def _fit_values(labels: AnnotationColumns, holds: Holds, report: LabelReport) -> AnnotationColumns:
    none = np.zeros(len(labels), dtype=np.bool_)
    scored = none if holds.scores else ~np.isnan(labels.score)
    crowds = none if holds.crowd else labels.is_crowd
    made = none if holds.provenance else labels.source != Source.HUMAN
    judged = none if holds.provenance else labels.review_state != ReviewState.UNREVIEWED
    for kind, action, lost in (
        ("score", "lost", scored),
        ("crowd flag", "lost: evaluation will count the group as one object", crowds),
        ("source of a label that is not human", "lost", made),
        ("review state", "lost", judged),
    ):
        _report_ids(report, kind, action, labels.id, lost)
    return replace(
        labels,
        score=np.where(scored, np.float32(np.nan), labels.score),
        is_crowd=labels.is_crowd & ~crowds,
        source=np.where(made, np.uint8(Source.HUMAN), labels.source),
        review_state=np.where(judged, np.uint8(ReviewState.UNREVIEWED), labels.review_state),
        attributes=_fit_attributes(labels, holds, report),
    )


def _fit_attributes(
    labels: AnnotationColumns, holds: Holds, report: LabelReport
) -> Sequence[bytes | None]:
    packed = RaggedBytes.of(labels.attributes)
    if holds.attributes == "all" or not packed.lengths.any():
        return labels.attributes
    texts, lost, places = list(packed), Counter[str](), dict[str, list[str]]()
    for row in np.flatnonzero(packed.lengths).tolist():
        fields = msgspec.json.decode(texts[row] or b"{}", type=dict[str, msgspec.Raw])
        dropped = [name for name in fields if name not in holds.attributes]
        for name in dropped:
            del fields[name]
            lost[name] += 1
            places.setdefault(name, []).append(f"label {labels.id[row]}")
        if dropped:
            texts[row] = msgspec.json.encode(fields) if fields else None
    for name, count in lost.items():
        report.add(f"attribute '{name}'", "lost", places[name], count=count)
    return RaggedBytes.of(texts)


def _fit_media(dataset: Dataset, holds: Holds, report: LabelReport) -> None:
    media = dataset.media

    def place(row: int) -> str:
        return media.uri[row]

    none = np.zeros(len(media), dtype=np.bool_)
    lost = {
        "split": none if holds.splits else media.split != Split.NONE,
        "parent of a derived picture": media.parent_id >= 0,
    }
    for kind, rows in lost.items():
        report_rows(report, kind, "lost", rows, place)
    if not holds.empty_media:
        empty = np.diff(dataset.offsets) == 0
        report_rows(report, "picture without labels", "left out", empty, place)
    if not holds.frames:
        frames = np.fromiter(("#" in uri for uri in media.uri), np.bool_, len(media))
        action = "written under a name that only Tilth resolves"
        report_rows(report, "frame of a video", action, frames, place)


def _fit_classes(dataset: Dataset, holds: Holds, report: LabelReport) -> None:
    names = [category.name for category in dataset.categories]
    ids = [category.origin_id for category in dataset.categories]
    if not holds.class_ids and ids != list(range(len(ids))):
        report.add("class number", "replaced: classes are counted from 0", names)
    if not holds.supercategories:
        above = [c.name for c in dataset.categories if c.supercategory]
        report.add("supercategory", "lost", above)
    if not holds.class_order:
        used = np.bincount(dataset.annotations.category_index, minlength=len(names)) > 0
        unused = [name for name, is_used in zip(names, used.tolist(), strict=True) if not is_used]
        report.add("class without a label", "left out", unused)


def _report_ids(
    report: LabelReport,
    kind: str,
    action: str,
    ids: NDArray[np.int64],
    rows: NDArray[np.bool_],
) -> None:
    def place(row: int) -> str:
        return f"label {ids[row]}"

    report_rows(report, kind, action, rows, place)
