"""A data set out of the parsed columns of a CSV file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.formats._class_list import class_list, matched_classes
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._csv_boxes import complete, corners_of, origin_of, units_of
from tilth.data.formats._csv_conventions import IMAGE_ROW, Convention
from tilth.data.formats._csv_lines import without_apostrophe
from tilth.data.formats._csv_table import CsvTable
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.formats._media_names import media_uri
from tilth.data.holds import STANDARD_ATTRIBUTES
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category, Geometry, Split
from tilth.errors import EmptyDatasetError, PathEscapeError

__all__ = ["LabelTable", "dataset_of"]

_LARGEST_SIDE = 2**31 - 1
_SPLITS = {
    "": Split.NONE,
    "none": Split.NONE,
    "unassigned": Split.NONE,
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validate": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelTable:
    """The columns, what they mean, and what was said about them."""

    convention: Convention
    columns: CsvTable
    coordinates: Literal["auto", "pixels", "normalised"] = "auto"
    origin: Literal["auto", "voc1", "zero"] = "auto"
    classes: str = ""

    def number(self, role: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values (NaN where there is none), and the cells that are neither number nor empty."""
        if role not in self.convention.roles:
            return np.full(len(self.columns), np.nan), np.zeros(len(self.columns), np.bool_)
        values, _, bad = self.columns.number(self.convention.roles[role])
        return values, bad


def dataset_of(
    table: LabelTable, root: Path, on_unknown: Literal["error", "skip"], report: LabelReport
) -> Dataset:
    """The pictures in the order in which they first appear, the labels checked.

    Raises:
        LabelError: an unknown class, or units that are not clear.
        PathEscapeError: a name that leaves ``root``.
        EmptyDatasetError: no pictures.
    """
    codes, names = table.columns.text(table.convention.roles["path"])
    media_row, uris = _pictures(codes, names, root, table.columns, report)
    if not uris:
        raise EmptyDatasetError("no pictures in the label file", where=str(table.columns.path))
    media = _media(table, media_row, uris, report)
    labels, kinds, boxes = _labelled_rows(table, media_row, report)
    categories, category_row = _categories(table, labels, on_unknown, report)
    known = category_row >= 0
    labels, kinds, boxes = labels[known], kinds[known], boxes[known]
    category_row = category_row[known]
    media, boxes, sized = _in_pixels(table, media, media_row[labels], kinds, boxes, report)
    report_rows(
        report,
        "box in shares of a picture of unknown size",
        "left out",
        ~sized,
        lambda row: table.columns.place(labels[row]),
    )
    labels, kinds, boxes = labels[sized], kinds[sized], boxes[sized]
    annotations = _annotations(
        table, media, media_row, labels, kinds, boxes, category_row[sized], report
    )
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations)


def _pictures(
    codes: NDArray[np.int64], names: list[str], root: Path, columns: CsvTable, report: LabelReport
) -> tuple[NDArray[np.int64], list[str]]:
    """The picture of each row (int64 [n], -1 where none is named), and the uris of the pictures."""
    rows: dict[str, int] = {}
    row_of_code = np.full(max(len(names), 1), -1, dtype=np.int64)
    for code, name in enumerate(names):
        plain = without_apostrophe(name)
        if not plain:
            continue
        try:
            uri = media_uri(plain, root, columns.path.name)
        except PathEscapeError as error:
            error.where = columns.place(int(np.flatnonzero(codes == code)[0]))
            raise
        row_of_code[code] = rows.setdefault(uri, len(rows))
    media_row = row_of_code[codes] if len(codes) else codes
    report_rows(report, "row without a picture", "left out", media_row < 0, columns.place)
    return media_row, list(rows)


def _media(
    table: LabelTable, media_row: NDArray[np.int64], uris: list[str], report: LabelReport
) -> MediaColumns:
    width, height = (
        _sides(table, role, media_row, len(uris), report) for role in ("width", "height")
    )
    split = np.full(len(uris), Split.NONE, dtype=np.int8)
    if "split" in table.convention.roles:
        row_splits = _split_codes(
            *table.columns.text(table.convention.roles["split"]), table, report
        )
        known = np.flatnonzero((media_row >= 0) & (row_splits != Split.NONE))
        split[media_row[known[::-1]]] = row_splits[known[::-1]]  # of several, the first stays
        differs = (media_row >= 0) & (row_splits != split[media_row])
        kind = "picture whose rows name different splits"
        report_rows(report, kind, "the first kept", differs, table.columns.place)
    return media_columns(uris, width=width, height=height, split=split)


def _split_codes(
    codes: NDArray[np.int64], names: list[str], table: LabelTable, report: LabelReport
) -> NDArray[np.int8]:
    """int8 [n]: the split of each row; a word that is none is reported."""
    known = [_SPLITS.get(name.strip().casefold()) for name in names] or [Split.NONE]
    unknown = np.array([split is None for split in known], dtype=np.bool_)[codes]
    kind = "word that is no split (train, val, test)"
    report_rows(report, kind, "kept without a split", unknown, table.columns.place)
    return np.array([Split.NONE if s is None else s for s in known], dtype=np.int8)[codes]


def _sides(
    table: LabelTable, role: str, media_row: NDArray[np.int64], count: int, report: LabelReport
) -> NDArray[np.int32]:
    """One side of each picture by the first row that says it; 0 where none does."""
    sides = np.zeros(count, dtype=np.int32)
    if role not in table.convention.roles:
        return sides
    values, bad = table.number(role)
    named = media_row >= 0
    with np.errstate(invalid="ignore"):
        whole = (values > 0) & (values <= _LARGEST_SIDE) & (values % 1 == 0)
    bad = (bad | ~(whole | np.isnan(values) | (values == 0))) & named
    kind = "size of a picture that is not a whole number of pixels"
    report_rows(report, kind, "kept without a size", bad, table.columns.place)
    rows = np.flatnonzero(whole & named)
    sides[media_row[rows[::-1]]] = values[rows[::-1]]
    differs = np.zeros(len(values), dtype=np.bool_)
    differs[rows] = sides[media_row[rows]] != values[rows]
    kind = "picture whose rows give different sizes"
    report_rows(report, kind, "the first kept", differs, table.columns.place)
    return sides


def _labelled_rows(
    table: LabelTable, media_row: NDArray[np.int64], report: LabelReport
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.float64]]:
    """The rows that are labels, what they are (box or label of the picture), and their corners."""
    convention, columns = table.convention, table.columns
    codes, names = columns.text(convention.roles["class"])
    says_class = np.array([bool(without_apostrophe(name)) for name in names] or [False])[codes]
    if convention.name == "tilth":
        says_class &= np.array([name != IMAGE_ROW for name in names] or [False])[codes]
    values, empty, bad = _box_cells(table)
    has_box = complete(empty, convention.corners)
    no_box = empty.all(axis=1)
    of_picture = says_class & no_box & (convention.corners == "none" or convention.name == "tilth")
    named = media_row >= 0
    faulty = named & bad.any(axis=1)
    keep = named & says_class & (has_box | of_picture) & ~faulty
    for kind, rows in (
        ("box with a cell that is not a number", faulty),
        ("box without a class", named & ~says_class & has_box & ~faulty),
        ("label without a box", named & says_class & no_box & ~of_picture),
        ("box of which a number is missing", named & ~has_box & ~no_box & ~faulty),
    ):
        report_rows(report, kind, "left out", rows, columns.place)
    rows = np.flatnonzero(keep)
    kinds = np.where(of_picture[rows], Geometry.LABEL, Geometry.BOX).astype(np.uint8)
    boxes = np.zeros((len(rows), 4))
    if convention.corners != "none":
        boxes = corners_of(values[rows], convention.corners)
    return rows, kinds, boxes


def _box_cells(
    table: LabelTable,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Numbers [n, k] of the box's columns, which of them are empty, and which are no number."""
    shape = (len(table.columns), len(table.convention.box))
    values, empty, bad = np.zeros(shape), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    for column, at in enumerate(table.convention.box):
        values[:, column], empty[:, column], bad[:, column] = table.columns.number(at)
    return values, empty, bad


def _categories(
    table: LabelTable, labels: NDArray[np.int64], on_unknown: str, report: LabelReport
) -> tuple[tuple[Category, ...], NDArray[np.int64]]:
    """The classes, and the class of each label (int64 [m], -1 where it is left out)."""
    columns = table.columns
    codes, cells = columns.text(table.convention.roles["class"])
    codes, names = codes[labels], [without_apostrophe(cell) for cell in cells]
    path = columns.path
    beside = [path.with_name(f"{path.stem}.classes.{suffix}") for suffix in ("csv", "txt")]
    listed = class_list(table.classes, beside, report)
    return matched_classes(
        codes, names, listed, on_unknown, report, lambda row: columns.place(labels[row])
    )


def _in_pixels(
    table: LabelTable,
    media: MediaColumns,
    media_row: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    report: LabelReport,
) -> tuple[MediaColumns, NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes as pixel edges; bool [m] says whose picture has no size to say them by."""
    convention, is_box = table.convention, kinds == Geometry.BOX
    units = convention.units if table.coordinates == "auto" else table.coordinates
    if units is None:
        units, evidence = units_of(boxes[is_box], str(table.columns.path))
        report.notes.append(evidence)
    sized = np.ones(len(boxes), dtype=np.bool_)
    if units == "normalised":
        media = _with_header_sizes(media, report)
        width, height = media.width[media_row], media.height[media_row]
        boxes = boxes * np.stack([width, height, width, height], axis=1)
        return media, boxes, ~is_box | ((width > 0) & (height > 0))
    origin = table.origin
    if origin == "auto":
        origin = "zero"
        if convention.name in ("tfod", "columns") and convention.corners == "xyxy":
            sides = media.width[media_row][is_box], media.height[media_row][is_box]
            origin, evidence = origin_of(boxes[is_box], *sides)
            report.notes.append(evidence)
    if origin == "voc1":
        boxes = boxes - np.array([1.0, 1.0, 0.0, 0.0])
    return media, boxes, sized


def _with_header_sizes(media: MediaColumns, report: LabelReport) -> MediaColumns:
    rows = np.flatnonzero((media.width <= 0) | (media.height <= 0))
    if not len(rows):
        return media
    width, height = media.width.copy(), media.height.copy()
    width[rows], height[rows] = picture_sizes([media.uri[row] for row in rows.tolist()], report)
    return media_columns(media.uri, width=width, height=height, split=media.split)


def _annotations(
    table: LabelTable,
    media: MediaColumns,
    media_row: NDArray[np.int64],
    labels: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    category_row: NDArray[np.int64],
    report: LabelReport,
) -> AnnotationColumns:
    columns = table.columns

    def place(row: int) -> str:
        return columns.place(labels[row])

    numbers = {}
    for role in ("score", "crowd"):
        values, bad = table.number(role)
        report_rows(report, f"{role} that is not a number", "left out", bad[labels], place)
        numbers[role] = np.where(bad, np.nan, values)[labels]
    with np.errstate(over="ignore"):
        score = numbers["score"].astype(np.float32)
    return annotation_columns(
        media,
        media_index=media_row[labels],
        category_index=category_row,
        boxes_xyxy=boxes,
        geometry=kinds,
        is_crowd=np.nan_to_num(numbers["crowd"]) != 0,
        score=score,
        attributes=_Attributes(table, labels, report).entries(),
        report=report,
        place=place,
    )


@dataclass(frozen=True)
class _Attributes:
    """The attributes of labels: a column of JSON, or columns of their own."""

    table: LabelTable
    labels: NDArray[np.int64]
    report: LabelReport
    bad: list[int] = field(default_factory=list)

    def entries(self) -> RaggedBytes:
        convention = self.table.convention
        found: list[dict[str, Any] | None] = [None] * len(self.labels)
        for name in STANDARD_ATTRIBUTES:
            if name in convention.extra:
                self._add_column(name, convention.extra[name], found)
        if "attributes" in convention.roles:
            self._add_objects(convention.roles["attributes"], found)
        bad = np.zeros(len(self.labels), dtype=np.bool_)
        bad[self.bad] = True
        report_rows(
            self.report,
            "attributes that are not a JSON object",
            "left out",
            bad,
            lambda row: self.table.columns.place(self.labels[row]),
        )
        if not any(found):
            return RaggedBytes.empty(len(found))
        return RaggedBytes.of([msgspec.json.encode(each) if each else None for each in found])

    def _add_column(self, name: str, position: int, found: list[dict[str, Any] | None]) -> None:
        codes, cells = self.table.columns.text(position)
        values = [_value(cell) for cell in cells]
        for row, code in enumerate(codes[self.labels].tolist()):
            if values[code] is not None:
                found[row] = {**(found[row] or {}), name: values[code]}

    def _add_objects(self, position: int, found: list[dict[str, Any] | None]) -> None:
        decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        cells = self.table.columns.strings(position).take(self.labels).to_pylist()
        for row, cell in enumerate(cells):
            if not cell:
                continue
            try:
                found[row] = {**(found[row] or {}), **decode(without_apostrophe(cell))}
            except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
                self.bad.append(row)


def _value(cell: str) -> Any:
    """A cell as JSON would have it: true, a number, or text; None where it is empty."""
    cell = cell.strip()
    if cell.casefold() in ("true", "false"):
        return cell.casefold() == "true"
    try:
        return msgspec.json.decode(cell, type=float | int) if cell else None
    except msgspec.DecodeError:
        return cell
