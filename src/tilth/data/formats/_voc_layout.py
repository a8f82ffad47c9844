"""Where the files of a Pascal VOC set lie, and what its lists say: splits, and the origin.

    VOC2012/Annotations/*.xml  JPEGImages/*.jpg  ImageSets/Main/{train,val,test}.txt
            SegmentationObject/*.png  SegmentationClass/*.png  labelmap.txt

Several such folders may lie below one (``VOCdevkit``); folders may be nested in ``Annotations``, as
the pictures are; XML files may lie beside their pictures, without any of this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._text_files import files_below
from tilth.data.problems import LabelReport
from tilth.data.records import Split
from tilth.errors import LabelError

__all__ = ["VocFile", "find_files", "origin_line", "read_splits", "split_lists", "stated_origin"]

_PICTURE_FOLDERS = ("JPEGImages", "images", "Images")
_ORIGIN = re.compile(r"^#\s*origin:\s*(zero|voc1)\b", re.MULTILINE)
_FLAGGED = re.compile(r"^(.*\S)\s+(?:-1|0|1)$")  # "2008_000008  1" in the lists of one class
_SPLITS = {"train": Split.TRAIN, "val": Split.VAL, "test": Split.TEST}


class VocFile(NamedTuple):
    """One XML file.

    Attributes:
        path: as it is opened.
        name: from the folder that is read, as reports call it.
        stem: from its ``Annotations``, without suffix: what the lists of splits call it.
        home: the folder with ``Annotations``, ``JPEGImages`` and the rest.
        pictures: the folder that its picture lies in.
    """

    path: str
    name: str
    stem: str
    home: str
    pictures: str


def find_files(path: Path, media_root: Path | None, report: LabelReport) -> list[VocFile]:
    """The XML files at or below ``path``, in order.

    Raises:
        LabelError: nothing is there.
    """
    if path.is_file():
        folder, names = path.resolve().parent, [path.name]
    else:
        folder, names = path.resolve(), files_below(path, (".xml",), report)
    if not names:
        raise LabelError("no XML files here", where=str(path), expected="Pascal VOC annotations")
    places: dict[str, tuple[str, str, str]] = {}
    prefix, files = f"{folder}/", []
    for name in names:
        parent, _, file = name.rpartition("/")
        if parent not in places:
            home_path, picture_path, skip = _place(folder, parent, media_root)
            below = "".join(f"{part}/" for part in parent.split("/")[skip:] if part)
            places[parent] = str(home_path), str(picture_path), below
        home, pictures, below = places[parent]
        files.append(VocFile(f"{prefix}{name}", name, below + file[:-4], home, pictures))
    return files


def _place(folder: Path, parent: str, media_root: Path | None) -> tuple[Path, Path, int]:
    """Home, folder of pictures, and how many folders below ``folder`` belong to neither."""
    parts = parent.split("/") if parent else []
    rows = [row for row, part in enumerate(parts) if part.lower() == "annotations"]
    if rows:
        above = parts[: rows[-1]]
        home, skip = folder.joinpath(*above), rows[-1] + 1
    elif folder.name.lower() == "annotations":
        above, home, skip = [], folder.parent, 0
    else:
        pictures = folder if media_root is None else media_root.resolve()
        return folder, pictures, 0
    if media_root is None:
        beside = [home / name for name in _PICTURE_FOLDERS]
        return home, next((place for place in beside if place.is_dir()), beside[0]), skip
    root = media_root.resolve().joinpath(*above)
    inside = root / _PICTURE_FOLDERS[0]
    if inside.is_dir() and not (home / "Annotations" / inside.name).is_dir():
        root = inside
    return home, root, skip


def read_splits(files: Sequence[VocFile], report: LabelReport) -> NDArray[np.int8]:
    """int8 [n]: the split of each file, by ``ImageSets/Main`` of its home."""
    split = np.full(len(files), Split.NONE, dtype=np.int8)
    rows: dict[tuple[str, str], int] = {}
    for home in dict.fromkeys(file.home for file in files):
        for name, path in _split_lists(Path(home, "ImageSets", "Main"), report):
            rows = rows or {(file.home, file.stem): row for row, file in enumerate(files)}
            for line, entry in enumerate(_lines(path), start=1):
                _assign(split, rows, (home, entry), _SPLITS[name], f"{path.name}:{line}", report)
    return split


def _split_lists(lists: Path, report: LabelReport) -> Iterable[tuple[str, Path]]:
    found = [(name, lists / f"{name}.txt") for name in _SPLITS]
    found = [(name, path) for name, path in found if path.is_file()]
    both = lists / "trainval.txt"
    if both.is_file() and not {"train", "val"} & {name for name, _ in found}:
        report.notes.append("ImageSets/Main has trainval.txt, but no train.txt: read as train")
        found.append(("train", both))
    return found


def _assign(
    split: NDArray[np.int8],
    rows: dict[tuple[str, str], int],
    key: tuple[str, str],
    code: Split,
    place: str,
    report: LabelReport,
) -> None:
    home, entry = key
    row = rows.get(key)
    if row is None and (match := _FLAGGED.match(entry)):
        row = rows.get((home, match[1].strip()))
    if row is None:
        kind = "picture of a split without an XML file"
        report.add(kind, "left out", [f"{place}: {entry[:80]}"])
    elif split[row] not in (Split.NONE, code):
        kind = "picture in two splits"
        report.add(kind, "kept in the first", [f"{place}: {entry[:80]}"])
    else:
        split[row] = code


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise LabelError("the list cannot be read", where=str(path), got=str(error)) from error
    return [line for line in re.split(r"\r?\n", text) if line.strip()]


def stated_origin(labelmap: Path) -> str | None:
    """The origin that a ``labelmap.txt`` of ours states.

    Raises:
        LabelError: not text.
    """
    found = _ORIGIN.search("\n".join(_lines(labelmap))) if labelmap.is_file() else None
    return found[1] if found else None


def origin_line(origin: str) -> str:
    """The comment in ``labelmap.txt`` that `stated_origin` finds."""
    meaning = {"zero": "pixel edges, from 0", "voc1": "pixels, from 1, both ends inside"}[origin]
    return f"# origin: {origin} ({meaning})\n"


def split_lists(stems: Sequence[str], split: NDArray[np.int8]) -> dict[PurePosixPath, str]:
    """The lists of ``ImageSets/Main``, by path; none where nothing is divided."""
    lists = {}
    for name, code in _SPLITS.items():
        rows = np.flatnonzero(split == code).tolist()
        if rows:
            path = PurePosixPath("ImageSets", "Main", f"{name}.txt")
            lists[path] = "".join(f"{stems[row]}\n" for row in rows)
    return lists
