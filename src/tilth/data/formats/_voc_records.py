"""The records of Pascal VOC files: many at once where they look as tools write them, else singly.

Nearly every VOC file is written by a tool that puts the same elements in the same order. Such files
are joined and cut into tiles (a head, objects, an end) by one regular expression; when the tiles
cover every byte, nothing was overlooked. A file of any other shape (entities, comments, CDATA,
attributes, other elements or another order) is parsed by lxml, which is the definition: both ways
give the same records, and a test holds them to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._attribute_text import attribute_value, encoded_attributes
from tilth.data.formats._xml_files import is_plain_utf8, parse_xml
from tilth.errors import LabelError

__all__ = ["Label", "VocRecords", "parse_file", "scan_files"]

_NO_CORNERS = [float("nan")] * 4
CORNERS = ("xmin", "ymin", "xmax", "ymax")
MAX_SIDE = 2**31 - 1

# Possessive throughout (``*+``): no input makes the matching slow.
_TEXT = rb"[^<>&\x00-\x08\x0b-\x1f]*+"
_SPACE = rb"[ \t\n\r]*+"
_LEAF = rb"<([a-z_]+)>(" + _TEXT + rb")</\1>" + _SPACE
_LEAVES = rb"(?:<[a-z_]+>" + _TEXT + rb"</[a-z_]+>" + _SPACE + rb")*+"
_NUMBER = rb"-?[0-9]{1,9}(?:\.[0-9]{1,20})?"
_SIDE = rb"[0-9]{1,9}"


def _element(name: bytes, content: bytes) -> bytes:
    return rb"<%b>%b</%b>%b" % (name, content, name, _SPACE)


def _parent(name: bytes, content: bytes) -> bytes:
    return rb"<%b>%b%b</%b>%b" % (name, _SPACE, content, name, _SPACE)


_HEAD = (
    rb'(?:<\?xml version="1\.0"(?: encoding="(?:utf|UTF)-8")?\?>' + _SPACE + rb")?+"
    rb'<annotation(?: verified="(?:yes|no)")?>'
    + _SPACE
    + rb"(?:%b)?+" % _element(b"folder", _TEXT)
    + _element(b"filename", b"(" + _TEXT + b")")
    + rb"(?:%b)?+" % _element(b"path", _TEXT)
    + rb"(?:%b)?+"
    % _parent(b"source", rb"(?:%b)*+" % _element(b"(?:database|annotation|image)", _TEXT))
    + _parent(
        b"size",
        _element(b"width", b"(%b)" % _SIDE)
        + _element(b"height", b"(%b)" % _SIDE)
        + rb"(?:%b)?+" % _element(b"depth", _TEXT),
    )
    + rb"(?:%b)?+" % _element(b"segmented", _TEXT)
)
_OBJECT = _parent(
    b"object",
    rb"<name>("
    + _TEXT
    + rb"</name>"
    + _SPACE
    + _LEAVES
    + b")"
    + _parent(b"bndbox", b"".join(_element(n.encode(), b"(%b)" % _NUMBER) for n in CORNERS))
    + b"("
    + _LEAVES
    + b")",
)
# Files are joined with a NUL, which is no XML: only their ends can hold one.
_EDGE = rb"</annotation>" + _SPACE + rb"\x00(?:" + _HEAD + rb"|\Z)"
_TILE = re.compile(_OBJECT + b"|" + _EDGE)
_FIRST_EDGE = b"</annotation>\x00"
_GAP, _LABEL, _XMIN, _AFTER, _FILENAME, _WIDTH, _HEIGHT, _STRIDE = 0, 1, 2, 6, 7, 8, 9, 10
_ANY_LEAF = re.compile(_LEAF)
_NO_LEAVES = frozenset({"name", "bndbox", "part", "object", "attributes"})
_FLAGS = frozenset({"truncated", "difficult", "occluded"})


Label = tuple[str | None, bytes | None]
"""The name of an object, None where there is none, and its attributes as JSON."""


@dataclass
class VocRecords:
    """What VOC files say, an entry a file, and an entry an object in the order of the files.

    Attributes:
        filename: n texts, or None.
        width, height: n numbers of pixels, 0 where the file does not say.
        bad_size: rows of files whose size is no number of pixels.
        count: n numbers of objects.
        label: m names with attributes; ``parts`` in these have corners as they stand.
        corners: float64 [m, 4], xmin, ymin, xmax, ymax as they stand, in blocks.
        boxless: rows of objects without four numbers, whose corners are NaN.
    """

    filename: list[str | None] = field(default_factory=list)
    width: list[int] = field(default_factory=list)
    height: list[int] = field(default_factory=list)
    bad_size: list[int] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    label: list[Label] = field(default_factory=list)
    corners: list[NDArray[np.float64]] = field(default_factory=list)
    boxless: list[int] = field(default_factory=list)

    def extend(self, other: VocRecords) -> None:
        """Append the records of further files."""
        self.bad_size += [len(self.filename) + row for row in other.bad_size]
        self.boxless += [len(self.label) + row for row in other.boxless]
        for column in ("filename", "width", "height", "count", "label", "corners"):
            getattr(self, column).extend(getattr(other, column))


def scan_files(files: Sequence[bytes]) -> VocRecords | None:
    """The records of files that are all of the canonical shape; None where one is not."""
    text = b"".join([_FIRST_EDGE, b"\x00".join(files), b"\x00"])
    if not is_plain_utf8(text) or text.count(b"\x00") != len(files) + 1:
        return None
    # The texts between tiles, and the groups of each tile: a flat list, a column every tenth.
    pieces = _TILE.split(text)
    columns = [pieces[group::_STRIDE] for group in range(_STRIDE)]
    widths = list(filter(None, columns[_WIDTH]))
    if any(columns[_GAP]) or len(widths) != len(files):
        return None
    is_object = columns[_XMIN]
    after = compress(columns[_AFTER], is_object)
    try:
        label = list(map(_label, filter(None, columns[_LABEL]), after))
    except _NotCanonicalError:
        return None
    numbers = [_floats(list(filter(None, columns[_XMIN + side]))) for side in range(4)]
    heads = [at for at, piece in enumerate(is_object) if piece is None]
    return VocRecords(
        filename=_stripped(list(compress(columns[_FILENAME], columns[_WIDTH]))),
        width=list(map(int, widths)),
        height=list(map(int, filter(None, columns[_HEIGHT]))),
        count=(np.diff(heads) - 1).tolist(),
        label=label,
        corners=[np.array(numbers, dtype=np.float64).T],
    )


class _NotCanonicalError(Exception):
    """An element within an object that only lxml takes apart."""


def _floats(texts: list[bytes]) -> list[float]:
    try:
        return msgspec.json.decode(b"[%b]" % b",".join(texts), type=list[float])
    except msgspec.DecodeError:  # 007 is a number here, but none in JSON
        return list(map(float, texts))


def _stripped(texts: list[bytes]) -> list[str | None]:
    together = b"\x00".join(texts).decode()
    return [text.strip() for text in together.split("\x00")] if texts else []


@lru_cache(maxsize=65_536)
def _label(before: bytes, after: bytes) -> Label:
    """Name and attributes of an object from the text around its box; few objects differ in it."""
    name, _, before = before.partition(b"</name>")
    leaves: dict[str, str] = {}
    for text in (before, after):
        start = len(text) - len(text.lstrip(b" \t\n\r"))
        for match in _ANY_LEAF.finditer(text):
            tag = match[1].decode()
            if match.start() != start or tag in _NO_LEAVES:
                raise _NotCanonicalError
            leaves.setdefault(tag, match[2].decode())
            start = match.end()
        if start != len(text):
            raise _NotCanonicalError
    return name.decode().strip(), encoded_attributes(_attributes(leaves))


def _attributes(leaves: dict[str, str]) -> dict[str, Any]:
    """Elements without elements in them, as attributes; what they all say by default is left out.

    A VOC object must have ``truncated`` and ``difficult``: 0 is there when nobody thought of it.
    """
    attributes: dict[str, Any] = {}
    for tag, text in leaves.items():
        text = text.strip()
        value: Any = attribute_value(text)
        if tag in _FLAGS:
            value = {"0": None, "1": True, "false": None}.get(text.lower(), value)
        if value in (None, "") or (tag == "pose" and text == "Unspecified"):
            continue
        attributes[tag] = value
    return attributes


def parse_file(data: bytes, where: str) -> VocRecords:
    """The records of one file of any shape.

    Raises:
        LabelError: not XML, or not a VOC annotation.
    """
    root = parse_xml(data, where)
    if root.tag != "annotation":
        raise LabelError(
            "not a Pascal VOC file",
            where=f"{where}:{root.sourceline}",
            expected="<annotation>",
            got=f"<{root.tag}>"[:80],
        )
    records = VocRecords(filename=[_text(root, "filename")])
    size = root.find("size")
    sides = [_side(size, side) for side in ("width", "height")]
    records.width, records.height = [sides[0] or 0], [sides[1] or 0]
    records.bad_size = [0] if None in sides else []
    boxes: list[list[float]] = []
    for element in root.iterchildren("object"):
        name, bndbox, attributes = _object_parts(element)
        corners = None if bndbox is None else _corners(bndbox)
        records.label.append((name, encoded_attributes(attributes)))
        if corners is None:
            records.boxless.append(len(boxes))
        boxes.append(corners or _NO_CORNERS)
    records.count = [len(boxes)]
    records.corners = [np.array(boxes, dtype=np.float64).reshape(-1, 4)]
    return records


def _text(parent: Any, tag: str) -> str | None:
    element = None if parent is None else parent.find(tag)
    return None if element is None else (element.text or "").strip()


def _side(size: Any, tag: str) -> int | None:
    """Pixels, 0 where nothing is said, None where it is no number of pixels."""
    text = _text(size, tag)
    if not text:
        return 0
    is_number = text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= MAX_SIDE
    return int(text) if is_number else None


def _corners(bndbox: Any) -> list[float] | None:
    """xmin, ymin, xmax, ymax in any order; None where one is missing or no number."""
    texts = {child.tag: child.text or "" for child in reversed(bndbox)}  # of two, the first
    numbers = [number for tag in CORNERS if (number := _number(texts.get(tag, ""))) is not None]
    return numbers if len(numbers) == len(CORNERS) else None


def _number(text: str) -> float | None:
    if not text.isascii() or "_" in text:  # both are numbers to Python, and to nobody else
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _object_parts(element: Any) -> tuple[str | None, Any, dict[str, Any]]:
    """Name, box and attributes of an object.

    Attributes are its leaves, its parts, elements one level deep (``actions``), and the extension
    ``attributes`` that labelling tools write, which has the last word.
    """
    name, bndbox = None, None
    leaves: dict[str, str] = {}
    further: dict[str, Any] = {}
    extension: dict[str, Any] = {}
    for child in element:
        tag = child.tag
        if tag == "name":
            name = (child.text or "").strip() if name is None else name
        elif tag == "bndbox":
            bndbox = child if bndbox is None else bndbox
        elif tag == "part":
            further.setdefault("parts", []).append(_part(child))
        elif tag == "attributes":
            extension |= _extension(child)
        elif len(child):
            further[tag] = {inner.tag: attribute_value(inner.text or "") for inner in child}
        else:
            leaves.setdefault(tag, child.text or "")
    return name, bndbox, {**_attributes(leaves), **further, **extension}


def _extension(element: Any) -> dict[str, Any]:
    found = {}
    for entry in element.iterfind("attribute"):
        if name := _text(entry, "name"):
            found[name] = attribute_value(_text(entry, "value") or "")
    return found


def _part(element: Any) -> dict[str, Any]:
    bndbox = element.find("bndbox")
    corners = None if bndbox is None else _corners(bndbox)
    box = corners if corners is not None and np.isfinite(corners).all() else None
    return {"name": _text(element, "name") or "", "box": box}
