"""Which class each value or colour of class masks stands for, and what to say where none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._labelmap import ValueClasses
from tilth.data.formats._mask_regions import Regions
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import LabelError, SettingsError

__all__ = ["IGNORE", "IGNORE_16", "By", "ClassRows", "class_rows", "ignored_value"]

By = Literal["auto", "index", "colour", "binary"]

IGNORE, IGNORE_16 = 255, 65535
_VOID = 224 << 16 | 224 << 8 | 192  # the colour of 255 in the palette of VOC


@dataclass(frozen=True)
class ClassRows:
    """The classes, and the row int64 [m] among them of each region of all masks; -1 for none."""

    categories: tuple[Category, ...]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class _Values:
    """The regions of all masks: [m] each, ``value`` as `Regions` has them."""

    names: Sequence[str]
    file: NDArray[np.int64]
    value: NDArray[np.int64]
    area: NDArray[np.int64]
    by_colour: NDArray[np.bool_]
    deep: NDArray[np.bool_]

    def place(self, row: int) -> str:
        """The file, what stands there, and how much of it."""
        number = int(self.value[row])
        rgb = f"{number >> 16},{number >> 8 & 255},{number & 255}"
        what = f"colour {rgb}" if self.by_colour[row] else f"value {number}"
        return f"{self.names[self.file[row]]}: {what}, {self.area[row]} pixels"


def class_rows(
    masks: Sequence[tuple[str, Regions]],
    classes: ValueClasses | None,
    report: LabelReport,
    *,
    on_unknown: str,
    by: By,
    ignore: str,
    ignore_as: str,
) -> ClassRows:
    """The class of each region of all masks; what the keywords mean, `masks_semantic` says.

    Raises:
        LabelError: a value or colour of no class, masks of colours without a list of them, or a
            palette that contradicts the labelmap.
        SettingsError: an option that cannot be used.
    """
    values = _values(masks, classes, by)
    if by == "binary":
        return _binary(values, classes)
    ignored = _ignored(values, ignore)
    classes = classes or _unnamed(values, ignored, report)
    rows = np.full(len(values.value), -1, dtype=np.int64)
    for by_colour, keys in ((False, classes.values), (True, classes.colours)):
        which = values.by_colour == by_colour
        rows[which] = _rows_of(keys, values.value[which])
    ignored &= rows < 0
    background = np.where(
        values.by_colour, np.isin(values.value, list(classes.background)), values.value == 0
    )
    unknown = (rows < 0) & ~ignored & ~background
    _report_unknown(values, unknown, on_unknown, classes, report)
    if ignored.any() and not ignore_as and not (rows >= 0).any():
        _refuse_binary(values, ignored)
    categories = classes.categories()
    if ignore_as:
        if ignore_as not in classes.names:
            categories += (Category(name=ignore_as, origin_id=IGNORE),)
        names = [category.name for category in categories]
        rows[ignored] = names.index(ignore_as)
    else:
        places = [values.place(row) for row in np.flatnonzero(ignored).tolist()]
        action = "left out; --option ignore_as=NAME makes them a class"
        report.add("pixels to ignore", action, places)
    return ClassRows(categories, rows)


def _values(masks: Sequence[tuple[str, Regions]], classes: ValueClasses | None, by: By) -> _Values:
    counts = [len(mask.values) for _, mask in masks]
    kind = np.repeat(np.array([mask.kind for _, mask in masks], dtype="U8"), counts)
    none = np.zeros(0, np.int64)
    value = np.concatenate([none, *(mask.values for _, mask in masks)])
    colour = np.concatenate([none, *(mask.colours for _, mask in masks)])
    file = np.repeat(np.arange(len(masks)), counts)
    names = [name for name, _ in masks]
    by_colour = kind == "colour"
    if by == "index" and by_colour.any():
        where = names[file[np.flatnonzero(by_colour)[0]]]
        raise LabelError("mask of colours, not of indices", where=where)
    if by == "colour":
        value = np.where(kind == "indexed", colour, value)
        value = np.where(np.char.startswith(kind, "grey"), value * 0x010101, value)
        by_colour = np.ones(len(value), dtype=np.bool_)
    elif by == "auto" and classes is not None and classes.has_colours:
        _refuse_contradiction(value, colour, [names[row] for row in file.tolist()], classes)
    area = np.concatenate([none, *(mask.areas for _, mask in masks)])
    return _Values(names, file, value, area, by_colour, kind == "grey16")


def _refuse_contradiction(
    value: NDArray[np.int64],
    colour: NDArray[np.int64],
    places: Sequence[str],
    classes: ValueClasses,
) -> None:
    """A palette whose colours are those of the labelmap, but of other classes."""
    expected = (
        np.array(classes.colours)[_rows_of(classes.values, value)] if classes.names else value
    )
    known = (_rows_of(classes.values, value) >= 0) & np.isin(colour, classes.colours)
    wrong = np.flatnonzero(known & (colour >= 0) & (colour != expected))
    if len(wrong):
        row = int(wrong[0])
        by_index = classes.names[int(_rows_of(classes.values, value[[row]])[0])]
        by_colour = classes.names[classes.colours.index(int(colour[row]))]
        raise LabelError(
            "the palette and the labelmap say different classes",
            where=places[row],
            got=f"index {value[row]} is '{by_index}', its colour is that of '{by_colour}'",
            fix="say which is right: --option values=index, or values=colour",
        )


def _binary(values: _Values, classes: ValueClasses | None) -> ClassRows:
    if classes is not None and len(classes.names) != 1:
        raise SettingsError(
            "masks of one class need the name of one class",
            got=", ".join(classes.names) or "none",
            fix="--option classes=NAME",
        )
    name = classes.names[0] if classes is not None else "object"
    rows = np.where(values.value != 0, 0, -1)
    return ClassRows((Category(name=name, origin_id=1),), rows)


def _ignored(values: _Values, ignore: str) -> NDArray[np.bool_]:
    value = ignored_value(ignore)
    if value is not None:
        return ~values.by_colour & (values.value == value)
    if ignore == "none":
        return np.zeros(len(values.value), dtype=np.bool_)
    wanted = np.where(values.deep, IGNORE_16, IGNORE)
    return np.where(values.by_colour, values.value == _VOID, values.value == wanted)


def ignored_value(option: str) -> int | None:
    """The number that the option ``ignore`` gives; None for "auto" and "none".

    Raises:
        SettingsError: neither of them, nor a number.
    """
    if option in ("auto", "none"):
        return None
    if not (option.isascii() and option.isdigit() and len(option) < 6):
        raise SettingsError(
            "the value to ignore is no number", expected="auto, none or 0 to 65535", got=option[:80]
        )
    return int(option)


def _unnamed(values: _Values, ignored: NDArray[np.bool_], report: LabelReport) -> ValueClasses:
    """The values as classes, called by their numbers."""
    colours = np.flatnonzero(values.by_colour)
    if len(colours):
        raise LabelError(
            "masks of colours, and no list of what they stand for",
            where=values.place(int(colours[0])),
            expected="name:red,green,blue:: for each class, in labelmap.txt",
            fix="write such a list, and pass --option classes=FILE",
        )
    found = np.unique(values.value[~ignored & (values.value != 0)]).tolist()
    report.notes.append("classes: not named anywhere, so called by their values")
    return ValueClasses(
        names=[str(value) for value in found],
        values=found,
        colours=[-1] * len(found),
        background=frozenset({0}),
        has_colours=False,
    )


def _rows_of(keys: Sequence[int], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each wanted number among ``keys``; -1 where it is not there."""
    if not keys:
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(np.array(keys), kind="stable")
    ordered = np.array(keys)[order]
    at = np.minimum(np.searchsorted(ordered, wanted), len(keys) - 1)
    return np.where(ordered[at] == wanted, order[at], -1)


def _report_unknown(
    values: _Values,
    unknown: NDArray[np.bool_],
    on_unknown: str,
    classes: ValueClasses,
    report: LabelReport,
) -> None:
    rows = np.flatnonzero(unknown).tolist()
    if rows and on_unknown == "error":
        known = ", ".join(
            f"{value} {name}"
            for name, value in list(zip(classes.names, classes.values, strict=True))[:20]
        )
        raise LabelError(
            f"a value or colour of no class ({len(rows)} such regions)",
            where=values.place(rows[0]),
            expected=known or "no classes are known",
            fix="add it to the list of classes, or pass --on-unknown skip"
            " (colours between others come from JPEG or from smoothing: mend the masks)",
        )
    report.add("value or colour of no class", "left out", [values.place(row) for row in rows])


def _refuse_binary(values: _Values, ignored: NDArray[np.bool_]) -> None:
    """Pictures of 0 and 255 are masks of one class that nobody said, not pictures to ignore."""
    others = ~ignored & (values.value != 0)
    if others.any() or values.by_colour.any():
        return
    raise LabelError(
        "masks of 0 and 255 only, where 255 is the value to ignore",
        where=values.place(int(np.flatnonzero(ignored)[0])),
        fix="if 255 is the object: --option values=binary --option classes=NAME;"
        " if it is to be ignored indeed: --option ignore_as=NAME",
    )
