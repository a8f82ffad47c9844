"""CSV, a row a box: our own columns, and those of other tools, known by the header or as told.

Our own has a header and these columns: image, width, height, split, class, x0, y0, x1, y1 (pixel
edges), score, crowd, attributes (a JSON object). A picture without labels is one row of the class
``__image__``; a label of a whole picture is a row without a box. Classes in their order, with their
numbers, lie beside it in ``<name>.classes.csv``.

Read and written (``dialect``): ``retinanet`` (keras-retinanet: no header, path,x1,y1,x2,y2,class,
whole pixels, empty cells for a picture without objects), ``vott`` (image,xmin,ymin,xmax,ymax,label
in pixels), ``tfod`` (filename,width,height,class,xmin,ymin,xmax,ymax: pixels or shares of the
picture, which the values tell), ``automl`` (Google AutoML and Vertex AI: use, path, label, four
vertices as shares). Read only: makesense.ai's rows, and any header that names a picture, a class
and a box as corners, corner and size, or centre and size. Anything else takes the option
``columns``: ``path=filename,class=label,x0=xmin,y0=ymin,x1=xmax,y1=ymax``.

Boxes counted from 1 (Pascal VOC's, which scripts copy into CSV) are taken for that when all are
whole numbers, none is below 1, and some box ends at the picture's width or height; ``origin`` says
it outright.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset
from tilth.data.formats import _csv_conventions as conventions
from tilth.data.formats._class_list import classes_csv
from tilth.data.formats._csv_boxes import only_sized
from tilth.data.formats._csv_conventions import IMAGE_ROW, Convention
from tilth.data.formats._csv_labels import LabelTable, dataset_of
from tilth.data.formats._csv_lines import Cells, as_text, json_cells, numbers, texts, write_rows
from tilth.data.formats._csv_table import (
    DELIMITERS,
    CsvTable,
    first_records,
    parse_csv,
    read_text,
    sniff,
)
from tilth.data.formats._fit import fit
from tilth.data.formats._media_names import relative_names
from tilth.data.formats._whole_pixels import whole_pixels
from tilth.data.holds import STANDARD_ATTRIBUTES, Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry, Split
from tilth.data.storage import is_url
from tilth.errors import DataError, LabelError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

TARGET = "file"
HOLDS = Holds(
    labels=True,
    boxes=True,
    scores=True,
    attributes="all",
    crowd=True,
    frames=True,
    class_ids=True,
    splits=True,
)
_HOLDS: dict[str, Holds] = {
    "tilth": HOLDS,
    "retinanet": Holds(boxes=True),
    "vott": Holds(boxes=True, empty_media=False),
    "tfod": Holds(boxes=True, empty_media=False),
    "automl": Holds(boxes=True, splits=True),
}
_SUFFIXES = (".csv", ".tsv")
_HEAD_BYTES = 65_536
_SPLITS = {Split.TRAIN: "train", Split.VAL: "val", Split.TEST: "test"}
_ML_USES = {Split.TRAIN: "TRAIN", Split.VAL: "VALIDATION", Split.TEST: "TEST"}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a file is read.

    Attributes:
        dialect: whose columns; otherwise they are recognised.
        columns: which column is what, as ``path=filename,class=label,x0=xmin,...``.
        coordinates: pixels or shares of the picture; ``auto`` goes by the values.
        origin: pixel edges from 0, or Pascal VOC's counting from 1.
        delimiter: between cells.
        encoding: of a file that is not UTF-8.
        classes: a file with the classes, or their names with commas between.
    """

    dialect: Literal["auto", "tilth", "retinanet", "vott", "tfod", "automl"] = "auto"
    columns: str = ""
    coordinates: Literal["auto", "pixels", "normalised"] = "auto"
    origin: Literal["auto", "voc1", "zero"] = "auto"
    delimiter: Literal["auto", "comma", "semicolon", "tab"] = "auto"
    encoding: str = "utf-8"
    classes: str = ""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How a file is written.

    Attributes:
        dialect: whose columns.
        coordinates: of ``tfod``, which has both.
        origin: of ``tfod`` in pixels.
        delimiter: between cells.
        spreadsheet: names that a spreadsheet would run as formulas get an apostrophe.
    """

    dialect: Literal["tilth", "retinanet", "vott", "tfod", "automl"] = "tilth"
    coordinates: Literal["pixels", "normalised"] = "pixels"
    origin: Literal["zero", "voc1"] = "zero"
    delimiter: Literal["comma", "semicolon", "tab"] = "comma"
    spreadsheet: bool = False


def recognises(path: Path) -> bool:
    """A CSV file whose columns we know."""
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return False
    return conventions.convention_of(first_records(head, sniff(head))) is not None


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read a CSV file of labels.

    Pictures are opened only for boxes in shares of a picture whose size no column says.

    Args:
        media_root: the folder that names are relative to; otherwise the file's own.
        on_unknown: what to do with classes that a given list does not have.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: not CSV, columns that are not known, or an unknown class.
        PathEscapeError: a name that leaves ``media_root``.
        EmptyDatasetError: no pictures in the file.
    """
    report = report or LabelReport(where=str(path))
    data = read_text(path, options.encoding)
    delimiter = sniff(data, options.delimiter)
    records = first_records(data, delimiter)
    convention = _convention(path, records, options)
    report.notes.append(str(convention))
    columns = _columns(path, data, delimiter, records, convention, report)
    table = LabelTable(
        convention=convention,
        columns=columns,
        coordinates=options.coordinates,
        origin=options.origin,
        classes=options.classes,
    )
    root = (path.parent if media_root is None else media_root).resolve()
    return dataset_of(table, root, on_unknown, report), report


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What the dialect holds of a data set, and what that costs."""
    report = LabelReport(where=f"csv ({options.dialect})")
    fitted = fit(dataset, _HOLDS[options.dialect], report)
    if options.dialect == "retinanet":
        fitted = whole_pixels(fitted, report)
    if options.dialect == "tilth" and any(c.name == IMAGE_ROW for c in dataset.categories):
        raise DataError(
            f"a class of the name {IMAGE_ROW}, which marks pictures without labels",
            fix="rename the class, or write another dialect",
        )
    if _is_normalised(options):
        fitted = only_sized(fitted, report)
    report.num_media, report.num_annotations = len(fitted.media), len(fitted.annotations)
    return fitted, report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
) -> LabelReport:
    """Write a CSV file, and the list of its classes beside it.

    Args:
        media_root: names are relative to this folder; otherwise to the deepest that holds all.

    Returns:
        What the dialect could not hold.

    Raises:
        PathEscapeError: a picture outside ``media_root``.
        StorageError: the write failed; a file that was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    rows = _Rows.of(dataset, options, media_root)
    delimiter = DELIMITERS[options.delimiter]
    header = {
        "tilth": conventions.OURS,
        "vott": ("image", "xmin", "ymin", "xmax", "ymax", "label"),
        "tfod": ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"),
    }.get(options.dialect)
    with atomic_writer(path) as stream, atomic_writer(classes_path(path)) as classes:
        classes.write(classes_csv(dataset.categories))
        if header:
            stream.write(delimiter.join(header).encode() + b"\n")
        write_rows(stream, rows.columns(options.dialect), len(rows.media_row), delimiter)
        stream.flush()  # a full disk shows before the list of classes is in its place
    return report


def classes_path(path: Path) -> Path:
    """Where the classes of a CSV file are listed."""
    return path.with_name(f"{path.stem}.classes.csv")


def _convention(path: Path, records: list[list[str]], options: ReadOptions) -> Convention:
    if options.columns:
        return conventions.told(options.columns, records, str(path))
    found = conventions.convention_of(records, options.dialect)
    if found is not None:
        return found
    known = "tilth, retinanet, vott, tfod, automl" if options.dialect == "auto" else options.dialect
    first = ",".join(records[0])[:120] if records else "an empty file"
    is_open_images = bool(records) and {"ImageID", "LabelName"} <= set(records[0])
    raise LabelError(
        "the columns of the file are not known",
        where=f"{path}:1",
        expected=f"{known}, or a header that names picture, class and box",
        got=first,
        fix="pass --format openimages_csv"
        if is_open_images
        else "say which column is what: --option columns=path=filename,class=label,x0=xmin,...",
    )


def _columns(
    path: Path,
    data: bytes,
    delimiter: str,
    records: list[list[str]],
    convention: Convention,
    report: LabelReport,
) -> CsvTable:
    """The columns that mean something; the others are named."""
    roles, kept = convention.roles, [n for n in STANDARD_ATTRIBUTES if n in convention.extra]
    texts_at = {at for role, at in roles.items() if role in ("path", "class", "split")}
    strings_at = {roles["attributes"]} if "attributes" in roles else set()
    dropped = sorted(set(convention.extra) - set(kept))
    if dropped:
        report.notes.append(f"columns that were not kept: {', '.join(dropped)}")
    return parse_csv(
        path,
        data,
        delimiter=delimiter,
        has_header=convention.has_header,
        width=convention.width,
        texts=texts_at | {convention.extra[name] for name in kept},
        strings=strings_at,
        numbers=set(convention.box) | set(roles.values()) - texts_at - strings_at,
        decimal_comma=delimiter != "," and _has_decimal_commas(records, convention),
        report=report,
    )


def _has_decimal_commas(records: list[list[str]], convention: Convention) -> bool:
    rows = records[int(convention.has_header) :]
    return any("," in row[at] for row in rows for at in convention.box if at < len(row))


def _is_normalised(options: WriteOptions) -> bool:
    if options.dialect == "tfod":
        return options.coordinates == "normalised"
    return options.dialect == "automl"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """The rows to write: by picture, -1 as the label of a picture that has none."""

    dataset: Dataset
    options: WriteOptions
    names: list[str]
    media_row: NDArray[np.int64]
    label_row: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset, options: WriteOptions, media_root: Path | None) -> _Rows:
        media_index = dataset.annotations.media_index
        label_row = np.arange(len(media_index))
        if _HOLDS[options.dialect].empty_media:
            bare = np.flatnonzero(np.diff(dataset.offsets) == 0)
            media_index = np.concatenate([media_index, bare])
            label_row = np.concatenate([label_row, np.full(len(bare), -1)])
        order = np.argsort(media_index, kind="stable")
        uris = dataset.media.uri
        local = iter(relative_names([uri for uri in uris if not is_url(uri)], media_root))
        return cls(
            dataset=dataset,
            options=options,
            names=[uri if is_url(uri) else next(local) for uri in uris],
            media_row=media_index[order],
            label_row=label_row[order],
        )

    def columns(self, dialect: str) -> list[Cells]:
        media = self.dataset.media
        path = self._texts(self.names, self.media_row)
        width, height = (
            numbers(side[self.media_row], (side > 0)[self.media_row])
            for side in (media.width, media.height)
        )
        classes, box = self._classes(), self._boxes()
        if dialect in ("retinanet", "vott"):
            return [path, *box, classes]
        if dialect == "tfod":
            return [path, width, height, classes, *box]
        if dialect == "automl":
            x0, y0, x1, y1 = box
            empty = self._texts([], np.full(len(self.media_row), -1))
            use = self._splits(_ML_USES, "UNASSIGNED")
            return [use, path, classes, x0, y0, empty, empty, x1, y1, empty, empty]
        labels, row = self.dataset.annotations, self.label_row
        # One more entry, for the rows without a label (row -1).
        score = numbers(np.append(labels.score, np.float32(np.nan))[row])
        crowd = self._texts(["1"], np.where(np.append(labels.is_crowd, False)[row], 0, -1))
        attributes = json_cells(labels.attributes, row)
        return [
            path,
            width,
            height,
            self._splits(_SPLITS, ""),
            classes,
            *box,
            score,
            crowd,
            attributes,
        ]

    def _texts(self, values: list[str], codes: NDArray[np.int64]) -> Cells:
        cells = [as_text(value, self.options.spreadsheet) for value in values]
        return texts(cells, codes, delimiter=DELIMITERS[self.options.delimiter])

    def _splits(self, names: dict[Split, str], none: str) -> Cells:
        codes = self.dataset.media.split[self.media_row].astype(np.int64)
        values = [names[split] for split in (Split.TRAIN, Split.VAL, Split.TEST)]
        if none:
            values, codes = [*values, none], np.where(codes < 0, len(values), codes)
        return self._texts(values, codes)

    def _classes(self) -> Cells:
        names = [category.name for category in self.dataset.categories]
        codes = np.append(self.dataset.annotations.category_index, -1)[self.label_row]
        if self.options.dialect == "tilth":
            names, codes = [*names, IMAGE_ROW], np.where(self.label_row < 0, len(names), codes)
        return self._texts(names, codes)

    def _boxes(self) -> list[Cells]:
        labels, media = self.dataset.annotations, self.dataset.media
        boxes = labels.boxes_xyxy.copy()
        boxes[labels.geometry == Geometry.LABEL] = np.nan
        if _is_normalised(self.options):
            boxes[:, 0::2] /= media.width[labels.media_index][:, None]
            boxes[:, 1::2] /= media.height[labels.media_index][:, None]
        elif self.options.dialect == "tfod" and self.options.origin == "voc1":
            boxes[:, :2] += 1
        boxes = np.concatenate([boxes, np.full((1, 4), np.nan)])
        return [numbers(np.ascontiguousarray(boxes[self.label_row, at])) for at in range(4)]
