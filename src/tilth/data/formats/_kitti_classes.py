"""The classes of KITTI files: types of one word, and a list beside the labels that has their names.

classes.json    {"classes": [{"type": "traffic%20light", "name": "traffic light"}, ...]}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._class_list import class_list
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import DataError, LabelError

__all__ = ["DONT_CARE", "SIDECAR", "Classes", "read_classes", "sidecar", "type_of"]

DONT_CARE = "DontCare"
SIDECAR = "classes.json"


class _Class(msgspec.Struct):
    type: str
    name: str


class _Sidecar(msgspec.Struct):
    classes: list[_Class]


def type_of(name: str) -> str:
    """A class name as one word: spaces, control characters and ``%`` are percent-encoded.

    >>> type_of("traffic light"), type_of("größe")
    ('traffic%20light', 'größe')
    """
    return "".join(
        quote(letter, safe="")
        if letter.isspace() or letter == "%" or not letter.isprintable()
        else letter
        for letter in name
    )


def sidecar(categories: Sequence[Category]) -> bytes:
    """The text of ``classes.json``.

    Raises:
        DataError: a class without a name, which has no place in a row.
    """
    if not all(category.name for category in categories):
        raise DataError("a class without a name", fix="name it, to write KITTI files")
    listed = [_Class(type=type_of(c.name), name=c.name) for c in categories]
    return msgspec.json.format(msgspec.json.encode(_Sidecar(classes=listed)), indent=1) + b"\n"


@dataclass
class Classes:
    """The types met so far, and the names that they stand for.

    Attributes:
        names: the classes in order, where a list was found; then no others are known.
        code_of: type, as bytes -> its number.
    """

    names: list[str] | None
    code_of: dict[bytes, int]

    def known(self) -> frozenset[bytes]:
        """The types of the list; empty where there is none."""
        return frozenset(self.code_of) if self.names is not None else frozenset()

    def codes(
        self, types: list[bytes], place: Callable[[int], str], on_unknown: str
    ) -> NDArray[np.int64]:
        """int64 [k]: the number of each type, -1 where the list does not have it.

        Args:
            types: those that occur, each once.
            place: where type i occurs first.

        Raises:
            LabelError: an unknown type, unless it is to be skipped; or a type that is no text.
        """
        for at, new in enumerate(types):
            if new in self.code_of:
                continue
            if self.names is None or new == DONT_CARE.encode():
                self._add(new, place(at))
            elif on_unknown == "error":
                raise LabelError(
                    f"the class '{new.decode(errors='replace')[:80]}' is not in the list",
                    where=place(at),
                    expected=", ".join(self.names)[:200],
                    fix="add it to the list, or pass --on-unknown skip",
                )
        code_of = self.code_of
        return np.fromiter((code_of.get(name, -1) for name in types), np.int64, len(types))

    def _add(self, new: bytes, where: str) -> None:
        try:
            name = new.decode()
        except UnicodeDecodeError as error:
            raise LabelError("a class name that is not UTF-8", where=where) from error
        if self.names is None:
            self.code_of[new] = len(self.code_of)
        else:
            self.code_of[new] = len(self.names)
            self.names.append(name)

    def ordered(self, report: LabelReport) -> tuple[tuple[Category, ...], NDArray[np.int64]]:
        """The categories, and the row among them of each number: in the list's order or by name."""
        if self.names is not None:
            names = self.names
            ranks = np.arange(len(names))
        else:
            report.notes.append("classes: the types that occur, sorted by name")
            met = [key.decode() for key in self.code_of]
            names = sorted(met, key=lambda name: (name == DONT_CARE, name))
            ranks = np.array([names.index(name) for name in met], np.int64)
        found = tuple(Category(name=name, origin_id=at) for at, name in enumerate(names))
        return found, ranks.astype(np.int64)


def read_classes(labels: Path, path: Path, given: str, report: LabelReport) -> Classes:
    """From the option, else from the list beside the labels, else none.

    Raises:
        LabelError: a list that cannot be read.
    """
    lists = [path / SIDECAR, labels / SIDECAR, labels.parent / SIDECAR]
    found = next((one for one in lists if one.is_file()), None)
    if found is not None and not given:
        report.notes.append(f"classes: from {SIDECAR}")
        return _from_sidecar(found)
    categories = class_list(given, [labels / "classes.txt"], report)
    if categories is None:
        return Classes(None, {})
    names = [category.name for category in categories]
    by_name = {name.encode(): at for at, name in enumerate(names)}
    return Classes(names, by_name | {type_of(name).encode(): at for at, name in enumerate(names)})


def _from_sidecar(path: Path) -> Classes:
    try:
        listed = msgspec.json.decode(path.read_bytes(), type=_Sidecar).classes
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LabelError(
            "the list of classes cannot be read",
            where=str(path),
            expected='{"classes": [{"type": ..., "name": ...}, ...]}',
            got=str(error)[:80],
        ) from error
    names, types = [one.name for one in listed], [one.type.encode() for one in listed]
    if len(set(names)) < len(names) or len(set(types)) < len(types) or not all(types):
        raise LabelError("a class that stands twice, or without a type", where=str(path))
    return Classes(names, {key: at for at, key in enumerate(types)})
