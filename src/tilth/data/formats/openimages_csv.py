"""Open Images CSV: boxes as shares of the picture in the order x0, x1, y0, y1, and group flags.

Follows "Data Formats" of the Open Images download page (storage.googleapis.com/openimages, V4 to
V7). A box is ``ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,
IsGroupOf,IsDepiction,IsInside``: flags are 1, 0, or -1 where it is not known; IsGroupOf is our
crowd; the confidence of a drawn box is always 1 and is no score, any other is one. Labels of whole
pictures are ``ImageID,Source,LabelName,Confidence``; there a confidence of 0 says that people
looked and did not see the class, so that such a row is no label (it is reported).

``LabelName`` is a machine-made id (``/m/01g317``). Its words are in a class-descriptions file
(``LabelName,DisplayName``): found beside the file, or named by the option ``classes``, they become
the names of our classes, and ids again when they are written with the same file.

The table says nothing of a picture but its id. Written beside ``<name>.csv`` and read again:
``<name>-images.csv`` (``ImageID,Subset,Width,Height,File``: splits, sizes, and pictures without
labels), ``<name>-class-descriptions.csv`` (all classes in order), ``<name>-imagelabels.csv``
(labels of whole pictures). Without sizes the headers of the pictures are read. Masks
(``MaskPath,...``) are refused: they are files of another size than the picture, one a box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_writer
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.formats._class_list import matched_classes
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._csv_boxes import only_sized
from tilth.data.formats._csv_lines import Cells, numbers, texts, write_rows
from tilth.data.formats._csv_table import CsvTable, first_records, parse_csv, read_text
from tilth.data.formats._fit import fit
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.formats._media_names import label_stems, relative_names
from tilth.data.formats._openimages_files import (
    Descriptions,
    PictureList,
    beside,
    picture_uris,
    read_pictures,
    write_descriptions,
)
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry, Split
from tilth.errors import EmptyDatasetError, LabelError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

TARGET = "file"
_FLAGS = {
    "occluded": "IsOccluded",
    "truncated": "IsTruncated",
    "depiction": "IsDepiction",
    "inside": "IsInside",
}
HOLDS = Holds(
    labels=True,
    boxes=True,
    scores=True,
    attributes=frozenset(_FLAGS),
    crowd=True,
    splits=True,
)
_GROUP = "IsGroupOf"
_BOX = ("XMin", "YMin", "XMax", "YMax")
_FLAG_ORDER = ("IsOccluded", "IsTruncated", _GROUP, "IsDepiction", "IsInside")
_LABEL_HEADER = ("ImageID", "Source", "LabelName", "Confidence")
_HEAD_BYTES = 4096
_UNKNOWN = -1
_KITTI_UNKNOWN = 3  # the number for "occlusion unknown", see STANDARD_ATTRIBUTES


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How the files are read.

    Attributes:
        classes: a class-descriptions file, or names with commas between.
        images: a list of pictures (ImageID, Subset, ...): those without labels are in it.
    """

    classes: str = ""
    images: str = ""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How the files are written.

    Attributes:
        classes: a class-descriptions file whose ids stand for the names of classes.
    """

    classes: str = ""


def recognises(path: Path) -> bool:
    """A CSV file whose header begins as Open Images' does."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return False
    return {"ImageID", "LabelName"} <= set(head.split(b"\n")[0].decode(errors="replace").split(","))


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read boxes, or labels of whole pictures, of Open Images.

    Args:
        media_root: the folder of the pictures; otherwise the file's own.
        on_unknown: what to do with classes that the list of classes does not have.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: not such a file, or an unknown class.
        PathEscapeError: an id that leaves ``media_root``.
        EmptyDatasetError: no pictures.
    """
    report = report or LabelReport(where=str(path))
    tables = [_Table.read(path, report)]
    if "XMin" in tables[0].at and beside(path, "imagelabels").is_file():
        tables.append(_Table.read(beside(path, "imagelabels"), report))
    rows = _Rows.of(tables, report)
    listed = _listed(options, path, report)
    root = (path.parent if media_root is None else media_root).resolve()
    media_of_id, media = _pictures(rows, listed, root, path, report)
    named = media_of_id[rows.image] >= 0
    report_rows(report, "row without a picture", "left out", ~named, rows.place)
    rows = rows.where(named)
    descriptions = Descriptions.found(options.classes, path, report)
    names = [descriptions.words.get(label, label) for label in rows.labels]
    categories, category_row = matched_classes(
        rows.label, names, descriptions.categories, on_unknown, report, rows.place
    )
    rows, category_row = rows.where(category_row >= 0), category_row[category_row >= 0]
    annotations = _annotations(rows, media, media_of_id[rows.image], category_row, report)
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations), report


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What Open Images' tables hold of a data set, and what that costs."""
    report = LabelReport(where="openimages_csv")
    fitted = only_sized(fit(dataset, HOLDS, report), report)
    labels = fitted.annotations

    def place(row: int) -> str:
        return f"label {labels.id[row]}"

    certain = labels.score == 1
    action = "lost: it is the confidence of every drawn box"
    report_rows(report, "score of exactly 1", action, certain, place)
    score = np.where(certain, np.float32(np.nan), labels.score)
    fitted = replace(
        fitted, annotations=replace(labels, score=score, attributes=_yes_or_no(fitted, report))
    )
    absent = (labels.geometry == Geometry.LABEL) & (labels.score == 0)
    kind = "label of a whole picture with a score of 0, which says that the class is not there"
    report_rows(report, kind, "left out", absent, place)
    if absent.any():
        fitted = fitted.keep_annotations(~absent)
    report.num_media, report.num_annotations = len(fitted.media), len(fitted.annotations)
    return fitted, report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
) -> LabelReport:
    """Write the table of boxes, and beside it pictures, classes and labels of whole pictures.

    Raises:
        DataError: two pictures of one id.
        PathEscapeError: a picture outside ``media_root``.
        StorageError: the write failed; the table that was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    names = relative_names(dataset.media.uri, media_root)
    ids = label_stems(names)
    known = Descriptions.read(Path(options.classes)) if options.classes else Descriptions()
    label_names = known.ids(dataset.categories)
    media, geometry = dataset.media, dataset.annotations.geometry
    pictures = PictureList(
        ids=ids, split=media.split, width=media.width, height=media.height, files=names
    )
    columns = _columns(dataset, ids, label_names)
    with ExitStack() as files:
        boxes, whole, classes, images = (
            files.enter_context(atomic_writer(each))
            for each in (
                path,
                *(beside(path, what) for what in ("imagelabels", "class-descriptions", "images")),
            )
        )
        header = (*_LABEL_HEADER, "XMin", "XMax", "YMin", "YMax")
        _write_table(boxes, header, columns, np.flatnonzero(geometry != Geometry.LABEL))
        _write_table(whole, _LABEL_HEADER, columns, np.flatnonzero(geometry == Geometry.LABEL))
        pictures.write(images)
        write_descriptions(classes, label_names, [each.name for each in dataset.categories])
        boxes.flush()  # a full disk shows before the other files are in their places
    return report


def _write_table(
    stream: BinaryIO, header: Sequence[str], columns: Mapping[str, Cells], chosen: NDArray[np.int64]
) -> None:
    names = (*header, *_FLAG_ORDER)
    stream.write(",".join(names).encode() + b"\n")
    write_rows(stream, [_only(columns[name], chosen) for name in names], len(chosen), ",")


@dataclass(frozen=True, kw_only=True)
class _Table:
    """One file, and where its columns are."""

    columns: CsvTable
    at: Mapping[str, int]

    @classmethod
    def read(cls, path: Path, report: LabelReport) -> _Table:
        data = read_text(path)
        records = first_records(data, ",", 1)
        header = [name.strip() for name in records[0]] if records else []
        at = {name: position for position, name in enumerate(header)}
        boxes = set(_BOX) & set(at)
        if "MaskPath" in at or not {"ImageID", "LabelName"} <= set(at) or len(boxes) not in (0, 4):
            raise LabelError(
                "not a table of boxes or labels of Open Images",
                where=f"{path}:1",
                expected=",".join((*_LABEL_HEADER, "XMin", "XMax", "YMin", "YMax", "...")),
                got=",".join(header)[:120] or "an empty file",
                fix="masks are not read; import the boxes" if "MaskPath" in at else None,
            )
        wanted = [name for name in (*_BOX, *_FLAG_ORDER, "Confidence") if name in at]
        dropped = [name for name in header if name not in (*wanted, "ImageID", "LabelName")]
        note = f"columns that were not kept: {', '.join(sorted(set(dropped)))}"
        if dropped and note not in report.notes:
            report.notes.append(note)
        columns = parse_csv(
            path,
            data,
            delimiter=",",
            has_header=True,
            width=len(header),
            texts=[at["ImageID"], at["LabelName"]],
            numbers=[at[name] for name in wanted],
            report=report,
        )
        return cls(columns=columns, at=at)

    def number(self, name: str, otherwise: float, report: LabelReport) -> NDArray[np.float64]:
        """A column, with a value for its empty cells, and for all where it is missing."""
        if name not in self.at:
            return np.full(len(self.columns), otherwise)
        values, empty, bad = self.columns.number(self.at[name])
        kind = f"{name} that is not a number"
        report_rows(report, kind, "read as if it were not there", bad, self.columns.place)
        return np.where(empty | bad, otherwise, values)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """The rows of all tables, one after the other.

    Attributes:
        table, row: int64 [m], where each is from.
        image, label: int64 [m], codes into ``ids`` and ``labels``.
        shares: float64 [m, 4], x0 y0 x1 y1 as shares of the picture.
    """

    tables: list[_Table]
    table: NDArray[np.int64]
    row: NDArray[np.int64]
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    ids: list[str]
    labels: list[str]
    confidence: NDArray[np.float64]
    shares: NDArray[np.float64]
    geometry: NDArray[np.uint8]
    flags: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, tables: list[_Table], report: LabelReport) -> _Rows:
        counts = [len(table.columns) for table in tables]
        image, ids = _joined([table.columns.text(table.at["ImageID"]) for table in tables])
        label, labels = _joined([table.columns.text(table.at["LabelName"]) for table in tables])

        def all_of(name: str, otherwise: float) -> NDArray[np.float64]:
            return np.concatenate([each.number(name, otherwise, report) for each in tables])

        kinds = [Geometry.BOX if "XMin" in table.at else Geometry.LABEL for table in tables]
        geometry = np.repeat(np.array(kinds, dtype=np.uint8), counts)
        shares = np.stack([all_of(name, np.nan) for name in _BOX], axis=1)
        shares[geometry == Geometry.LABEL] = 0
        rows = cls(
            tables=tables,
            table=np.repeat(np.arange(len(tables)), counts),
            row=np.concatenate([np.arange(count) for count in counts]),
            image=image,
            label=label,
            ids=ids,
            labels=labels,
            confidence=all_of("Confidence", 1),
            shares=shares,
            geometry=geometry,
            flags={name: all_of(name, _UNKNOWN) for name in _FLAG_ORDER},
        )
        for name, values in rows.flags.items():
            odd = ~np.isin(values, (-1, 0, 1))
            kind = f"{name} that is not 1, 0 or -1"
            report_rows(report, kind, "read as not known", odd, rows.place)
            values[odd] = _UNKNOWN
        absent = (geometry == Geometry.LABEL) & (rows.confidence == 0)
        kind = "class that was looked for and is not in the picture (confidence 0)"
        report_rows(report, kind, "no label", absent, rows.place)
        return rows.where(~absent)

    def where(self, keep: NDArray[np.bool_]) -> _Rows:
        """Some of the rows; the pictures of the others are still known."""
        return replace(
            self,
            table=self.table[keep],
            row=self.row[keep],
            image=self.image[keep],
            label=self.label[keep],
            confidence=self.confidence[keep],
            shares=self.shares[keep],
            geometry=self.geometry[keep],
            flags={name: values[keep] for name, values in self.flags.items()},
        )

    def place(self, row: int) -> str:
        return self.tables[self.table[row]].columns.place(int(self.row[row]))


def _joined(
    parts: list[tuple[NDArray[np.int64], list[str]]],
) -> tuple[NDArray[np.int64], list[str]]:
    """Codes into the different values of all parts."""
    known: dict[str, int] = {}
    codes = []
    for part, values in parts:
        mapped = [known.setdefault(value, len(known)) for value in values]
        codes.append(np.array(mapped or [0], dtype=np.int64)[part])
    return np.concatenate(codes), list(known)


def _listed(options: ReadOptions, path: Path, report: LabelReport) -> PictureList:
    chosen = Path(options.images) if options.images else beside(path, "images")
    if options.images and not chosen.is_file():
        raise LabelError("the list of pictures is not there", where=str(chosen))
    return read_pictures(chosen, report) if chosen.is_file() else PictureList.empty()


def _pictures(
    rows: _Rows, listed: PictureList, root: Path, path: Path, report: LabelReport
) -> tuple[NDArray[np.int64], MediaColumns]:
    """The picture of each id of the rows (int64, -1 for an empty id), and all pictures."""
    row_of = {key: row for row, key in enumerate(listed.ids)}
    further = [key for key in rows.ids if key and key not in row_of]
    row_of |= {key: len(row_of) + at for at, key in enumerate(further)}
    if not row_of:
        raise EmptyDatasetError("no pictures in the label file", where=str(path))
    files = [*listed.files, *[""] * len(further)]
    uris = picture_uris(list(row_of), files, root, path.name)
    split, width, height = (
        np.concatenate([known, np.full(len(further), otherwise, known.dtype)])
        for known, otherwise in (
            (listed.split, Split.NONE),
            (listed.width, 0),
            (listed.height, 0),
        )
    )
    unsized = np.flatnonzero((width <= 0) | (height <= 0))
    if len(unsized):
        headers = picture_sizes([uris[row] for row in unsized.tolist()], report)
        width[unsized], height[unsized] = headers
    media = media_columns(uris, width=width, height=height, split=split)
    return np.array([row_of.get(key, -1) for key in rows.ids], dtype=np.int64), media


def _annotations(
    rows: _Rows,
    media: MediaColumns,
    media_row: NDArray[np.int64],
    category_row: NDArray[np.int64],
    report: LabelReport,
) -> AnnotationColumns:
    sides = np.stack([media.width[media_row], media.height[media_row]] * 2, axis=1)
    usable = (sides > 0).all(axis=1) | (rows.geometry == Geometry.LABEL)
    kind = "box in shares of a picture of unknown size"
    report_rows(report, kind, "left out", ~usable, rows.place)
    rows = rows.where(usable)
    return annotation_columns(
        media,
        media_index=media_row[usable],
        category_index=category_row[usable],
        boxes_xyxy=rows.shares * sides[usable],
        geometry=rows.geometry,
        is_crowd=rows.flags[_GROUP] == 1,
        score=np.where(rows.confidence == 1, np.nan, rows.confidence),
        attributes=_attributes(rows.flags),
        report=report,
        place=rows.place,
    )


def _attributes(flags: Mapping[str, NDArray[np.float64]]) -> RaggedBytes:
    """Entries for what the flags know; there are no more than 81 different ones."""
    codes = np.zeros(len(flags[_GROUP]), dtype=np.int64)
    for name in _FLAGS.values():
        codes = codes * 3 + (flags[name].astype(np.int64) + 1)
    entries: list[bytes | None] = []
    for code in range(3 ** len(_FLAGS)):
        digits = [code // 3**power % 3 for power in reversed(range(len(_FLAGS)))]
        known = {name: digit == 2 for name, digit in zip(_FLAGS, digits, strict=True) if digit}
        entries.append(msgspec.json.encode(known) if known else None)
    return RaggedBytes.of(entries).take(codes)


def _yes_or_no(dataset: Dataset, report: LabelReport) -> RaggedBytes:
    """Attributes as the flags hold them: true, false, or not known."""
    labels = dataset.annotations
    packed = RaggedBytes.of(labels.attributes)
    changed: dict[str, list[str]] = {}
    entries = list(packed)
    for row in np.flatnonzero(packed.lengths).tolist():
        fields = msgspec.json.decode(entries[row] or b"{}")
        flags = {name: _flag(name, value) for name, value in fields.items()}
        for name, value in fields.items():
            if value is not flags[name]:
                changed.setdefault(name, []).append(f"label {labels.id[row]}")
        known = {name: flag for name, flag in flags.items() if flag is not None}
        if known != fields:
            entries[row] = msgspec.json.encode(known) if known else None
    for name, places in changed.items():
        report.add(f"attribute '{name}' that is more than yes or no", "becomes yes or no", places)
    return RaggedBytes.of(entries)


def _flag(name: str, value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float) or (name == "occluded" and value == _KITTI_UNKNOWN):
        return None
    return value > 0


def _columns(dataset: Dataset, ids: list[str], label_names: list[str]) -> dict[str, Cells]:
    labels, media = dataset.annotations, dataset.media
    index = labels.media_index
    with np.errstate(divide="ignore", invalid="ignore"):
        x = labels.boxes_xyxy[:, 0::2] / media.width[index][:, None]
        y = labels.boxes_xyxy[:, 1::2] / media.height[index][:, None]
    scored = ~np.isnan(labels.score)
    flags = {name: np.full(len(labels), _UNKNOWN) for name in _FLAG_ORDER}
    flags[_GROUP] = labels.is_crowd.astype(np.int64)
    packed = RaggedBytes.of(labels.attributes)
    for row in np.flatnonzero(packed.lengths).tolist():
        for name, value in msgspec.json.decode(packed[row] or b"{}").items():
            flags[_FLAGS[name]][row] = int(value)
    return {
        "ImageID": texts(ids, index, delimiter=","),
        "Source": texts(["verification", "machine"], scored.astype(np.int64), delimiter=","),
        "LabelName": texts(label_names, labels.category_index, delimiter=","),
        "Confidence": numbers(np.where(scored, labels.score, np.float32(1))),
        "XMin": numbers(x[:, 0]),
        "XMax": numbers(x[:, 1]),
        "YMin": numbers(y[:, 0]),
        "YMax": numbers(y[:, 1]),
        **{name: numbers(values, np.ones(len(values), np.bool_)) for name, values in flags.items()},
    }


def _only(cells: Cells, chosen: NDArray[np.int64]) -> Cells:
    return lambda rows: cells(chosen[rows])
