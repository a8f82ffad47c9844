"""KITTI object labels: a text file a picture, with 2-D box, truncation, occlusion and 3-D box.

A row is ``type truncated occluded alpha left top right bottom height width length x y z
rotation_y`` and, in results, a score. Boxes are in pixels from 0 and are taken as edges; truncated
is a share, occluded 0 (visible), 1 (partly), 2 (largely) or 3 (unknown). (KITTI object development
kit, `readme.txt`; Geiger, Lenz and Urtasun, CVPR 2012.)

``DontCare`` marks a region where nothing counts: it is read as a class of that name whose labels
are crowds, which is how evaluation leaves out what it finds there.

    training/label_2/000012.txt     or any folder of such files; read
    training/image_2/000012.png     their pictures; the rows do not name them
    label_2/, classes.json          written

A type is one word. A class name with spaces is written percent-encoded (``traffic%20light``), and
``classes.json`` keeps the names and their order. An empty file is a picture without objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tilth.data.atomic import atomic_folder
from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.formats._kitti_classes import (
    DONT_CARE,
    Classes,
    read_classes,
    sidecar,
    type_of,
)
from tilth.data.formats._kitti_rows import NUM_COLUMNS, Rows, attributes_of, rows_of, rows_of_grid
from tilth.data.formats._media_names import label_stems, relative_names
from tilth.data.formats._pictures_by_stem import pictures_by_stem, pictures_of
from tilth.data.formats._text_columns import column, column_or_word, lines_of
from tilth.data.formats._text_files import TextBlock, files_below, read_blocks, write_label_files
from tilth.data.formats._text_tokens import finite_numbers
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.errors import EmptyDatasetError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_LABEL_FOLDERS = ("label_2", "training/label_2", "labels")
_PICTURE_FOLDERS = ("image_2", "images")
_LISTS = ("classes.txt", "readme.txt")  # text files that are no labels
_NUMBERS = 14
_BOX = slice(3, 7)
_BESIDE_BOX = [0, 1, 2, 7, 8, 9, 10, 11, 12, 13]
_FILLING = {
    "panlabel": (0, 0, -10, 0, 0, 0, 0, -1, -1, -1, -1000, -1000, -1000, -10),
    "tao": (0,) * _NUMBERS,
    "labelformat": (-1, -1, -10, 0, 0, 0, 0, -1, -1, -1, -1000, -1000, -1000, -10),
}
_PLACES = {
    "truncated": slice(0, 1),
    "occluded": slice(1, 2),
    "alpha": slice(2, 3),
    "dimensions": slice(7, 10),
    "location": slice(10, 13),
    "rotation_y": slice(13, 14),
}

TARGET = "folder"
HOLDS = Holds(boxes=True, scores=True, attributes=frozenset(_PLACES))


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How rows are read.

    Attributes:
        columns: how many a row has; auto decides row by row where a name with spaces or a score
            could be meant.
        classes: the classes in order: a file, or names with commas between them.
        sizes: read the sizes of pictures that are there, from their headers.
    """

    columns: Literal["auto", "15", "16"] = "auto"
    classes: str = ""
    sizes: bool = True


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How rows are written.

    Attributes:
        fill: what stands for a value that is not known, as three tools write it: panlabel's
            ``0 0 -10`` (truncated, occluded, alpha), TAO's zeros in all columns, or labelformat's
            ``-1 -1 -10``, which is the devkit's and which TAO reports as wrong.
    """

    fill: Literal["panlabel", "tao", "labelformat"] = "panlabel"


def recognises(path: Path) -> bool:
    """A folder whose first label file begins with a word and 14 numbers or more."""
    try:
        folder = _label_folder(path)
        texts = (file for file in folder.iterdir() if file.suffix == ".txt" and file.is_file())
        for text, _ in zip(texts, range(20), strict=False):
            with text.open("rb") as stream:
                words = stream.readline(10_000).split()
            if words:
                numbers = finite_numbers(pa.array(words, pa.binary()).cast(pa.string()))
                enough = len(numbers) >= NUM_COLUMNS and np.isfinite(numbers[-_NUMBERS:]).all()
                return bool(enough and np.isnan(numbers[0]))
    except (OSError, ValueError, pa.ArrowInvalid):
        return False
    return False


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read a folder of label files; every one of them is a picture.

    Args:
        media_root: the folder of the pictures, which may have folders below it as the labels do;
            otherwise ``image_2`` or ``images`` beside the labels.
        on_unknown: what to do with a type that the given list of classes does not have.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: an unknown type, or labels of the tracking benchmark.
        EmptyDatasetError: no label files.
    """
    report = report or LabelReport(where=str(path))
    folder = _label_folder(path)
    files = [name for name in files_below(folder, (".txt",), report) if name not in _LISTS]
    if not files:
        raise EmptyDatasetError("no KITTI label files", where=str(folder), expected="*.txt")
    root = media_root or _picture_folder(folder)
    classes = read_classes(folder, path, options.classes, report)
    rows = _read_rows(folder, files, classes, options, on_unknown, report)
    pictures = pictures_by_stem(root, report)
    stems = [name[: -len(".txt")] for name in files]
    uris = pictures_of(stems, root, pictures, report, suffix=".png")
    sizes = picture_sizes(uris, report) if options.sizes and pictures else (None, None)
    media = media_columns(uris, width=sizes[0], height=sizes[1])
    categories, ranks = classes.ordered(report)
    category = ranks[rows.code]
    dont_care = np.array([c.name == DONT_CARE for c in categories], np.bool_)
    annotations = annotation_columns(
        media,
        media_index=rows.file,
        category_index=category,
        boxes_xyxy=rows.boxes_xyxy,
        report=report,
        place=_places_of(files, rows.file, rows.line),
        is_crowd=dont_care[category] if len(dont_care) else None,
        score=rows.score,
        attributes=rows.attributes,
    )
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations), report


@dataclass(frozen=True)
class _Rows:
    file: NDArray[np.int64]
    line: NDArray[np.int64]
    code: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    score: NDArray[np.float64]
    attributes: RaggedBytes


def _read_rows(
    folder: Path,
    files: list[str],
    classes: Classes,
    options: ReadOptions,
    on_unknown: str,
    report: LabelReport,
) -> _Rows:
    blocks: list[_Rows] = []
    ambiguous = scored = 0
    for block in read_blocks(folder, files, report):
        found = _found_rows(block, classes, options, files, report)
        place = _places_of(files, found.file, found.line)
        code = classes.codes(found.names, _first_places(found.name, place), on_unknown)[found.name]
        unknown = code < 0
        report_rows(report, "label of an unknown class", "left out", unknown, place)
        keep = slice(None) if not unknown.any() else ~unknown
        kept = _Rows(
            file=found.file[keep],
            line=found.line[keep],
            code=code[keep],
            boxes_xyxy=found.numbers[keep, _BOX].copy(),
            score=found.score[keep],
            attributes=attributes_of(found.numbers[keep]),
        )
        blocks.append(kept)
        _report_odd(found.numbers[keep], report, _places_of(files, kept.file, kept.line))
        ambiguous += int(found.ambiguous.sum())
        scored += int(np.isfinite(found.score).sum())
    if scored:
        report.notes.append(f"16 columns in {scored} rows: the last is a score")
    if ambiguous:
        report.notes.append(
            f"{ambiguous} rows read as well with a score as with a number at the end of their "
            "class name: taken as scores (say --option columns=15 otherwise)"
        )
    return _Rows(
        **{
            name: np.concatenate([getattr(block, name) for block in blocks])
            for name in ("file", "line", "code", "boxes_xyxy", "score")
        },
        attributes=RaggedBytes.concatenate([block.attributes for block in blocks]),
    )


def _found_rows(
    block: TextBlock, classes: Classes, options: ReadOptions, files: list[str], report: LabelReport
) -> Rows:
    """The rows of some files; lines that are none are reported."""
    grid = block.grid(named=True)
    rows = rows_of_grid(grid, options.columns) if grid is not None else None
    if rows is not None:
        return rows
    tokens = block.tokens()
    rows = rows_of(tokens, options.columns, classes.known(), files)
    kind = f"row that is not {NUM_COLUMNS} KITTI columns, or 16 with a score"
    place = _places_of(files, tokens.file, tokens.line)
    report_rows(report, kind, "left out", rows.malformed, place)
    return rows


def _first_places(name: NDArray[np.int64], place: Callable[[int], str]) -> Callable[[int], str]:
    """Where each name occurs first."""
    return lambda at: place(int(np.argmax(name == at)))


def _places_of(
    files: list[str], file: NDArray[np.int64], line: NDArray[np.int64]
) -> Callable[[int], str]:
    return lambda row: f"{files[file[row]]}:{line[row]}"


def _report_odd(
    numbers: NDArray[np.float64], report: LabelReport, place: Callable[[int], str]
) -> None:
    truncated, occluded = numbers[:, 0], numbers[:, 1]
    odd = (truncated != -1) & ((truncated < 0) | (truncated > 1))
    report_rows(report, "truncated that is no share from 0 to 1", "kept as it is", odd, place)
    odd = ~np.isin(occluded, (-1, 0, 1, 2, 3))
    report_rows(report, "occluded that is not 0, 1, 2 or 3", "kept as it is", odd, place)


def _label_folder(path: Path) -> Path:
    """Where the label files are; a link out of ``path`` is not followed."""
    inside = path.resolve()
    folders = (path / name for name in _LABEL_FOLDERS if (path / name).is_dir())
    return next((folder for folder in folders if folder.resolve().is_relative_to(inside)), path)


def _picture_folder(labels: Path) -> Path:
    beside = [labels.parent / name for name in _PICTURE_FOLDERS]
    return next((folder for folder in beside if folder.is_dir()), beside[0])


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What KITTI holds of a data set, and what that costs."""
    report = LabelReport(where="kitti")
    codes = [at for at, category in enumerate(dataset.categories) if category.name == DONT_CARE]
    regions = np.isin(dataset.annotations.category_index, codes)
    labels = dataset.annotations
    counted = replace(dataset, annotations=replace(labels, is_crowd=labels.is_crowd & ~regions))
    fitted = fit(counted, HOLDS, report)
    labels = fitted.annotations
    regions = np.isin(labels.category_index, codes)
    becomes = regions & ~np.isin(labels.id, dataset.annotations.id[dataset.annotations.is_crowd])
    kind = f"label of the class {DONT_CARE}"
    report_rows(report, kind, "becomes a region to ignore", becomes, _label_places(labels))
    _note_escapes(dataset, report)
    labels = replace(labels, is_crowd=regions, attributes=_readable(labels, options, report))
    return replace(fitted, annotations=labels), report


def _note_escapes(dataset: Dataset, report: LabelReport) -> None:
    escaped = [c.name for c in dataset.categories if type_of(c.name) != c.name]
    if escaped:
        shown = ", ".join(f"'{name}' as {type_of(name)}" for name in escaped[:3])
        report.notes.append(f"class names are one word: {shown}; classes.json has them as they are")


def _label_places(labels: AnnotationColumns) -> Callable[[int], str]:
    return lambda row: f"label {labels.id[row]}"


def _readable(
    labels: AnnotationColumns, options: WriteOptions, report: LabelReport
) -> Sequence[bytes | None]:
    """The attributes as they will be read from the numbers that stand for them."""
    if not RaggedBytes.of(labels.attributes).lengths.any():
        return labels.attributes
    numbers, strange = _numbers(labels, slice(0, len(labels)), options)
    for name, rows in strange.items():
        places = [f"label {labels.id[row]}" for row in rows]
        report.add(f"attribute '{name}' that KITTI has no number for", "lost", places)
    texts = attributes_of(numbers)
    _report_unsaid(labels, texts, strange, report)
    return texts


def _report_unsaid(
    labels: AnnotationColumns,
    texts: Sequence[bytes | None],
    strange: dict[str, list[int]],
    report: LabelReport,
) -> None:
    """What reads as not said: zeros beside no 3-D box, and the numbers that mean "not known"."""
    zeros = 0
    for row, (before, after) in enumerate(zip(labels.attributes, texts, strict=True)):
        if before == after:
            continue
        fields, left = msgspec.json.decode(before or b"{}"), msgspec.json.decode(after or b"{}")
        gone = [name for name in fields if name not in left and row not in strange.get(name, ())]
        zeros += any(not fields[name] for name in gone)
        lost = [f"label {labels.id[row]}: {name}" for name in gone if fields[name]]
        report.add("attribute with the number that stands for 'not known'", "lost", lost)
    if zeros:
        report.notes.append(
            f"0 or false in {zeros} labels without a size in metres: reads as not said, because "
            "rows without 3-D boxes are filled with 0"
        )


def _numbers(
    labels: AnnotationColumns, rows: slice, options: WriteOptions
) -> tuple[NDArray[np.float64], dict[str, list[int]]]:
    """float64 [m, 14] of the rows, and by attribute the rows where it is no such number."""
    count = rows.stop - rows.start
    numbers = np.tile(np.array(_FILLING[options.fill], np.float64), (count, 1))
    numbers[:, 3:7] = labels.boxes_xyxy[rows]
    strange: dict[str, list[int]] = {}
    packed = RaggedBytes.of(labels.attributes)
    for row in np.flatnonzero(packed.lengths[rows]).tolist():
        fields = msgspec.json.decode(packed[rows.start + row] or b"{}")
        values = {name: _value(name, fields[name]) for name in fields if name in _PLACES}
        if values.get("dimensions"):  # a row with 3-D values: what it lacks is said to be not known
            numbers[row, :3], numbers[row, 7:] = (
                _FILLING["labelformat"][:3],
                _FILLING["labelformat"][7:],
            )
        for name, value in values.items():
            if value is None:
                strange.setdefault(name, []).append(rows.start + row)
            else:
                numbers[row, _PLACES[name]] = value
    return numbers, strange


def _value(name: str, value: Any) -> list[float] | None:
    """The numbers that stand for an attribute; None where it has none."""
    items = value if isinstance(value, list) else [value]
    size = _PLACES[name].stop - _PLACES[name].start
    if len(items) != size or not all(isinstance(item, (bool, int, float)) for item in items):
        return None
    numbers = [float(item) for item in items]
    fits = {
        "truncated": all(0 <= number <= 1 for number in numbers),
        "occluded": all(number in (0, 1, 2, 3) for number in numbers),
        "dimensions": all(number > 0 for number in numbers),
    }
    return numbers if fits.get(name, True) else None


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
    replace: bool = False,
) -> LabelReport:
    """Write ``label_2`` and ``classes.json`` in one step: the folder is there whole or not at all.

    Args:
        media_root: label files are named as the pictures below it.
        replace: a folder that is there is replaced whole.

    Raises:
        DataError: two pictures that would share a label file.
        StorageError: the write failed; what was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    stems = label_stems(relative_names(dataset.media.uri, media_root))
    labels = dataset.annotations
    types = pa.array([type_of(c.name) for c in dataset.categories], pa.large_string())

    def lines(rows: slice) -> pa.LargeStringArray:
        numbers, _ = _numbers(labels, rows, options)
        scores = labels.score[rows]
        has_score = ~np.isnan(scores)
        columns = [
            types.take(pa.array(labels.category_index[rows])),
            *(column_or_word(numbers[:, at]) for at in range(_NUMBERS)),
        ]
        if has_score.any():
            columns.append(pa.compute.if_else(pa.array(has_score), column(scores), None))
        return lines_of(columns)

    with atomic_folder(path, replace=replace) as folder:
        (folder / "classes.json").write_bytes(sidecar(dataset.categories))
        write_label_files(folder / "label_2", [f"{stem}.txt" for stem in stems], dataset, lines)
    return report
