"""Label Studio's results as boxes, polygons, masks and labels of the picture, in pixels.

rectanglelabels      x, y, width, height, turned clockwise by ``rotation`` about the corner x, y
polygonlabels        points
ellipselabels        centre, two radii, rotation; becomes a polygon within 0.05 px
brushlabels          a mask in Label Studio's run-length code
choices              classes of the whole picture; of one region: an attribute of it

Lengths are percent of the picture's width or height, so that angles hold in pixels only. (Label
Studio's documentation, "Export annotations", "Units of image annotations".)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._ellipses import ellipse_corners
from tilth.data.formats._label_studio_brush import decode_brush
from tilth.data.formats._label_studio_records import Result, Value
from tilth.data.formats._mask_crops import crop_to_runs
from tilth.data.records import Geometry
from tilth.data.runs import runs_to_json
from tilth.errors import DataError

__all__ = ["OURS", "Region", "Shape", "regions_of", "shape_of"]

OURS = "tilth"
"""The field of a region's ``meta`` for what Label Studio has no place for."""

Size = tuple[int, int]
"""Width and height in pixels."""

_SHAPES = ("rectangle", "polygon", "brush", "ellipse", "videorectangle")
_LABEL_FIELDS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels", "labels")
_ANSWERS = ("choices", "textarea", "rating", "number")


class Region(NamedTuple):
    """A result with its classes and whatever else is said of the same region.

    Attributes:
        result: the shape, or the choices of the whole picture.
        number: its place among the results.
    """

    result: Result
    number: int
    labels: Sequence[str]
    attributes: dict[str, Any]


class Shape(NamedTuple):
    """Geometry, box, area and segmentation of a region, in pixels."""

    geometry: Geometry
    box: tuple[float, float, float, float]
    area: float = math.nan
    segmentation: bytes | None = None


def regions_of(results: Sequence[Result]) -> Iterator[Region]:
    """Results of one region (the same id) together; the others alone."""
    ids = [result.id for result in results]
    if len(set(ids)) == len(ids):
        for at, result in enumerate(results):
            labels = _labels(result.value, result.type)
            yield Region(result, at, labels, _said(result.meta))
        return
    by_id: dict[Any, list[int]] = {}
    for at, key in enumerate(ids):
        by_id.setdefault(("alone", at) if key is None else key, []).append(at)
    for rows in by_id.values():
        yield _region(results, rows)


def _region(results: Sequence[Result], rows: list[int]) -> Region:
    first = next((at for at in rows if results[at].type.startswith(_SHAPES)), rows[0])
    labels: list[str] = []
    attributes: dict[str, Any] = {}
    for at in rows:
        result = results[at]
        if at != first and result.type in _ANSWERS:
            attributes[result.from_name or result.type] = _answer(result.value)
        else:
            labels += _labels(result.value, result.type)
    shape = results[first]
    return Region(shape, first, list(dict.fromkeys(labels)), attributes | _said(shape.meta))


def _labels(value: Value, kind: str) -> list[str]:
    if value.rectanglelabels:  # by far the most
        return value.rectanglelabels
    if kind == "choices":
        return value.choices or []
    return next((found for name in _LABEL_FIELDS if (found := getattr(value, name))), [])


def _answer(value: Value) -> Any:
    if value.choices:
        return value.choices[0] if len(value.choices) == 1 else value.choices
    return next((x for x in (value.text, value.rating, value.number) if x is not None), None)


def _said(meta: dict[str, Any] | None) -> dict[str, Any]:
    """What the meta of a region says; of ours only the attributes."""
    if not meta:
        return {}
    ours = meta.get(OURS)
    further = {name: value for name, value in meta.items() if name != OURS}
    own = ours.get("attributes") if isinstance(ours, dict) else None
    return further | (own if isinstance(own, dict) else {})


def shape_of(result: Result, size: Size) -> Shape:
    """What a result draws.

    Args:
        size: of its picture, which percents are of.

    Raises:
        DataError: a result that draws nothing, or not what its type says.
    """
    kind = result.type.removesuffix("labels")
    if kind not in ("rectangle", "polygon", "brush", "ellipse"):
        raise DataError(f"result of type '{result.type[:40]}', which has no area")
    if not all(size):
        raise DataError("region in percent of a picture of unknown size")
    draw = {"rectangle": _rectangle, "polygon": _polygon, "brush": _brush, "ellipse": _ellipse}
    return draw[kind](result.value, size)


def _rectangle(value: Value, size: Size) -> Shape:
    x, y, width, height = value.x, value.y, value.width, value.height
    if x is None or y is None or width is None or height is None:
        raise DataError("rectangle without x, y, width and height")
    across, down = size
    left, top = x * across / 100, y * down / 100
    right, bottom = (x + width) * across / 100, (y + height) * down / 100
    if not value.rotation % 360:
        return Shape(Geometry.BOX, (left, top, right, bottom))
    turn = math.radians(value.rotation)
    along = (right - left) * np.array([math.cos(turn), math.sin(turn)])
    sideways = (bottom - top) * np.array([-math.sin(turn), math.cos(turn)])
    corner = np.array([left, top])
    return _from_corners(
        np.stack([corner, corner + along, corner + along + sideways, corner + sideways])
    )


def _polygon(value: Value, size: Size) -> Shape:
    if value.points is None or len(value.points) < 3:
        raise DataError("polygon of fewer than 3 points")
    return _from_corners(np.array(value.points, np.float64) * size / 100)


def _ellipse(value: Value, size: Size) -> Shape:
    x, y, across, down = value.x, value.y, value.radiusX, value.radiusY
    if x is None or y is None or not across or not down:
        raise DataError("ellipse without a centre and two radii")
    w, h = (side / 100 for side in size)
    if not max(abs(across * w), abs(down * h)) < 2**31:
        raise DataError("ellipse beyond all pictures")
    return _from_corners(
        ellipse_corners(x * w, y * h, abs(across * w), abs(down * h), value.rotation)
    )


def _brush(value: Value, size: Size) -> Shape:
    if value.rle is None:
        raise DataError("brush region without run-length code")
    width, height = size
    mask = decode_brush(value.rle, height, width)
    runs = crop_to_runs(mask, 0, 0, height)
    x0, y0, x1, y1 = runs.box_xyxy(height).tolist()
    text = runs_to_json(runs, height, width)
    return Shape(Geometry.RLE, (x0, y0, x1, y1), float(runs.area), text)


def _from_corners(corners: NDArray[np.float64]) -> Shape:
    corners = np.round(corners, 9)  # percents carry no more
    x, y = (corners - corners[0]).T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2  # shoelace formula
    x0, y0, x1, y1 = chain(corners.min(axis=0).tolist(), corners.max(axis=0).tolist())
    text = msgspec.json.encode([corners.ravel().tolist()])
    return Shape(Geometry.POLYGON, (x0, y0, x1, y1), area, text)
