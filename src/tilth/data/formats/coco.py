"""COCO instances JSON: boxes, polygons, run-length masks, crowds.

A box is ``[x, y, width, height]`` from the top left pixel edge; category ids are arbitrary and
kept; ``area`` is the area of the mask; ``iscrowd`` marks a group. (cocodataset.org, "Data format",
and the COCO API's `common/maskApi.c`.)

Not kept: ``info`` and ``licenses`` of the file itself, which the report notes. What a file cannot
hold of ours (splits, sources, review states) is noted when it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data import rle
from tilth.data.atomic import atomic_writer
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.formats._coco_records import Image, label_columns, read_records
from tilth.data.formats._columns import report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._media_names import media_uris
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category, Geometry, ReviewState, Source, Split
from tilth.errors import DataError, EmptyDatasetError, LabelError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

# COCO rounds x, y, width and height to two decimals each: a box at the border may stick out a bit.
_OUTSIDE_TOLERANCE_PX = 0.011
_WIDTH_DECIMALS = 9
_SHORTEST_POLYGON = 10  # bytes
_HEAD_BYTES = 65_536
_BLOCK = 10_000  # annotations
_COCO_KEYS = rb'"(images|annotations|categories|licenses)"\s*:\s*\['

TARGET = "file"
HOLDS = Holds(
    boxes=True,
    polygons=True,
    masks=True,
    scores=True,
    attributes="all",
    crowd=True,
    class_ids=True,
    supercategories=True,
)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """COCO has one dialect."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """Nothing to choose."""


def recognises(path: Path) -> bool:
    """A JSON file that begins with one of the lists of a COCO file."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    return head.lstrip()[:1] == b"{" and re.search(_COCO_KEYS, head) is not None


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read a COCO instances file; the pictures are not opened.

    Args:
        media_root: the folder that ``file_name`` is relative to; otherwise the file's own.
        on_unknown: what to do with labels of a category that the file does not define.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: not a COCO file, or an unknown category.
        PathEscapeError: a ``file_name`` that leaves ``media_root``.
        EmptyDatasetError: no pictures in the file.
    """
    report = report or LabelReport(where=str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(
            "the label file cannot be read", where=str(path), got=error.strerror
        ) from error
    file = read_records(data, report)
    del data  # the records hold on to it for as long as they need it
    columns = label_columns(file.annotations)
    if not file.images:
        raise EmptyDatasetError("no pictures in the label file", where=str(path))
    categories, category_ids = _categories(file.categories, report)
    media = _media(file.images, (path.parent if media_root is None else media_root), report)
    file.images.clear()
    annotations = _annotations(columns, media, category_ids, on_unknown, report)
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations), report


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What COCO holds of a data set, and what that costs."""
    report = LabelReport(where="coco")
    return fit(dataset, HOLDS, report), report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
) -> LabelReport:
    """Write a COCO instances file in one step: it is there whole or not at all.

    Args:
        media_root: ``file_name`` becomes relative to this folder where a picture lies inside it.

    Returns:
        What the format could not hold.

    Raises:
        StorageError: the write failed; a file that was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    with atomic_writer(path) as stream:
        stream.write(b'{"images":[')
        _write_list(stream, _image_texts(dataset, media_root))
        stream.write(b'],\n"annotations":[')
        _write_list(stream, _annotation_texts(dataset))
        stream.write(b'],\n"categories":[')
        _write_list(stream, map(_category_text, dataset.categories))
        stream.write(b"]}\n")
    return report


def _categories(
    records: list[dict[str, Any]], report: LabelReport
) -> tuple[tuple[Category, ...], NDArray[np.int64]]:
    categories: dict[int, Category] = {}
    names: set[str] = set()
    for at, record in enumerate(records):
        key, name = record.get("id"), record.get("name")
        if isinstance(key, str) and key.isdigit():
            key = int(key)
        if not isinstance(key, int) or not isinstance(name, str):
            raise LabelError(
                "a category needs an id and a name",
                where=f"{report.where}: categories[{at}]",
                got=str(record)[:80],
            )
        if key in categories:
            report.add("category id that stands twice", "the first kept", [f"{key} '{name}'"])
            continue
        if name in names:
            raise LabelError(
                "one category name under two ids",
                where=report.where,
                got=f"'{name}'",
                fix="rename one of them, so that labels can be told apart",
            )
        names.add(name)
        categories[key] = Category(
            name=name, origin_id=key, supercategory=str(record.get("supercategory") or "")
        )
    extra = sorted({key for record in records for key in record} - {"id", "name", "supercategory"})
    if extra:
        report.notes.append(f"fields of categories were not kept: {', '.join(extra)}")
    return tuple(categories.values()), np.fromiter(categories, np.int64, len(categories))


def _media(images: list[Image], media_root: Path, report: LabelReport) -> MediaColumns:
    ids = np.fromiter(map(attrgetter("id"), images), np.int64, len(images))
    rows = _first_of_each(ids, "image id that stands twice", report)
    root = media_root.resolve()
    kept = [images[row] for row in rows.tolist()]
    attributes = RaggedBytes.of([image.attributes() for image in kept])
    return MediaColumns(
        id=ids[rows],
        uri=media_uris([image.file_name for image in kept], root, report.where),
        width=np.fromiter(map(attrgetter("width"), kept), np.int32, len(kept)),
        height=np.fromiter(map(attrgetter("height"), kept), np.int32, len(kept)),
        split=np.full(len(kept), Split.NONE, dtype=np.int8),
        parent_id=np.full(len(kept), -1, dtype=np.int64),
        attributes=attributes if attributes.lengths.any() else (),
    )


def _first_of_each(ids: NDArray[np.int64], kind: str, report: LabelReport) -> NDArray[np.int64]:
    """Rows in the order of their ids; of equal ids the first, the others are reported."""
    order = np.argsort(ids, kind="stable")
    repeated = np.zeros(len(ids), dtype=np.bool_)
    repeated[1:] = np.diff(ids[order]) == 0
    _report_rows(report, kind, "the first kept", ids[order], repeated)
    return order[~repeated]


def _report_rows(
    report: LabelReport, kind: str, action: str, ids: NDArray[np.int64], bad: NDArray[np.bool_]
) -> None:
    report_rows(report, kind, action, bad, lambda row: str(ids[row]))


def _annotations(
    columns: Mapping[str, Any],
    media: MediaColumns,
    category_ids: NDArray[np.int64],
    on_unknown: str,
    report: LabelReport,
) -> AnnotationColumns:
    """The labels, checked, by picture."""
    ids, boxes = columns["id"], columns["bbox"]
    media_index = _rows_of(media.id, columns["image_id"])
    category_index = _rows_of(category_ids, columns["category_id"])
    keep = _usable(columns, media_index, category_index, on_unknown, report)
    rows = np.flatnonzero(keep)
    rows = rows[np.sort(_first_of_each(ids[rows], "annotation id that stands twice", report))]
    rows = rows[np.argsort(media_index[rows], kind="stable")]
    boxes_xyxy = boxes[rows]
    boxes_xyxy[:, 2:] += boxes_xyxy[:, :2]
    geometry, segmentation = _geometry(columns["segmentation"].take(rows))
    _report_outside(media, media_index[rows], boxes_xyxy, ids[rows], report)
    return AnnotationColumns(
        id=ids[rows],
        media_index=media_index[rows],
        category_index=category_index[rows],
        boxes_xyxy=boxes_xyxy,
        area=_filled_area(columns["area"][rows], boxes[rows], geometry, segmentation),
        is_crowd=columns["iscrowd"][rows] != 0,
        score=columns["score"][rows],
        source=np.full(len(rows), Source.HUMAN, dtype=np.uint8),
        review_state=np.full(len(rows), ReviewState.UNREVIEWED, dtype=np.uint8),
        geometry=geometry,
        segmentation=segmentation,
        attributes=columns["attributes"].take(rows),
    )


def _rows_of(known: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each wanted id among the known ones, -1 where it is unknown."""
    if not len(known):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
    rows = order[at]
    return np.where(known[rows] == wanted, rows, -1)


def _usable(
    columns: Mapping[str, Any],
    media_index: NDArray[np.int64],
    category_index: NDArray[np.int64],
    on_unknown: str,
    report: LabelReport,
) -> NDArray[np.bool_]:
    """bool [m]: what can be used; the rest is reported under its first fault."""
    ids, category, boxes = columns["id"], columns["category_id"], columns["bbox"]
    unknown = category_index < 0
    if unknown.any() and on_unknown == "error":
        row = int(np.flatnonzero(unknown)[0])
        raise LabelError(
            f"category {category[row]} is not among the file's categories",
            where=f"{report.where}: annotation {ids[row]} ({int(unknown.sum())} such labels)",
            fix="add the category to the file, or pass --on-unknown skip",
        )
    with np.errstate(invalid="ignore", over="ignore"):
        far_corners = boxes[:, :2] + boxes[:, 2:]
        areas = boxes[:, 2] * boxes[:, 3]
        empty = (boxes[:, 2:] <= 0).any(axis=1) | (far_corners <= boxes[:, :2]).any(axis=1)
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(far_corners).all(axis=1)
    finite &= np.isfinite(areas)
    keep = np.ones(len(ids), dtype=np.bool_)
    for kind, bad in (
        ("label of a picture that the file does not have", media_index < 0),
        ("label of an unknown category", unknown),
        ("box with a number that is not finite", ~finite),
        ("box without area", empty),
    ):
        _report_rows(report, kind, "left out", ids, bad & keep)
        keep &= ~bad
    return keep


def _report_outside(
    media: MediaColumns,
    media_index: NDArray[np.int64],
    boxes_xyxy: NDArray[np.float64],
    ids: NDArray[np.int64],
    report: LabelReport,
) -> None:
    width, height = media.width[media_index], media.height[media_index]
    outside = (boxes_xyxy[:, :2] < -_OUTSIDE_TOLERANCE_PX).any(axis=1)
    outside |= (width > 0) & (boxes_xyxy[:, 2] > width + _OUTSIDE_TOLERANCE_PX)
    outside |= (height > 0) & (boxes_xyxy[:, 3] > height + _OUTSIDE_TOLERANCE_PX)
    _report_rows(report, "box that reaches outside its picture", "kept as it is", ids, outside)


def _geometry(segmentation: RaggedBytes) -> tuple[NDArray[np.uint8], RaggedBytes]:
    """What each segmentation is, from its first byte; empty ones become None."""
    lengths = segmentation.lengths
    first = np.zeros(len(lengths), dtype=np.uint8)
    some = lengths > 0
    buffer = np.frombuffer(segmentation.data, dtype=np.uint8)
    first[some] = buffer[segmentation.offsets[:-1][some]]
    geometry = np.full(len(lengths), Geometry.BOX, dtype=np.uint8)
    geometry[first == ord("[")] = Geometry.POLYGON
    geometry[first == ord("{")] = Geometry.RLE
    hollow = _hollow(segmentation)
    if not hollow.any():
        return geometry, segmentation
    geometry[hollow] = Geometry.BOX
    ends = np.cumsum(np.where(hollow, 0, lengths))
    rest = segmentation.take(np.flatnonzero(~hollow))
    return geometry, RaggedBytes(rest.data, np.concatenate([[0], ends]))


def _hollow(segmentation: RaggedBytes) -> NDArray[np.bool_]:
    """bool [m]: `[]`, `[[]]` and null say that there is no mask; no real polygon is that short."""
    lengths = segmentation.lengths
    hollow = np.asarray((lengths > 0) & (lengths <= 2))  # no JSON of two bytes holds a point
    short = np.flatnonzero((lengths > 2) & (lengths < _SHORTEST_POLYGON))
    if not len(short):
        return hollow
    buffer = np.frombuffer(segmentation.data, dtype=np.uint8)
    at = segmentation.offsets[short, None] + np.arange(_SHORTEST_POLYGON)
    inside = np.arange(_SHORTEST_POLYGON) < lengths[short, None]
    padded = np.where(inside, buffer[np.minimum(at, len(buffer) - 1)], ord(" "))
    keys = np.ascontiguousarray(padded.astype(np.uint8)).view(f"S{_SHORTEST_POLYGON}")[:, 0]
    texts, kind = np.unique(keys, return_inverse=True)
    is_hollow = np.array([not _has_points(text) for text in texts.tolist()], np.bool_)
    hollow[short] = is_hollow[kind]
    return hollow


def _has_points(segmentation: bytes | None) -> bool:
    parts = msgspec.json.decode(segmentation or b"null")
    return isinstance(parts, list) and any(parts)


def _filled_area(
    area: NDArray[np.float64],
    boxes_xywh: NDArray[np.float64],
    geometry: NDArray[np.uint8],
    segmentation: RaggedBytes,
) -> NDArray[np.float64]:
    """The area that the file gives, else that of the mask, the polygons or the box."""
    missing = ~np.isfinite(area)
    area = np.where(missing, boxes_xywh[:, 2] * boxes_xywh[:, 3], area)
    for row in np.flatnonzero(missing & (geometry != Geometry.BOX)).tolist():
        text = segmentation[row] or b""
        try:
            if geometry[row] == Geometry.RLE:
                area[row] = rle.area(rle.from_json(text)[0])
            else:
                area[row] = sum(map(_polygon_area, msgspec.json.decode(text)))
        except (DataError, TypeError, ValueError):
            continue  # a mask that cannot be read: the box's area stands
    return area


def _polygon_area(part: list[float]) -> float:
    x, y = np.asarray(part[0::2]), np.asarray(part[1::2])
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2  # shoelace formula


def _write_list(stream: BinaryIO, texts: Iterator[bytes]) -> None:
    for count, text in enumerate(texts):
        stream.write(b",\n" if count else b"\n")
        stream.write(text)


def _image_texts(dataset: Dataset, media_root: Path | None) -> Iterator[bytes]:
    media = dataset.media
    prefix = "" if media_root is None else f"{media_root.resolve().as_posix().rstrip('/')}/"
    attributes = media.attributes if len(media.attributes) else [None] * len(media)
    for key, uri, width, height, extra in zip(
        media.id.tolist(),
        media.uri,
        media.width.tolist(),
        media.height.tolist(),
        attributes,
        strict=True,
    ):
        name = msgspec.json.encode(uri.removeprefix(prefix))
        text = b'{"id":%d,"file_name":%b,"width":%d,"height":%d' % (key, name, width, height)
        yield text + _rest(extra)


def _annotation_texts(dataset: Dataset) -> Iterator[bytes]:
    """Some thousand records at a time, with commas between them."""
    labels = dataset.annotations
    category_ids = np.array([c.origin_id for c in dataset.categories], dtype=np.int64)
    packed = RaggedBytes.of(labels.segmentation), RaggedBytes.of(labels.attributes)
    for start in range(0, len(labels), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(labels)))
        corners = labels.boxes_xyxy[rows]
        # Nine decimals: x + width was rounded once; this gives back the width that the file had.
        sizes = np.round(corners[:, 2:] - corners[:, :2], _WIDTH_DECIMALS)
        shapes, extras = (texts[rows] for texts in packed)
        parts: list[bytes | Sequence[bytes]] = [
            *(b'{"id":', _numbers(labels.id[rows])),
            *(b',"image_id":', _numbers(dataset.media.id[labels.media_index[rows]])),
            *(b',"category_id":', _numbers(category_ids[labels.category_index[rows]])),
            *(b',"bbox":[', _lists(np.concatenate([corners[:, :2], sizes], axis=1))),
            *(b'],"area":', _numbers(labels.area[rows])),
            *(b',"iscrowd":', _numbers(labels.is_crowd[rows].astype(np.int64))),
            *(b',"segmentation":', [shape or b"[]" for shape in shapes]),
        ]
        scores = labels.score[rows]
        if not np.isnan(scores).all():
            parts.append([_score(score) for score in scores.tolist()])
        parts.append([_rest(extra) for extra in extras] if extras.lengths.any() else b"}")
        yield _side_by_side(parts, len(corners), b",\n")


def _numbers(values: NDArray[Any]) -> list[bytes]:
    """Each number as it stands in JSON."""
    return msgspec.json.encode(values.tolist())[1:-1].split(b",")


def _lists(values: NDArray[np.float64]) -> list[bytes]:
    """The numbers of each row as they stand in JSON, without its brackets."""
    return msgspec.json.encode(values.tolist())[2:-2].split(b"],[")


def _score(score: float) -> bytes:
    return b"" if score != score else b',"score":%b' % msgspec.json.encode(score)


def _side_by_side(parts: Sequence[bytes | Sequence[bytes]], rows: int, between: bytes) -> bytes:
    """Each row's texts, one after the other; a part that is one text stands in every row."""
    width = len(parts) + 1
    texts = [between] * (width * rows)
    for at, part in enumerate(parts):
        texts[at::width] = [part] * rows if isinstance(part, bytes) else part
    return b"".join(texts[:-1])


def _rest(attributes: bytes | None) -> bytes:
    """The end of an object: the members of another one, and the brace."""
    inside = (attributes or b"{}").strip()[1:-1].strip()
    return b"," + inside + b"}" if inside else b"}"


def _category_text(category: Category) -> bytes:
    return msgspec.json.encode(
        {
            "id": category.origin_id,
            "name": category.name,
            "supercategory": category.supercategory,
        }
    )
