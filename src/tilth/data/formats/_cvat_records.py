"""The records of a CVAT file, in columns that grow as it is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._attribute_text import attribute_value, encoded_attributes
from tilth.data.formats._ellipses import ellipse_corners
from tilth.data.formats._mask_crops import crop_to_runs
from tilth.data.label_maps import MAX_MAP_PIXELS
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry, Source
from tilth.data.runs import runs_to_json
from tilth.errors import DataError

__all__ = [
    "CvatRecords",
    "Shape",
    "element_label",
    "label_fields",
    "number",
    "read_image",
    "read_shape",
    "side",
]

MAX_SIDE = 2**31 - 1
SHAPES = frozenset({"box", "polygon", "ellipse", "mask"})
NOT_HELD = frozenset({"polyline", "points", "cuboid", "skeleton"})
_COUNTS = re.compile(r"[0-9]+(?:\s*,\s*[0-9]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape: its corners, and what else it takes to say it.

    Attributes:
        geometry: of the label that it becomes.
        corners: x0 y0 x1 y1 of a box, the flat corners of a polygon, the box around a mask.
        segmentation: of a polygon or mask.
        area: pixels; None where that of the box is meant.
    """

    geometry: Geometry
    corners: list[float]
    segmentation: bytes | None = None
    area: float | None = None

    def box(self) -> list[float]:
        """x0 y0 x1 y1 around it."""
        if self.geometry is not Geometry.POLYGON:
            return self.corners
        x, y = self.corners[0::2], self.corners[1::2]
        return [min(x), min(y), max(x), max(y)]


Label = tuple[str, bytes | None, Source]
"""Class, attributes as JSON, and who made it."""


@dataclass
class CvatRecords:
    """Images, and their labels in the order of the images.

    Attributes:
        name, width, height, subset, count: an entry an image.
        label, geometry, segmentation, area: an entry a label.
        box: float [m, 4] in blocks, or single ones.
        line: of each label in the file, 0 where not looked for yet.
        stretch: (first label, where in the file it begins) of each such stretch.
    """

    name: list[str] = field(default_factory=list)
    width: list[int] = field(default_factory=list)
    height: list[int] = field(default_factory=list)
    subset: list[str] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    label: list[Label] = field(default_factory=list)
    geometry: list[int] = field(default_factory=list)
    box: list[Any] = field(default_factory=list)
    segmentation: list[bytes | None] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    stretch: list[tuple[int, int]] = field(default_factory=list)

    def add_image(self, name: str, width: int, height: int, subset: str = "") -> None:
        """Begin an image, whose labels follow."""
        self.name.append(name)
        self.width.append(width)
        self.height.append(height)
        self.subset.append(subset)
        self.count.append(0)

    def add_label(self, label: Label, shape: Shape, line: int) -> None:
        """A label of the image that was begun last."""
        self.count[-1] += 1
        self.label.append(label)
        self.geometry.append(int(shape.geometry))
        self.box.append(shape.box())
        self.segmentation.append(shape.segmentation)
        self.area.append(np.nan if shape.area is None else shape.area)
        self.line.append(line)

    def extend(self, other: CvatRecords) -> None:
        """Append further images."""
        self.stretch += [(len(self.label) + first, start) for first, start in other.stretch]
        for name in vars(self):
            if name != "stretch":
                getattr(self, name).extend(getattr(other, name))

    def boxes(self) -> NDArray[np.float64]:
        """float64 [m, 4]."""
        blocks = [np.asarray(block, dtype=np.float64).reshape(-1, 4) for block in self.box]
        return np.concatenate([np.empty((0, 4)), *blocks])


def read_image(element: Any, first_line: int, records: CvatRecords, report: LabelReport) -> None:
    """Append an ``<image>`` with its shapes and tags; what has no place is reported.

    Args:
        first_line: lines of the file before the first one of what ``element`` was parsed from.
    """
    sides = [side(element.get(name)) for name in ("width", "height")]
    line = first_line + element.sourceline
    if None in sides:
        where = f"{report.where}:{line}"
        report.add("size that is no number of pixels", "read as not known", [where])
    width, height = sides[0] or 0, sides[1] or 0
    records.add_image(element.get("name") or "", width, height, element.get("subset") or "")
    for child in element.iterchildren("*"):
        line = first_line + child.sourceline
        where = f"{report.where}:{line}"
        if child.tag == "tag":
            records.add_label(element_label(child), Shape(Geometry.LABEL, [0.0] * 4), line)
        elif child.tag in SHAPES:
            shape = read_shape(child, width, height, where, report)
            if shape is not None:
                records.add_label(element_label(child), shape, line)
        else:
            kind = child.tag if child.tag in NOT_HELD else "element of an image that is not known"
            report.add(kind, "left out", [where])


def element_label(element: Any) -> Label:
    """Class, attributes and source of a shape or tag."""
    return label_fields(
        element.attrib,
        ((entry.get("name") or "", entry.text or "") for entry in element.iterfind("attribute")),
    )


def label_fields(fields: Any, entries: Iterable[tuple[str, str]]) -> Label:
    """As `element_label`, from XML attributes and from names and texts of CVAT's attributes.

    ``occluded`` and ``z_order`` stand at every shape, 0 where nobody set them: that is left out.
    """
    attributes: dict[str, Any] = {}
    for name in ("occluded", "z_order", "group_id"):
        text = (fields.get(name) or "").strip()
        if text and (text != "0" or name == "group_id"):
            attributes[name] = True if (name, text) == ("occluded", "1") else attribute_value(text)
    attributes |= {name: attribute_value(text) for name, text in entries if name}
    source = Source.MODEL if fields.get("source") == "auto" else Source.HUMAN
    return fields.get("label") or "", encoded_attributes(attributes), source


def read_shape(
    element: Any, width: int, height: int, where: str, report: LabelReport
) -> Shape | None:
    """The shape of a box, polygon, ellipse or mask; None and reported where it cannot be read."""
    try:
        return _READERS[element.tag](element, width, height, where, report)
    except (ValueError, DataError) as error:
        got = error.message if isinstance(error, DataError) else str(error)
        report.add(f"{element.tag} that cannot be read", "left out", [f"{where}: {got}"])
        return None


def _box(element: Any, width: int, height: int, where: str, report: LabelReport) -> Shape:
    corners = [number(element.get(name)) for name in ("xtl", "ytl", "xbr", "ybr")]
    degrees = number(element.get("rotation") or "0")
    if not degrees:
        return Shape(Geometry.BOX, corners)
    report.add("box that is turned", "read as a polygon", [where])
    x0, y0, x1, y1 = corners
    turned = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    turn = np.deg2rad(degrees)  # clockwise, as y points down
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return _polygon_of(((turned - centre) @ matrix + centre).ravel().tolist())


def _ellipse(element: Any, width: int, height: int, where: str, report: LabelReport) -> Shape:
    x, y, radius_x, radius_y = (number(element.get(name)) for name in ("cx", "cy", "rx", "ry"))
    degrees = number(element.get("rotation") or "0")
    if not np.isfinite([x, y, radius_x, radius_y, degrees]).all():
        raise ValueError("a number that is not finite")
    report.add("ellipse", "read as a polygon", [where])
    return _polygon_of(ellipse_corners(x, y, radius_x, radius_y, degrees).ravel().tolist())


def _polygon(element: Any, width: int, height: int, where: str, report: LabelReport) -> Shape:
    pairs = [pair.split(",") for pair in (element.get("points") or "").split(";") if pair.strip()]
    if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
        raise ValueError("not three corners 'x,y' or more, with ';' between them")
    return _polygon_of([number(text) for pair in pairs for text in pair])


def _polygon_of(corners: list[float]) -> Shape:
    points = np.array(corners).reshape(-1, 2)
    if not np.isfinite(points).all() or np.abs(points).max() > 2.0**52:
        raise ValueError("a number that is no place in a picture")
    x, y = points.T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2  # shoelace formula
    text = f"[{corners!r}]".replace(" ", "").encode()
    return Shape(Geometry.POLYGON, corners, text, area)


def _mask(element: Any, width: int, height: int, where: str, report: LabelReport) -> Shape:
    left, top, wide, tall = (side(element.get(n)) for n in ("left", "top", "width", "height"))
    text = (element.get("rle") or "").strip()
    if left is None or top is None or not wide or not tall or not _COUNTS.fullmatch(text):
        raise ValueError("no whole numbers for rle, left, top, width, height")
    if wide * tall > MAX_MAP_PIXELS:
        raise ValueError(f"{wide} x {tall} pixels")
    if not width or not height or left + wide > width or top + tall > height:
        raise ValueError("it reaches beyond its picture, or the size of that is not known")
    texts = text.split(",")
    if max(map(len, texts)) > 12:
        raise ValueError("a count beyond all pictures")
    counts = np.array(list(map(int, texts)), dtype=np.int64)
    if int(counts.sum()) != wide * tall:
        raise ValueError(f"the runs cover {int(counts.sum())} pixels of {wide * tall}")
    crop = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(tall, wide)
    runs = crop_to_runs(crop, left, top, height)
    if not len(runs.starts):
        raise ValueError("no pixel")
    box = runs.box_xyxy(height).tolist()
    return Shape(Geometry.RLE, box, runs_to_json(runs, height, width), float(runs.area))


_READERS = {"box": _box, "polygon": _polygon, "ellipse": _ellipse, "mask": _mask}


def number(text: str | None) -> float:
    """A number in digits; infinite and NaN are numbers too, which are reported as such.

    Raises:
        ValueError: no number.
    """
    if not text or not text.isascii() or "_" in text:
        raise ValueError(f"no number: {(text or '')[:40]!r}")
    return float(text)


def side(text: str | None) -> int | None:
    """Pixels, 0 where nothing is said, None where it is no number of pixels."""
    text = (text or "").strip()
    if not text:
        return 0
    is_number = text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= MAX_SIDE
    return int(text) if is_number else None
