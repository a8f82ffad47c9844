"""keras-yolo3 text: a line a picture, ``path x0,y0,x1,y1,class ...``, in whole pixels.

The grammar of qqwweee's keras-yolo3 (README, "Generate your own annotation file") and of the
YOLOv4 trainers for PyTorch that took it over; the two cannot be told apart. Corners are pixels,
classes are counted from 0 in a list of their own, ``classes.txt`` beside the file. A picture
without objects is a line with its path alone.

Lines are divided at white space, so a path with spaces cannot stand as it is: it is written with
percent escapes (which only Tilth resolves), or refused (``spaces=refuse``). Corners are rounded
half away from zero. The trainer keeps no more than 20 boxes of a picture unless it is told to;
the file holds any number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset
from tilth.data.formats._class_list import class_list, classes_text
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._csv_table import read_text
from tilth.data.formats._fit import fit
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.formats._media_names import media_uri, relative_names
from tilth.data.formats._percent import ESCAPE, decoded, encoded
from tilth.data.formats._whole_pixels import whole_pixels
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.data.storage import is_url
from tilth.errors import DataError, EmptyDatasetError, LabelError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

TARGET = "file"
HOLDS = Holds(boxes=True)
_HEAD_BYTES = 65_536
_TRAINER_BOXES = 20
_MOST_CLASSES = 100_000  # of a file without a list of classes
_PICTURES_AT_ONCE = 10_000
_SPACE = re.compile(r"\s")
# What Arrow takes for four numbers and an integer.
_BOX = re.compile(rb"([+-]?(\d+\.?\d*(e[+-]?\d+)?|nan|inf),){4}-?\d{1,18}", re.IGNORECASE)
_LINE = re.compile(rb"\S+([ \t]+-?\d+(,-?\d+){4})*[ \t\r]*")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a file is read.

    Attributes:
        classes: a file with the classes, or their names with commas between; otherwise
            ``classes.txt`` beside the file.
        spaces: whether percent escapes in paths are undone; ``auto`` does it unless a picture of
            the name as it stands is there.
        sizes: whether the headers of the pictures are read: the file does not say their sizes.
    """

    classes: str = ""
    spaces: Literal["auto", "percent", "literal"] = "auto"
    sizes: bool = True


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How a file is written.

    Attributes:
        spaces: what happens to paths with white space in them.
    """

    spaces: Literal["percent", "refuse"] = "percent"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Boxes:
    """All boxes of a file: the line (from 0) of each, corners float64 [m, 4], class int64 [m]."""

    line: NDArray[np.int64]
    corners: NDArray[np.float64]
    number: NDArray[np.int64]


def recognises(path: Path) -> bool:
    """A text file whose first lines are paths with boxes of five numbers."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return False
    lines = [line for line in head.split(b"\n")[:-1] or [head] if line.strip()][:50]
    return any(b"," in line for line in lines) and all(map(_LINE.fullmatch, lines))


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read an annotation file of keras-yolo3.

    Args:
        media_root: the folder that paths are relative to; otherwise the file's own.
        on_unknown: what to do with numbers beyond the list of classes.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: not text, or a class beyond the list.
        PathEscapeError: a path that leaves ``media_root``.
        EmptyDatasetError: no pictures in the file.
    """
    report = report or LabelReport(where=str(path))
    lines = read_text(path).split(b"\n")
    heads, tails = _heads_and_tails(lines)
    boxes = _boxes(path, heads, tails, report)
    root = (path.parent if media_root is None else media_root).resolve()
    media_of_line, uris = _pictures(path, heads, root, options, report)
    if not uris:
        raise EmptyDatasetError("no pictures in the label file", where=str(path))
    categories, category_row = _categories(path, boxes, on_unknown, options, report)
    width, height = picture_sizes(uris, report) if options.sizes else (None, None)
    media = media_columns(uris, width=width, height=height)
    rows = np.flatnonzero(category_row >= 0)
    annotations = annotation_columns(
        media,
        media_index=media_of_line[boxes.line[rows]],
        category_index=category_row[rows],
        boxes_xyxy=boxes.corners[rows],
        report=report,
        place=lambda row: _place(path, int(boxes.line[rows[row]])),
    )
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations), report


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What keras-yolo3's text holds of a data set, and what that costs.

    Raises:
        DataError: a path with white space, where these are refused.
    """
    report = LabelReport(where="yolo_keras")
    fitted = whole_pixels(fit(dataset, HOLDS, report), report)
    spaced = [uri for uri in dataset.media.uri if _SPACE.search(uri.rpartition("/")[2])]
    if spaced and options.spaces == "refuse":
        raise _space_error(spaced[0])
    crowded = int((np.diff(fitted.offsets) > _TRAINER_BOXES).sum())
    if crowded:
        report.notes.append(
            f"{crowded} pictures have more than {_TRAINER_BOXES} boxes; keras-yolo3 trains with "
            f"{_TRAINER_BOXES} of them unless its max_boxes is raised"
        )
    return fitted, report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
) -> LabelReport:
    """Write the annotation file, and ``classes.txt`` beside it.

    Raises:
        DataError: a path with white space, where these are refused; a class name of two lines.
        PathEscapeError: a picture outside ``media_root``.
        StorageError: the write failed; a file that was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    names = _names(dataset, media_root, options, report)
    classes = classes_text(dataset.categories)
    with atomic_writer(path) as stream, atomic_writer(_classes_path(path)) as list_stream:
        list_stream.write(classes)
        for line in _lines(dataset, names):
            stream.write(line)
        stream.flush()  # a full disk shows before the list of classes is in its place
    return report


def _classes_path(path: Path) -> Path:
    return path.with_name("classes.txt")


def _place(path: Path, line: int) -> str:
    return f"{path.name}:{line + 1}"


def _heads_and_tails(lines: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The path of each line (empty for an empty line), and its boxes with one space between."""
    heads, tails = [], []
    for line in lines:
        head, _, tail = line.partition(b" ")
        if b"\t" in line or b"\r" in line or b"  " in line or not head or tail.endswith(b" "):
            head, *words = line.split() or [b""]
            tail = b" ".join(words)
        heads.append(head)
        tails.append(tail)
    return heads, tails


def _boxes(
    path: Path, heads: Sequence[bytes], tails: Sequence[bytes], report: LabelReport
) -> _Boxes:
    counts = np.fromiter((tail.count(b" ") + 1 if tail else 0 for tail in tails), np.int64)
    line = np.repeat(np.arange(len(tails)), counts)
    words = b" ".join(filter(None, tails)).replace(b" ", b"\n")
    table = _parsed(words)
    if table is None or table.num_rows != len(line):
        each = words.split(b"\n") if words else []
        good = np.fromiter((bool(_BOX.fullmatch(word)) for word in each), np.bool_, len(each))
        kind = "box that is not x0,y0,x1,y1,class in whole numbers"
        report_rows(report, kind, "left out", ~good, lambda row: _place(path, int(line[row])))
        line = line[good]
        table = _parsed(b"\n".join(word for word, fits in zip(each, good, strict=True) if fits))
    if table is None:
        raise LabelError("the boxes cannot be read", where=str(path), expected="whole numbers")
    columns = [column.to_numpy() for column in table.columns]
    return _Boxes(line=line, corners=np.stack(columns[:4], axis=1), number=columns[4])


def _parsed(words: bytes) -> Any:
    """A table of five columns, a row a word; None where a word is anything else."""
    names = ["x0", "y0", "x1", "y1", "class"]
    kinds = {name: pa.int64() if name == "class" else pa.float64() for name in names}
    if not words:
        return pa.table({name: pa.array([], kind) for name, kind in kinds.items()})
    try:
        return pv.read_csv(
            pa.BufferReader(words),
            read_options=pv.ReadOptions(column_names=names),
            parse_options=pv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            convert_options=pv.ConvertOptions(column_types=kinds, null_values=[]),
        )
    except pa.ArrowInvalid:
        return None


def _pictures(
    path: Path, heads: Sequence[bytes], root: Path, options: ReadOptions, report: LabelReport
) -> tuple[NDArray[np.int64], list[str]]:
    """The picture of each line (int64 [n], -1 for an empty line), and the uris of the pictures."""
    rows: dict[str, int] = {}
    media_of_line = np.full(len(heads), -1, dtype=np.int64)
    again = []
    for at, head in enumerate(heads):
        if not head:
            continue
        name = _literal_or_decoded(head.decode(), root, options)
        uri = media_uri(name, root, _place(path, at))
        if uri in rows:
            again.append(_place(path, at))
        media_of_line[at] = rows.setdefault(uri, len(rows))
    report.add("picture on several lines", "their boxes joined", again)
    return media_of_line, list(rows)


def _literal_or_decoded(name: str, root: Path, options: ReadOptions) -> str:
    if options.spaces == "literal" or not ESCAPE.search(name) or is_url(name):
        return name
    if options.spaces == "auto" and len(name) < 4096 and ".." not in name:
        literal = root / name
        if literal.is_relative_to(root) and literal.is_file():
            return name
    return decoded(name)


def _categories(
    path: Path, boxes: _Boxes, on_unknown: str, options: ReadOptions, report: LabelReport
) -> tuple[tuple[Category, ...], NDArray[np.int64]]:
    """The classes, and the class of each box (int64 [m], -1 where it is left out)."""
    listed = class_list(options.classes, [_classes_path(path)], report)
    if listed is None:
        last = int(boxes.number.max(initial=-1))
        used = range(last + 1) if last < _MOST_CLASSES else np.unique(boxes.number).tolist()
        report.notes.append("classes: their numbers, as no classes.txt lies beside the file")
        listed = tuple(Category(name=str(number), origin_id=number) for number in used)
    numbers = np.array([category.origin_id for category in listed], dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    at = np.minimum(np.searchsorted(numbers, boxes.number, sorter=order), max(len(listed) - 1, 0))
    category_row = order[at] if len(order) else np.full(len(boxes.number), -1, dtype=np.int64)
    unknown = category_row < 0
    if len(order):
        unknown = numbers[category_row] != boxes.number

    def place(row: int) -> str:
        return _place(path, int(boxes.line[row]))

    if unknown.any() and on_unknown == "error":
        row = int(np.flatnonzero(unknown)[0])
        raise LabelError(
            f"class {boxes.number[row]} is outside the {len(listed)} classes",
            where=f"{place(row)} ({int(unknown.sum())} such labels)",
            expected=", ".join(category.name for category in listed)[:200],
            fix="add the class to classes.txt, or pass --on-unknown skip",
        )
    report_rows(report, "label of an unknown class", "left out", unknown, place)
    return listed, np.where(unknown, -1, category_row)


def _names(
    dataset: Dataset, media_root: Path | None, options: WriteOptions, report: LabelReport
) -> list[str]:
    uris = dataset.media.uri
    local = iter(relative_names([uri for uri in uris if not is_url(uri)], media_root))
    names = [uri if is_url(uri) else next(local) for uri in uris]
    written = [name if is_url(name) else encoded(name, _SPACE) for name in names]
    changed = [name for name, new in zip(names, written, strict=True) if name != new]
    if changed and options.spaces == "refuse":
        raise _space_error(changed[0])
    spaced = next((name for name in written if _SPACE.search(name)), None)
    if spaced is not None:
        raise _space_error(spaced)
    if changed:
        report.notes.append(
            f"{len(changed)} paths with white space or percent signs were written with percent "
            f"escapes, which other readers do not resolve: {changed[0]!r}"
        )
    return written


def _space_error(name: str) -> DataError:
    return DataError(
        "a path with white space, at which a line would be divided",
        got=repr(name),
        fix="rename the picture, or pass --write-option spaces=percent",
    )


def _lines(dataset: Dataset, names: Sequence[str]) -> Iterator[bytes]:
    """The lines, a block of pictures at a time."""
    labels = dataset.annotations
    corners = labels.boxes_xyxy.astype(np.int64)
    columns = [*corners.T, labels.category_index]
    for start in range(0, len(names), _PICTURES_AT_ONCE):
        offsets = dataset.offsets[start : start + _PICTURES_AT_ONCE + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        numbers = [pc.cast(pa.array(column[rows]), pa.string()) for column in columns]
        boxes = pc.binary_join_element_wise(*numbers, ",")
        of_picture = pa.ListArray.from_arrays(pa.array(offsets - offsets[0], pa.int32()), boxes)
        tails = pc.binary_join(of_picture, " ").to_pylist()
        pairs = zip(names[start : start + _PICTURES_AT_ONCE], tails, strict=True)
        yield "".join(
            [f"{name} {tail}\n" if tail else f"{name}\n" for name, tail in pairs]
        ).encode()
