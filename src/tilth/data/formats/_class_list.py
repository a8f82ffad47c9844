"""The classes of a label file that does not name them in order: from an option or a file beside it.

A text file has one class a line, counted from 0 (Darknet's ``obj.names``, keras-yolo3's
``classes.txt``); a CSV file has ``name,number`` rows (keras-retinanet's class mapping).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._columns import report_rows
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import DataError, LabelError, SettingsError

__all__ = ["class_list", "classes_csv", "classes_text", "matched_classes", "read_class_list"]

_LARGEST_NUMBER = 2**63 - 1
_LIST_SUFFIXES = (".txt", ".csv", ".names")


def class_list(
    given: str, beside: Iterable[Path], report: LabelReport
) -> tuple[Category, ...] | None:
    """The classes that the option ``classes`` names, else those of the first file that is there.

    Args:
        given: a file, or names with commas between them; empty where nobody said.
        beside: where such a list usually lies.
        report: takes a note of where the classes come from.

    Raises:
        SettingsError: the file that was named is not there.
        LabelError: a list that cannot be read.
    """
    if given and "," not in given:
        path = Path(given)
        if path.is_file():
            report.notes.append(f"classes: from {path}")
            return read_class_list(path)
        if path.suffix.lower() in _LIST_SUFFIXES or "/" in given:
            raise SettingsError("the list of classes is not there", where=given)
    if given:
        report.notes.append("classes: as given")
        names = [name.strip() for name in given.split(",")]
        return _checked([(name, at) for at, name in enumerate(names)], "--option classes")
    for path in beside:
        if path.is_file():
            report.notes.append(f"classes: from {path.name}")
            return read_class_list(path)
    return None


def matched_classes(
    codes: NDArray[np.int64],
    names: Sequence[str],
    listed: tuple[Category, ...] | None,
    on_unknown: str,
    report: LabelReport,
    place: Callable[[int], str],
) -> tuple[tuple[Category, ...], NDArray[np.int64]]:
    """Names matched to the list of classes; without a list, to the names themselves, sorted.

    Raises:
        LabelError: a class that the list does not have, unless they are skipped.
    """
    if listed is None:
        used = sorted({names[code] for code in np.unique(codes).tolist()})
        report.notes.append("classes: the names in the file, sorted")
        listed = tuple(Category(name=name, origin_id=at) for at, name in enumerate(used))
    rows = {category.name: row for row, category in enumerate(listed)}
    category_of_code = np.array([rows.get(name, -1) for name in names] or [-1], dtype=np.int64)
    category_row = category_of_code[codes]
    unknown = category_row < 0
    if unknown.any() and on_unknown == "error":
        row = int(np.flatnonzero(unknown)[0])
        raise LabelError(
            f"class {names[codes[row]]!r} is not among the {len(listed)} classes",
            where=f"{place(row)} ({int(unknown.sum())} such labels)",
            expected=", ".join(category.name for category in listed)[:200],
            fix="add the class to the list, or pass --on-unknown skip",
        )
    report_rows(report, "label of an unknown class", "left out", unknown, place)
    return listed, category_row


def read_class_list(path: Path) -> tuple[Category, ...]:
    """The classes of a file: one a line, or ``name,number`` where its suffix is .csv.

    Raises:
        LabelError: not text, a class without a name, or one that stands twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError("the list of classes is not UTF-8", where=str(path)) from error
    except OSError as error:
        got = error.strerror
        raise LabelError("the list of classes cannot be read", where=str(path), got=got) from error
    if path.suffix.lower() == ".csv":
        return _checked(_numbered(text, path), str(path))
    lines = [line.strip() for line in text.rstrip().splitlines()]
    return _checked([(name, at) for at, name in enumerate(lines)], str(path))


def _numbered(text: str, path: Path) -> list[tuple[str, int]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    found: list[tuple[str, int]] = []
    try:
        for row in filter(None, reader):
            digits = row[1].strip() if len(row) == 2 else ""
            number = (
                int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else -1
            )
            if not 0 <= number <= _LARGEST_NUMBER:
                raise LabelError(
                    "a class without a number",
                    where=f"{path}:{reader.line_num}",
                    expected="name,number",
                    got=",".join(row)[:80],
                )
            found.append((row[0], number))
    except csv.Error as error:
        raise LabelError("the list of classes is not CSV", where=str(path)) from error
    return found


def _checked(found: Sequence[tuple[str, int]], where: str) -> tuple[Category, ...]:
    names, numbers = [name for name, _ in found], [number for _, number in found]
    for at, name in enumerate(names):
        if not name or name in names[:at]:
            raise LabelError(
                "a class that stands twice" if name else "a class without a name",
                where=f"{where}:{at + 1}",
                got=name[:80] or "an empty line",
            )
    if len(set(numbers)) < len(numbers):
        raise LabelError("two classes of one number", where=where)
    return tuple(Category(name=name, origin_id=number) for name, number in found)


def classes_text(categories: Sequence[Category]) -> bytes:
    """One name a line.

    Raises:
        DataError: a name that would not come back from such a list.
    """
    for category in categories:
        if category.name.splitlines() != [category.name] or category.name.strip() != category.name:
            raise DataError(
                "a class name that a list with one name a line does not hold",
                got=repr(category.name),
                fix="rename the class",
            )
    return "".join(f"{category.name}\n" for category in categories).encode()


def classes_csv(categories: Sequence[Category]) -> bytes:
    """``name,number`` rows."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows((category.name, category.origin_id) for category in categories)
    return stream.getvalue().encode()
