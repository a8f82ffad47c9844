"""The objects of a Pascal VOC set: all files read, each object's place known, its class found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._class_list import class_list
from tilth.data.formats._columns import report_rows
from tilth.data.formats._labelmap import LABELMAP, value_classes
from tilth.data.formats._voc_layout import VocFile, stated_origin
from tilth.data.formats._voc_records import Label, VocRecords, parse_file, scan_files
from tilth.data.formats._xml_files import parse_xml, read_whole
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import LabelError

__all__ = ["VocObjects", "object_classes", "read_objects", "stated_classes"]

_FILES_A_BLOCK = 256
_LISTS = ("classes.txt", "predefined_classes.txt")  # LabelImg's


@dataclass(frozen=True)
class VocObjects:
    """The records of some files, and where each object stands.

    Attributes:
        file: int64 [m], row of the file that object i is in.
        first: int64 [n + 1]; file j has the objects ``first[j]:first[j + 1]``.
        labels: the different names with attributes, few.
        label: int64 [m], row among them.
    """

    files: list[VocFile]
    records: VocRecords
    file: NDArray[np.int64]
    first: NDArray[np.int64]
    labels: list[Label]
    label: NDArray[np.int64]

    def place(self, row: int) -> str:
        """File and line of an object; the file is read again, for the few that are reported."""
        at = int(self.file[row])
        file = self.files[at]
        try:
            root = parse_xml(read_whole(file.path), file.name)
            line = root.findall("object")[row - int(self.first[at])].sourceline
        except (LabelError, IndexError):
            return file.name
        return f"{file.name}:{line}"


def read_objects(files: list[VocFile], report: LabelReport) -> VocObjects:
    """The records of all files that can be read; the others are reported.

    Raises:
        LabelError: none can.
    """
    records, kept = VocRecords(), []
    faults: list[LabelError] = []
    for start in range(0, len(files), _FILES_A_BLOCK):
        block = files[start : start + _FILES_A_BLOCK]
        found, read, fault = _read_block(block)
        for one in found:
            records.extend(one)
        kept += read
        faults += fault
    if not kept:
        raise faults[0]
    for error in faults:
        report.add(error.message, "file left out", [error.where or report.where])
    bad = [kept[row].name for row in records.bad_size]
    report.add("size that is no number of pixels", "read as not known", bad)
    count = np.array(records.count, dtype=np.int64)
    first = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    rows = {label: row for row, label in enumerate(dict.fromkeys(records.label))}
    label = np.fromiter(map(rows.__getitem__, records.label), np.int64, len(records.label))
    file = np.repeat(np.arange(len(count)), count)
    return VocObjects(kept, records, file, first, list(rows), label)


def _read_block(
    block: list[VocFile],
) -> tuple[list[VocRecords], list[VocFile], list[LabelError]]:
    """Records, the files that they are of, and what was wrong with the others."""
    texts: list[bytes | LabelError] = []
    for file in block:
        try:
            texts.append(read_whole(file.path))
        except LabelError as error:
            texts.append(error)
    whole = [text for text in texts if isinstance(text, bytes)]
    scanned = scan_files(whole) if len(whole) == len(texts) else None
    if scanned is not None:
        return [scanned], block, []
    found, kept, faults = [], [], []
    for file, text in zip(block, texts, strict=True):
        try:
            if isinstance(text, LabelError):
                raise text
            one = scan_files([text])
            found.append(parse_file(text, file.name) if one is None else one)
            kept.append(file)
        except LabelError as error:
            faults.append(error)
    return found, kept, faults


def stated_classes(
    path: Path, files: list[VocFile], given: str, report: LabelReport
) -> tuple[list[str] | None, str | None]:
    """The classes in order, if anything says them, and the origin that our own list states."""
    found_homes = dict.fromkeys(file.home for file in files)
    homes = [Path(home) for home in dict.fromkeys([*found_homes, str(path.resolve())])]
    origins = (stated_origin(home / LABELMAP) for home in homes)
    stated = next((origin for origin in origins if origin), None)
    listed = value_classes(given, homes, 1, report)
    if listed is not None:
        return listed.names, stated
    found = class_list("", [home / name for home in homes for name in _LISTS], report)
    return None if found is None else [category.name for category in found], stated


def object_classes(
    objects: VocObjects, names: list[str] | None, on_unknown: str, report: LabelReport
) -> tuple[NDArray[np.int64], tuple[Category, ...]]:
    """The class of each object (-1: left out, and reported), and the classes.

    Args:
        names: the classes in order; None takes those of the objects, by name.

    Raises:
        LabelError: an object of another class, where ``on_unknown`` is "error".
    """
    said = [name for name, _ in objects.labels]
    if names is None:
        names = sorted({name for name in said if name})
        report.notes.append("classes: those of the objects, in the order of their names")
    rows = {name: row for row, name in enumerate(names)}
    index = np.array([rows.get(name or "", -1) for name in said], np.int64)[objects.label]
    nameless = np.array([not name for name in said], np.bool_)[objects.label]
    report_rows(report, "object without a name", "left out", nameless, objects.place)
    unknown = (index < 0) & ~nameless
    if unknown.any() and on_unknown == "error":
        row = int(np.flatnonzero(unknown)[0])
        raise LabelError(
            f"class '{said[objects.label[row]]}' is not in the list of classes",
            where=objects.place(row),
            expected=", ".join(names)[:200],
            fix="add it to the list, or pass --on-unknown skip",
        )
    report_rows(report, "label of an unknown class", "left out", unknown, objects.place)
    return index, tuple(Category(name=name, origin_id=row) for row, name in enumerate(names))
