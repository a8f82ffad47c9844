"""Darknet YOLO: a text file a picture with ``class cx cy w h``, obj.data, obj.names and lists.

Centre and size are divided by the picture's width and height, classes are counted from 0 by their
line in ``obj.names``. (AlexeyAB/darknet: README, "How to train"; `src/data.c`, `src/utils.c`.)

    obj.data     classes, and where the other files are: train, valid, (test,) names
    train.txt    paths of pictures, one a line
    obj/a.txt    the labels of obj/a.jpg; of JPEGImages/a.jpg they are in labels/a.txt

Of what Darknet does with labels, this reader follows where they are looked for; a picture without
a label file has no objects. What Darknet skips (a centre outside (0, 1], rows after a malformed
one) or cuts (sizes above 1) is reported, and kept where it can be. Darknet hands the paths of
labels that it dislikes to a shell: train on names that you trust.

Numbers are written as the shortest text that reads back as the same number, some 16 digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tilth.data.atomic import atomic_folder
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.formats._class_list import class_list, classes_text, read_class_list
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._media_names import label_stems, relative_names
from tilth.data.formats._picture_lists import find_labels, picture_uris, read_lines
from tilth.data.formats._placed_pictures import place_pictures
from tilth.data.formats._text_columns import column, lines_of
from tilth.data.formats._text_files import write_label_files
from tilth.data.formats._yolo_rows import (
    YoloRows,
    boxes_of,
    known_classes,
    of_sized_pictures,
    read_rows,
    report_skipped,
    shares_of,
    sized,
    sizes_of,
)
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Category, Split
from tilth.errors import DataError, EmptyDatasetError, LabelError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_LISTS = {
    "train": Split.TRAIN,
    "valid": Split.VAL,
    "test": Split.TEST,
}
# `replace_image_to_label` of AlexeyAB's darknet: the first match of each, in this order.
_REPLACED = (
    ("/images/train2017/", "/labels/train2017/"),
    ("/images/val2017/", "/labels/val2017/"),
    ("/JPEGImages/", "/labels/"),
    ("/images/train2014/", "/labels/train2014/"),
    ("/images/val2014/", "/labels/val2014/"),
)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tiff")  # of which Darknet finds the labels
_FOR_A_SHELL = re.compile(r"""[;&|`$<>()"'\\!*?#~]""")
_PICTURES = "obj"
_HEAD_BYTES = 65_536

TARGET = "folder"
HOLDS = Holds(boxes=True, splits=True)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How labels become pixels.

    Attributes:
        origin: "voc_label" for labels that Darknet's `scripts/voc_label.py` made, whose boxes are
            a pixel short on the right and at the bottom; nothing in them tells.
        classes: the classes in order, in place of ``names``: a file, or names with commas between.
        width, height: of all pictures, which then need not be there; 0 reads their headers.
    """

    origin: Literal["edges", "voc_label"] = "edges"
    classes: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """What lies beside the labels.

    Attributes:
        pictures: whether pictures are linked or copied into the folder, where Darknet looks.
    """

    pictures: Literal["none", "link", "copy"] = "none"


def recognises(path: Path) -> bool:
    """An ``obj.data`` that names a list of pictures and one of classes, or a folder with one."""
    try:
        settings = _settings(_data_file(path))
    except (LabelError, OSError, ValueError):
        return False
    return "names" in settings and any(name in settings for name in _LISTS)


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read the pictures of the lists and their labels; sizes come from the pictures' headers.

    Args:
        path: ``obj.data``, or the folder that has it.
        media_root: the folder of the pictures; otherwise that of ``obj.data``. Folders at the
            front of the listed paths are taken off until the pictures are found.
        on_unknown: what to do with labels of a class that has no name.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: no such files, or an unknown class.
        PathEscapeError: a listed path that leaves the folder of the pictures.
        EmptyDatasetError: no picture is listed.
    """
    report = report or LabelReport(where=str(path))
    file = _data_file(path)
    settings = _settings(file)
    homes = [file.parent] if media_root is None else [file.parent, media_root]
    roots = homes[::-1]  # pictures are sought in their own folder first, labels beside the lists
    categories = _categories(settings, file, roots, options, report)
    lines, uris, split = _listed(settings, file, roots, report)
    if not lines:
        raise EmptyDatasetError("no picture is listed", where=str(file))
    labels = find_labels(lines, homes, _RULES, report)
    size = sizes_of(uris, options.width, options.height, report)
    media = media_columns(uris, width=size[0], height=size[1], split=split)
    rows = read_rows(labels.root, labels.names, report)
    numbers = [category.origin_id for category in categories]
    names = settings.get("names", "the classes")
    rows = known_classes(rows, numbers, names, on_unknown, report)
    annotations = _annotations(of_sized_pictures(rows, media, report), media, options, report)
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations), report


def _annotations(
    rows: YoloRows, media: MediaColumns, options: ReadOptions, report: LabelReport
) -> AnnotationColumns:
    many = rows.counts != 4
    kind = "row with more than five numbers"
    report_rows(report, kind, "left out; yolo_ultralytics has such rows", many, rows.place)
    rows = rows.keep(~many)
    shares = rows.numbers.reshape(-1, 4)
    report_skipped(shares, report, rows.place, "kept as it is")
    boxes = boxes_of(shares, media.width[rows.file], media.height[rows.file])
    if options.origin == "voc_label":
        boxes[:, 2:] += 1  # it took (xmin + xmax) / 2 - 1 and xmax - xmin of pixels from 1 to xmax
        report.notes.append("origin: voc_label.py; boxes end a pixel further right and below")
    return annotation_columns(
        media,
        media_index=rows.file,
        category_index=rows.category,
        boxes_xyxy=boxes,
        report=report,
        place=rows.place,
    )


def _data_file(path: Path) -> Path:
    if path.is_dir():
        found = sorted(entry for entry in path.glob("*.data") if entry.is_file())
        if len(found) != 1:
            raise LabelError(
                "which file describes the set is not clear" if found else "no file obj.data",
                where=str(path),
                got=", ".join(entry.name for entry in found) or None,
                fix="name the .data file itself",
            )
        return found[0]
    if path.suffix != ".data" or not path.is_file():
        raise LabelError("no such file", where=str(path), expected="obj.data, or its folder")
    return path


def _settings(file: Path) -> dict[str, str]:
    """``name = value`` lines, as `read_data_cfg` takes them."""
    with file.open("rb") as stream:
        text = stream.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#;")
    return {name.strip(): value.strip() for name, mark, value in pairs if mark and value.strip()}


def _beside(name: str, file: Path, roots: list[Path]) -> Path:
    """A file that ``obj.data`` names: from below the first of ``roots`` that has it.

    Raises:
        LabelError: no such file inside them.
    """
    parts = name.replace("\\", "/").split("/")
    for root in [file.parent, *roots]:
        inside = root.resolve()
        for skip in range(len(parts)):
            found = _resolved(inside, "/".join(parts[skip:]))
            if found is not None and found.is_relative_to(inside):
                return found
    raise LabelError(
        "a file that the set needs is not there",
        where=str(file),
        expected=f"{name}, below {', '.join(str(root) for root in roots)}",
        fix="put it beside the .data file, or name its folder with --images",
    )


def _resolved(root: Path, name: str) -> Path | None:
    try:
        found = (root / name).resolve()
        return found if found.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _categories(
    settings: dict[str, str],
    file: Path,
    roots: list[Path],
    options: ReadOptions,
    report: LabelReport,
) -> tuple[Category, ...]:
    given = class_list(options.classes, [], report) if options.classes else None
    if given is not None:
        return given
    if "names" not in settings:
        raise LabelError("no list of classes is named", where=str(file), expected="names = ...")
    found = read_class_list(_beside(settings["names"], file, roots))
    said = settings.get("classes", "")
    if said.isascii() and said.isdigit() and said.lstrip("0") != str(len(found)).lstrip("0"):
        report.add(
            "number of classes that is not that of the names",
            f"the {len(found)} names are taken",
            [f"{file.name}: classes = {said[:20]}"],
        )
    return found


def _listed(
    settings: dict[str, str], file: Path, roots: list[Path], report: LabelReport
) -> tuple[list[str], list[str], NDArray[np.int8]]:
    """Lines, uris and splits of all pictures; one that is listed twice counts once."""
    found: dict[str, tuple[str, Split]] = {}
    twice: list[str] = []
    read_already: set[Path] = set()
    for key, split in _LISTS.items():
        if key not in settings:
            continue
        path = _beside(settings[key], file, roots)
        if path in read_already:
            report.notes.append(f"{key} = {settings[key]}: the same list again, not counted twice")
            continue
        read_already.add(path)
        lines = read_lines(path)
        uris = picture_uris(lines, roots, path.name, report) if lines else []
        if not found and len(set(uris)) == len(uris):
            found = dict(zip(uris, zip(lines, repeat(split)), strict=True))
            continue
        for line, uri in zip(lines, uris, strict=True):
            if uri in found:
                twice.append(f"{path.name}: {line}")
            else:
                found[uri] = (line, split)
    report.add("picture that is listed twice", "the first counts", twice)
    split_codes = np.array([split for _, split in found.values()], np.int8)
    return [line for line, _ in found.values()], list(found), split_codes


def _darknet_rule(path: str) -> str:
    """Where AlexeyAB's darknet looks for labels: beside the picture but for some known folders."""
    for before, after in _REPLACED if "mages/" in path else ():
        path = path.replace(before, after, 1)
    return path


def _images_rule(path: str) -> str:
    """Where the first darknet and its followers look: in ``labels`` in place of ``images``."""
    for before in ("images", "JPEGImages"):
        parts = path.split("/")
        if before in parts[:-1]:
            parts[parts.index(before)] = "labels"
            return "/".join(parts)
    return path


_RULES = {
    "beside the pictures, or labels/ for JPEGImages/": _darknet_rule,
    "labels/ in place of images/": _images_rule,
}


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What Darknet's files hold of a data set, and what that costs."""
    report = LabelReport(where="yolo_darknet")
    dataset = sized(fit(dataset, HOLDS, report), report)
    media, labels = dataset.media, dataset.annotations
    rows = labels.media_index
    shares = shares_of(labels.boxes_xyxy, media.width[rows], media.height[rows])
    report_skipped(shares, report, lambda row: f"label {labels.id[row]}", "written as it is")
    none = media.split == Split.NONE
    if none.any():
        report.notes.append(f"{int(none.sum())} pictures of no split are listed in train.txt")
        split = np.where(none, np.int8(Split.TRAIN), media.split)
        dataset = replace(dataset, media=replace(media, split=split))
    _note_names(media.uri, report)
    report.num_annotations = len(labels)
    return dataset, report


def _note_names(uris: Sequence[str], report: LabelReport) -> None:
    names = [uri.rpartition("/")[2] for uri in uris]
    unsafe = [name for name in names if _FOR_A_SHELL.search(name)]
    if unsafe:
        report.notes.append(
            f"{len(unsafe)} names hold characters that a shell acts on (as {unsafe[0]!r}): Darknet "
            "hands the names of labels that it dislikes to a shell"
        )
    lower = ((name, name.lower()) for name in names)
    others = [name for name, low in lower if not low.endswith(_SUFFIXES) or low in _SUFFIXES]
    if others:
        report.notes.append(
            f"{len(others)} pictures (as {others[0]!r}) have a suffix for which Darknet finds no "
            f"labels; it knows {', '.join(_SUFFIXES)}"
        )


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
    replace: bool = False,
) -> LabelReport:
    """Write obj.data, obj.names, the lists and ``obj/*.txt`` in one step.

    Args:
        media_root: label files are named as the pictures below it.
        replace: a folder that is there is replaced whole.

    Raises:
        DataError: two pictures that would share a label file, or a name that a list cannot hold.
        StorageError: the write failed; what was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    names = [f"{_PICTURES}/{name}" for name in relative_names(dataset.media.uri, media_root)]
    stems = label_stems([_darknet_rule(name) for name in names])
    for name in names:
        if name != name.strip() or any(mark in name for mark in "\r\n\\"):
            raise DataError("a picture name that a list cannot hold", got=repr(name))
    labels, media = dataset.annotations, dataset.media

    def lines(rows: slice) -> pa.LargeStringArray:
        at = labels.media_index[rows]
        shares = shares_of(labels.boxes_xyxy[rows], media.width[at], media.height[at])
        return lines_of(
            [column(labels.category_index[rows]), *(column(shares[:, i]) for i in range(4))]
        )

    with atomic_folder(path, replace=replace) as folder:
        write_label_files(folder, [f"{stem}.txt" for stem in stems], dataset, lines)
        (folder / "obj.names").write_bytes(classes_text(dataset.categories))
        (folder / "obj.data").write_text(_write_lists(folder, names, dataset), encoding="utf-8")
        place_pictures(media.uri, folder, names, options.pictures, report)
    return report


def _write_lists(folder: Path, names: list[str], dataset: Dataset) -> str:
    """The lists, and the text of ``obj.data``."""
    settings = {"classes": str(len(dataset.categories))}
    for key, split in _LISTS.items():
        rows = np.flatnonzero(dataset.media.split == split).tolist()
        if rows or key == "train":
            text = "".join(f"{names[row]}\n" for row in rows)
            (folder / f"{key}.txt").write_text(text, encoding="utf-8", newline="\n")
            settings[key] = f"{key}.txt"
    settings |= {"names": "obj.names", "backup": "backup/"}
    return "".join(f"{name} = {value}\n" for name, value in settings.items())
