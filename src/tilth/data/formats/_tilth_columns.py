"""The columns of Tilth's own format: which there are, from a data set and back to one, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import AnnotationColumns, MediaColumns
from tilth.data.formats._columns import report_rows
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry, ReviewState, Source, Split
from tilth.errors import LabelError

__all__ = [
    "CODES",
    "CORNERS",
    "NULLABLE",
    "SCHEMAS",
    "Columns",
    "Table",
    "annotation_table",
    "annotations_of",
    "media_of",
    "media_table",
]

Table = Literal["media", "annotations"]
Columns = dict[str, Any]
"""Column name -> array, list of strings, or `RaggedBytes`, all of one length."""

CORNERS = ("x0", "y0", "x1", "y1")
NULLABLE = frozenset({"area", "score", "segmentation", "attributes"})
SCHEMAS: dict[Table, dict[str, str]] = {
    "media": {
        "id": "int64",
        "uri": "text",
        "width": "int32",
        "height": "int32",
        "split": "int8",
        "parent_id": "int64",
        "attributes": "bytes",
    },
    "annotations": {
        "id": "int64",
        "media_index": "int64",
        "category_index": "int64",
        **dict.fromkeys(CORNERS, "float64"),
        "area": "float64",
        "is_crowd": "bool",
        "score": "float32",
        "source": "uint8",
        "review_state": "uint8",
        "geometry": "uint8",
        "segmentation": "bytes",
        "attributes": "bytes",
    },
}
"""Name -> type of the columns; "text" is a string and "bytes" is JSON."""

CODES = {"split": Split, "source": Source, "review_state": ReviewState, "geometry": Geometry}
"""Columns whose numbers stand for words."""


def media_table(media: MediaColumns, names: Sequence[str]) -> Columns:
    """The columns of the media, under the names that the files are to have."""
    attributes = media.attributes if len(media.attributes) else RaggedBytes.empty(len(media))
    own = {name: getattr(media, name) for name in SCHEMAS["media"]}
    return own | {"uri": names, "attributes": RaggedBytes.of(attributes)}


def annotation_table(labels: AnnotationColumns) -> Columns:
    """The columns of the annotations."""
    corners = dict(zip(CORNERS, np.ascontiguousarray(labels.boxes_xyxy.T), strict=True))
    columns: Columns = {
        name: getattr(labels, name) for name in SCHEMAS["annotations"] if name not in corners
    }
    columns |= corners
    packed = {name: RaggedBytes.of(columns[name]) for name in ("segmentation", "attributes")}
    return columns | packed


def media_of(columns: Columns, uris: Sequence[str], where: str) -> MediaColumns:
    """The media of a table, under the uris that its names stand for.

    Raises:
        LabelError: a code of no meaning, or a size below 0.
    """
    _check_codes(columns, ("split",), where)
    if (columns["width"] < 0).any() or (columns["height"] < 0).any():
        raise LabelError("a picture whose size is below 0", where=where)
    attributes = columns["attributes"]
    return MediaColumns(
        **{name: columns[name] for name in ("id", "width", "height", "split", "parent_id")},
        uri=uris,
        attributes=attributes if attributes.lengths.any() else (),
    )


def annotations_of(
    columns: Columns,
    num_media: int,
    num_categories: int,
    on_unknown: str,
    report: LabelReport,
    where: str,
) -> AnnotationColumns:
    """The annotations of a table that can be used; the others are reported.

    Raises:
        LabelError: a code of no meaning, or a category that is not in the list.
    """
    _check_codes(columns, ("source", "review_state", "geometry"), where)
    boxes = np.stack([columns.pop(name) for name in CORNERS], axis=1)
    keep = _usable(columns, boxes, num_media, num_categories, on_unknown, report, where)
    rows = np.flatnonzero(keep)
    index = columns["media_index"]
    if len(rows) == len(keep) and not (np.diff(index) < 0).any():
        return AnnotationColumns(boxes_xyxy=boxes, **columns)  # as it was written
    rows = rows[np.argsort(index[rows], kind="stable")]
    chosen: Columns = {
        name: column.take(rows) if isinstance(column, RaggedBytes) else column[rows]
        for name, column in columns.items()
    }
    return AnnotationColumns(boxes_xyxy=boxes[rows], **chosen)


def _check_codes(columns: Columns, names: Sequence[str], where: str) -> None:
    for name in names:
        known = [int(code) for code in CODES[name]]
        column = columns[name]
        if len(column) and not (min(known) <= column.min() and column.max() <= max(known)):
            raise LabelError(
                f"a code without a meaning in the column '{name}'",
                where=where,
                expected=", ".join(f"{int(code)} ({code.name.lower()})" for code in CODES[name]),
                got=f"{column.min()} to {column.max()}",
                fix="read it with the version of Tilth that wrote it",
            )


def _usable(
    columns: Columns,
    boxes: NDArray[np.float64],
    num_media: int,
    num_categories: int,
    on_unknown: str,
    report: LabelReport,
    where: str,
) -> NDArray[np.bool_]:
    ids, media, category = (columns[name] for name in ("id", "media_index", "category_index"))

    def place(row: int) -> str:
        return f"{where}: annotation {ids[row]}"

    unknown = (category < 0) | (category >= num_categories)
    if on_unknown == "error" and unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise LabelError(
            f"category {category[row]} is not among the {num_categories} of dataset.json",
            where=place(row),
            fix="add the category, or pass --on-unknown skip",
        )
    with np.errstate(invalid="ignore", over="ignore"):
        sizes = boxes[:, 2:] - boxes[:, :2]
        finite = np.isfinite(boxes).all(axis=1) & np.isfinite(sizes[:, 0] * sizes[:, 1])
        empty = ~(sizes > 0).all(axis=1) & (columns["geometry"] != Geometry.LABEL)
    keep = np.ones(len(ids), dtype=np.bool_)
    for kind, bad in (
        ("label of a picture that the file does not have", (media < 0) | (media >= num_media)),
        ("label of an unknown category", unknown),
        ("box with a number that is not finite", ~finite),
        ("box without area", empty),
    ):
        report_rows(report, kind, "left out", bad & keep, place)
        keep &= ~bad
    return keep
