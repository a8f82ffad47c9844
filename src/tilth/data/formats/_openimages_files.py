"""The files beside an Open Images table: which pictures there are, and what classes are called."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._class_list import class_list
from tilth.data.formats._csv_lines import numbers, texts, write_rows
from tilth.data.formats._csv_table import first_records, parse_csv, read_text
from tilth.data.formats._media_names import media_uri
from tilth.data.images import PICTURE_SUFFIXES
from tilth.data.problems import LabelReport
from tilth.data.records import Category, Split
from tilth.errors import DataError, LabelError

__all__ = [
    "Descriptions",
    "PictureList",
    "beside",
    "picture_uris",
    "read_pictures",
    "write_descriptions",
]

_SUBSETS = {"train": Split.TRAIN, "validation": Split.VAL, "val": Split.VAL, "test": Split.TEST}
_SUFFIXES = PICTURE_SUFFIXES | {".gif"}
_BOXABLE = ("oidv7-class-descriptions-boxable.csv", "class-descriptions-boxable.csv")
_LARGEST_SIDE = 2**31 - 1


def beside(path: Path, what: str) -> Path:
    """The file with ``what`` beside ``name.csv``: ``name-<what>.csv``."""
    return path.with_name(f"{path.stem}-{what}.csv")


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureList:
    """Pictures by id; sizes are 0 and file names empty where the list does not say them."""

    ids: Sequence[str] = ()
    split: NDArray[np.int8]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    files: Sequence[str] = ()

    @classmethod
    def empty(cls) -> PictureList:
        none = np.zeros(0, dtype=np.int32)
        return cls(split=none.astype(np.int8), width=none, height=none)

    def write(self, stream: BinaryIO) -> None:
        stream.write(b"ImageID,Subset,Width,Height,File\n")
        rows = np.arange(len(self.ids))
        subsets = ["train", "validation", "test"]
        columns = [
            texts(self.ids, rows, delimiter=","),
            texts(subsets, self.split.astype(np.int64), delimiter=","),
            numbers(self.width, self.width > 0),
            numbers(self.height, self.height > 0),
            texts(self.files, rows, delimiter=","),
        ]
        write_rows(stream, columns, len(rows), ",")


def read_pictures(path: Path, report: LabelReport) -> PictureList:
    """A list with the columns ImageID, and Subset, Width, Height, File where it has them.

    Raises:
        LabelError: not CSV, or no column ImageID.
    """
    data = read_text(path)
    records = first_records(data, ",", 1)
    header = records[0] if records else []
    if "ImageID" not in header:
        got = ",".join(header)[:80]
        raise LabelError("not a list of pictures", where=f"{path}:1", expected="ImageID", got=got)
    at = {name: header.index(name) for name in header}
    sides = [name for name in ("Width", "Height") if name in at]
    words = [name for name in ("ImageID", "Subset", "File") if name in at]
    table = parse_csv(
        path,
        data,
        delimiter=",",
        has_header=True,
        width=len(header),
        texts=[at[name] for name in words],
        numbers=[at[name] for name in sides],
        report=report,
    )
    cells = {name: _values(*table.text(at[name])) for name in words}
    ids = cells["ImageID"]
    first = {name: row for row, name in reversed(list(enumerate(ids))) if name}
    rows = np.array(sorted(first.values()), dtype=np.int64)
    zeros = np.zeros(len(ids), dtype=np.int32)
    size = {name: _sides(table.number(at[name])[0]) for name in sides}
    subsets = [_SUBSETS.get(word, Split.NONE) for word in cells.get("Subset", [""] * len(ids))]
    files = cells.get("File", [""] * len(ids))
    report.notes.append(f"pictures: {len(rows)} in {path.name}")
    return PictureList(
        ids=[ids[row] for row in rows.tolist()],
        split=np.array(subsets, dtype=np.int8)[rows],
        width=size.get("Width", zeros)[rows],
        height=size.get("Height", zeros)[rows],
        files=[files[row] for row in rows.tolist()],
    )


def _values(codes: NDArray[np.int64], values: list[str]) -> list[str]:
    return [values[code] for code in codes.tolist()]


def _sides(values: NDArray[np.float64]) -> NDArray[np.int32]:
    with np.errstate(invalid="ignore"):
        whole = (values > 0) & (values <= _LARGEST_SIDE) & (values % 1 == 0)
    return np.where(whole, values, 0).astype(np.int32)


def picture_uris(ids: Sequence[str], files: Sequence[str], root: Path, where: str) -> list[str]:
    """The uri of each picture: the file that a list names, one that is there, else ``<id>.jpg``.

    Raises:
        PathEscapeError: an id that leaves ``root``.
    """
    uris = [
        media_uri(file or f"{key}.jpg", root, where) for key, file in zip(ids, files, strict=True)
    ]
    unseen = [row for row, file in enumerate(files) if not file and not os.path.isfile(uris[row])]
    there = _picture_files(root) if unseen else {}
    for row in unseen:
        found = there.get(ids[row])
        if found is not None:
            uris[row] = media_uri(found, root, where)
    return uris


def _picture_files(root: Path) -> dict[str, str]:
    """Names of the pictures below ``root``, by their path without suffix and by their stem."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in _SUFFIXES:
                name = PurePosixPath(folder, file).relative_to(root.as_posix())
                found.setdefault(name.with_suffix("").as_posix(), name.as_posix())
                found.setdefault(stem, name.as_posix())
    return found


@dataclass(frozen=True, kw_only=True)
class Descriptions:
    """Ids of labels (``/m/01g317``) and their words, in order; no list where nobody has one."""

    words: dict[str, str] = field(default_factory=dict)
    categories: tuple[Category, ...] | None = None

    @classmethod
    def found(cls, given: str, path: Path, report: LabelReport) -> Descriptions:
        """By the option ``classes``, else from beside the labels' file.

        Raises:
            LabelError: a list that cannot be read.
        """
        near = [beside(path, "class-descriptions"), *(path.with_name(name) for name in _BOXABLE)]
        candidates: Iterable[Path] = [Path(given)] if given and "," not in given else near
        for candidate in candidates:
            if not candidate.is_file():
                continue
            if given and candidate.suffix.lower() != ".csv":
                break  # a plain list of names
            report.notes.append(f"classes: from {candidate.name}")
            return cls.read(candidate)
        listed = class_list(given, [], report)
        return cls(categories=listed)

    @classmethod
    def read(cls, path: Path) -> Descriptions:
        """Rows of ``LabelName,DisplayName``; a word of two ids is told apart by the ids."""
        reader = csv.reader(io.StringIO(read_text(path).decode(), newline=""))
        found: dict[str, str] = {}
        try:
            for row in filter(None, reader):
                if row == ["LabelName", "DisplayName"]:
                    continue
                if len(row) != 2 or not row[0] or row[0] in found:
                    raise LabelError(
                        "a description of a class that cannot be used",
                        where=f"{path}:{reader.line_num}",
                        expected="LabelName,DisplayName, each id once",
                        got=",".join(row)[:80],
                    )
                found[row[0]] = row[1] or row[0]
        except csv.Error as error:
            raise LabelError("the list of classes is not CSV", where=str(path)) from error
        words = list(found.values())
        twice = {word for word in words if words.count(word) > 1} if _repeat(words) else set()
        found = {key: f"{word} ({key})" if word in twice else word for key, word in found.items()}
        categories = tuple(
            Category(name=word, origin_id=at) for at, word in enumerate(found.values())
        )
        return cls(words=found, categories=categories)

    def ids(self, categories: Sequence[Category]) -> list[str]:
        """What ``LabelName`` says for each class: its id where one is known, else its name.

        Raises:
            DataError: two classes of one id.
        """
        by_word = {word: key for key, word in self.words.items()}
        found = [by_word.get(category.name, category.name) for category in categories]
        twice = (
            next((key for key in found if found.count(key) > 1), None) if _repeat(found) else None
        )
        if twice is not None:
            raise DataError("two classes would have one id", got=twice, fix="rename one of them")
        return found


def write_descriptions(stream: BinaryIO, ids: Sequence[str], words: Sequence[str]) -> None:
    """Rows of ``LabelName,DisplayName``."""
    stream.write(b"LabelName,DisplayName\n")
    rows = np.arange(len(ids))
    write_rows(stream, [texts(each, rows, delimiter=",") for each in (ids, words)], len(ids), ",")


def _repeat(words: Sequence[str]) -> bool:
    return len(set(words)) < len(words)
