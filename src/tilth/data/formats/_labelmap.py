"""``labelmap.txt``: the classes of label maps, their values and colours.

A line is ``name:red,green,blue:parts:actions`` (CVAT's and Datumaro's manual, "Pascal VOC" and
"Segmentation mask"); the first is the background. The value of a class is the number of its line,
counted from 0. A line may also be a name alone; its colour is then the VOC palette's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilth.data.formats._class_list import class_list
from tilth.data.formats._percent import decoded, encoded
from tilth.data.indexed_png import voc_palette
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import LabelError

__all__ = ["BACKGROUND", "LABELMAP", "ValueClasses", "labelmap_text", "value_classes"]

LABELMAP = "labelmap.txt"
BACKGROUND = "background"
_UNSAFE = re.compile(r"[:#\x00-\x1f\x85\u2028\u2029]|^\s|\s$")
_COLOUR = re.compile(r"(\d{1,3}),(\d{1,3}),(\d{1,3})", re.ASCII)


@dataclass(frozen=True)
class ValueClasses:
    """The classes of a label map.

    Attributes:
        names: without the background.
        values: of each class.
        colours: of each class, ``red << 16 | green << 8 | blue``.
        background: the colours that stand for no class.
        has_colours: a file says the colours; otherwise they are the VOC palette's.
    """

    names: list[str]
    values: list[int]
    colours: list[int]
    background: frozenset[int]
    has_colours: bool

    def categories(self) -> tuple[Category, ...]:
        """The number of a class is its value."""
        pairs = zip(self.names, self.values, strict=True)
        return tuple(Category(name=name, origin_id=value) for name, value in pairs)


def value_classes(
    given: str, places: Sequence[Path], first_value: int, report: LabelReport
) -> ValueClasses | None:
    """The classes that the option names, else those of the first ``labelmap.txt``.

    Args:
        given: a file (a labelmap, or one class a line), or names with commas between them.
        places: folders where a labelmap may lie.
        first_value: of the first class, where a list has no background.
        report: takes a note of where the classes come from.

    Raises:
        LabelError: a list that cannot be read, or a class that stands twice.
    """
    if given:
        files = [] if "," in given else [Path(given)]  # names, or a file
    else:
        files = [place / LABELMAP for place in places]
    file = next((path for path in files if path.is_file()), None)
    if file is not None and file.suffix.lower() != ".csv":
        report.notes.append(f"classes: from {file if given else file.name}")
        return _parsed(file, first_value)
    categories = class_list(given, (), report)
    if categories is None:
        return None
    if file is not None:  # name,number rows: the numbers are the values
        values = [category.origin_id for category in categories]
        return _classes([c.name for c in categories], values, [None] * len(values), str(file))
    names = [category.name for category in categories]
    return _numbered(names, [None] * len(names), first_value, "--option classes")


def _parsed(path: Path, first_value: int) -> ValueClasses:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError("the labelmap cannot be read", where=str(path)) from error
    names: list[str] = []
    colours: list[int | None] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        name, colour = _fields(line, f"{path}:{number}")
        names.append(name)
        colours.append(colour)
    return _numbered(names, colours, first_value, str(path))


def _fields(line: str, where: str) -> tuple[str, int | None]:
    parts = line.rsplit(":", 3)
    if len(parts) != 4:
        return decoded(line.strip()), None
    if not parts[1].strip():
        return decoded(parts[0].strip()), None
    found = _COLOUR.fullmatch(parts[1].replace(" ", ""))
    if found is None or any(int(value) > 255 for value in found.groups()):
        raise LabelError(
            "a colour that cannot be read",
            where=where,
            expected="name:red,green,blue::, each from 0 to 255",
            got=line[:80],
        )
    red, green, blue = map(int, found.groups())
    return decoded(parts[0].strip()), red << 16 | green << 8 | blue


def _numbered(
    names: list[str], colours: list[int | None], first_value: int, where: str
) -> ValueClasses:
    """Values by the place in the list; a background that leads it has the value 0."""
    if names and names[0].lower() == BACKGROUND:
        values = range(1, len(names))
        return _classes(names[1:], list(values), colours[1:], where, background=colours[0])
    values = range(first_value, first_value + len(names))
    return _classes(names, list(values), colours, where)


def _classes(
    names: list[str],
    values: list[int],
    colours: list[int | None],
    where: str,
    *,
    background: int | None = None,
) -> ValueClasses:
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            message = "a class that stands twice" if name else "a class without a name"
            raise LabelError(message, where=where, got=name[:80] or None)
        seen.add(name)
    stated = [colour for colour in colours if colour is not None]
    if len(set(stated)) < len(stated):
        raise LabelError("two classes of one colour", where=where)
    palette = voc_palette().tolist()
    filled = [
        _default_colour(palette, value) if colour is None else colour
        for value, colour in zip(values, colours, strict=True)
    ]
    return ValueClasses(
        names=names,
        values=values,
        colours=filled,
        background=frozenset({0 if background is None else background}),
        has_colours=bool(stated),
    )


def _default_colour(palette: list[list[int]], value: int) -> int:
    red, green, blue = palette[value % 256]
    return red << 16 | green << 8 | blue


def labelmap_text(names: Sequence[str]) -> str:
    """A labelmap of these classes, in order after the background, in the colours of VOC.

    Beyond 255 classes there are no colours left to tell them apart; none are written then.
    """
    palette = voc_palette().tolist()
    lines = ["# label:color_rgb:parts:actions", f"{BACKGROUND}:0,0,0::"]
    for value, name in enumerate(names, start=1):
        colour = ",".join(map(str, palette[value])) if len(names) < 256 else ""
        lines.append(f"{encoded(name, _UNSAFE)}:{colour}::")
    return "\n".join(lines) + "\n"
