"""Data sets made into masks that a format's pictures hold: one class a pixel, or one object.

Of masks that overlap, one is seen. By default the smaller: a tie on a person stays, the person
under it loses a few pixels; the other way the tie would be gone. Each pair is reported with its
pixels, and what is hidden altogether is left out and reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.formats._columns import report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.holds import Holds
from tilth.data.label_maps import lay_over
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes, take_bytes
from tilth.data.records import Geometry
from tilth.data.runs import Runs, join, runs_from_json, runs_to_json
from tilth.data.storage import is_url
from tilth.errors import DataError

__all__ = ["Order", "Shapes", "cut_overlaps", "fit_masks", "join_classes", "shapes_of"]

Order = Literal["small_on_top", "last_on_top"]
Shapes = dict[int, Runs]
"""The masks of one picture: row of the label -> its runs."""


def fit_masks(
    dataset: Dataset,
    holds: Holds,
    report: LabelReport,
    arrange: Callable[[Shapes, AnnotationColumns], Shapes],
) -> Dataset:
    """Every label as a mask of its picture's size that has a pixel.

    Args:
        arrange: what the format makes of the masks of one picture, in the order in which it reads
            them; rows may be left out.
    """
    fitted = fit(_without_unsized(_with_sizes(dataset), report), holds, report)
    labels = fitted.annotations
    rows: list[int] = []
    texts = list(labels.segmentation)
    boxes, areas = labels.boxes_xyxy.copy(), labels.area.copy()
    for media_row in np.unique(labels.media_index).tolist():
        height, width = int(fitted.media.height[media_row]), int(fitted.media.width[media_row])
        given = _usable(fitted, media_row, report)
        for row, runs in arrange(given, labels).items():
            rows.append(row)
            boxes[row], areas[row] = runs.box_xyxy(height), runs.area
            if runs is not given[row]:
                texts[row] = runs_to_json(runs, height, width)
    changed = replace(labels, segmentation=RaggedBytes.of(texts), boxes_xyxy=boxes, area=areas)
    report.num_annotations = len(rows)
    return replace(fitted, annotations=_taken(changed, np.array(rows, dtype=np.int64)))


def _taken(labels: AnnotationColumns, rows: NDArray[np.int64]) -> AnnotationColumns:
    columns: dict[str, Any] = {field.name: getattr(labels, field.name) for field in fields(labels)}
    for name, column in columns.items():
        is_array = isinstance(column, np.ndarray)
        columns[name] = column[rows] if is_array else take_bytes(column, rows)
    return AnnotationColumns(**columns)


def shapes_of(dataset: Dataset, media_row: int) -> Shapes:
    """The masks of one picture of a data set that is fitted already."""
    rows = range(*dataset.rows_of(media_row).indices(len(dataset.annotations)))
    texts = dataset.annotations.segmentation
    return {row: runs_from_json(texts[row] or b"{}")[0] for row in rows}


def cut_overlaps(
    shapes: Shapes, labels: AnnotationColumns, order: Order, report: LabelReport, *, classes: bool
) -> Shapes:
    """What is seen of the masks of one picture.

    Args:
        classes: a pixel has a class, not an object: masks of one class do not hide each other.
    """
    rows = list(shapes)
    if order == "small_on_top":
        rows.sort(key=lambda row: (-shapes[row].area, row))
    layers = lay_over([shapes[row] for row in rows])
    if not layers.hidden:
        return shapes
    places = []
    for (top, under), pixels in layers.hidden.items():
        one, other = rows[top], rows[under]
        if not classes or labels.category_index[one] != labels.category_index[other]:
            places.append(f"label {labels.id[one]} over label {labels.id[other]}: {pixels} pixels")
    which = "the smaller one is seen" if order == "small_on_top" else "the later one is seen"
    report.add("masks that overlap", which, places)
    seen = dict(zip(rows, layers.seen, strict=True))
    hidden = [row for row in shapes if not len(seen[row].starts)]
    if classes:
        kept = {labels.category_index[row] for row in shapes if row not in hidden}
        hidden = [row for row in hidden if labels.category_index[row] not in kept]
    report.add("mask that others cover", "left out", [f"label {labels.id[r]}" for r in hidden])
    return {row: seen[row] for row in shapes if len(seen[row].starts)}


def join_classes(shapes: Shapes, labels: AnnotationColumns, report: LabelReport) -> Shapes:
    """One mask for each class in a picture, in their order, under the row of its first object."""
    parts: dict[int, list[int]] = {}
    for row in shapes:
        parts.setdefault(int(labels.category_index[row]), []).append(row)
    further = [f"label {labels.id[row]}" for rows in parts.values() for row in rows[1:]]
    kind = "further object of a class in one picture"
    report.add(kind, "one region for all of them", further)
    return {
        rows[0]: shapes[rows[0]] if len(rows) == 1 else join([shapes[row] for row in rows])
        for _, rows in sorted(parts.items())
    }


def _with_sizes(dataset: Dataset) -> Dataset:
    """Sizes that are not known, from the headers of the pictures, else from their masks."""
    media, labels = dataset.media, dataset.annotations
    unsized = np.flatnonzero((media.width <= 0) | (media.height <= 0))
    if not len(unsized):
        return dataset
    width, height = media.width.copy(), media.height.copy()
    local = [row for row in unsized.tolist() if not is_url(media.uri[row])]
    found = picture_sizes([media.uri[row] for row in local], LabelReport(where=""))
    width[local], height[local] = found
    for row in np.flatnonzero((width <= 0) | (height <= 0)).tolist():
        rows = dataset.rows_of(row)
        for label in range(rows.start, rows.stop):
            if labels.geometry[label] == Geometry.RLE:
                try:
                    _, tall, wide = runs_from_json(labels.segmentation[label] or b"{}")
                except DataError:
                    continue
                if 0 < tall < 2**31 and 0 < wide < 2**31:
                    height[row], width[row] = tall, wide
                    break
    return replace(dataset, media=replace(media, width=width, height=height))


def _without_unsized(dataset: Dataset, report: LabelReport) -> Dataset:
    labels, media = dataset.annotations, dataset.media
    sized = (media.width > 0) & (media.height > 0)
    lost = ~sized[labels.media_index] & (labels.geometry != Geometry.LABEL)

    def place(row: int) -> str:
        return f"label {labels.id[row]}"

    report_rows(report, "label in a picture of unknown size", "left out", lost, place)
    return dataset.keep_annotations(~lost) if lost.any() else dataset


def _usable(dataset: Dataset, media_row: int, report: LabelReport) -> Shapes:
    """The masks of one picture that can be read, have its size and a pixel."""
    labels, media = dataset.annotations, dataset.media
    size = (int(media.height[media_row]), int(media.width[media_row]))
    rows = dataset.rows_of(media_row)
    shapes: Shapes = {}
    for row in range(rows.start, rows.stop):
        place = f"label {labels.id[row]}"
        try:
            runs, *found = runs_from_json(labels.segmentation[row] or b"{}")
        except DataError as error:
            report.add("mask that cannot be read", "left out", [f"{place}: {error.message}"])
            continue
        if tuple(found) != size:
            words = f"{place}: {found[1]} x {found[0]}, picture {size[1]} x {size[0]}"
            report.add("mask of another size than its picture", "left out, not stretched", [words])
        elif not len(runs.starts):
            report.add("mask without a pixel", "left out", [place])
        else:
            shapes[row] = runs
    return shapes
