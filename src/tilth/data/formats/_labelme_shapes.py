"""LabelMe's shapes as boxes, polygons and masks; the plain ones all at once.

rectangle            two corners, any two that face each other (some tools write all four)
polygon              corners; oriented_rectangle is one with four
circle               centre and a point on it; becomes a polygon within 0.05 px
mask                 first and last pixel of the part of the picture that a PNG covers, both inside
point, points, line, linestrip     no area: left out

(wkentaro/labelme, `labelme/label_file.py` and `labelme/utils/shape.py`, version 5.)
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._ellipses import ellipse_corners
from tilth.data.formats._labelme_records import Shape
from tilth.data.formats._mask_crops import crop_to_runs
from tilth.data.indexed_png import decode_png
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry
from tilth.data.runs import Runs, runs_to_json
from tilth.errors import DataError, TilthError

__all__ = ["ShapeColumns", "mask_columns", "read_shapes"]

_FEWEST_CORNERS = 3
_UNUSABLE = -1


@dataclass
class ShapeColumns:
    """What the shapes of some files are; the geometry of one that cannot be used is -1.

    Attributes:
        geometry: int64 [m].
        boxes: float64 [m, 4].
        area: float64 [m]; NaN where it is that of the box.
        segmentation: m entries.
    """

    geometry: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    segmentation: list[bytes | None]


def read_shapes(
    shapes: Sequence[Shape],
    points: NDArray[np.float64],
    counts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    report: LabelReport,
    place: Callable[[int], str],
) -> ShapeColumns:
    """All shapes of some files.

    Args:
        points, counts: float64 [p, 2] of all shapes, and how many each has, int64 [m].
        sizes: int64 [m, 2], height and width of each one's picture, 0 where they are not known.
        report: takes the shapes that have no area or are not what their type says.
    """
    columns = ShapeColumns(
        geometry=np.full(len(shapes), Geometry.BOX, np.int64),
        boxes=_around(points, counts),
        area=np.full(len(shapes), np.nan),
        segmentation=[None] * len(shapes),
    )
    areas = _polygon_areas(points, counts)
    ends = np.cumsum(counts)
    rectangle = np.fromiter((s.shape_type == "rectangle" for s in shapes), np.bool_, len(shapes))
    for row in np.flatnonzero(~rectangle | (counts != 2)).tolist():
        try:
            own = points[ends[row] - counts[row] : ends[row]]
            _read_shape(shapes[row], own, row, columns, areas, sizes)
        except TilthError as error:
            columns.geometry[row] = _UNUSABLE
            report.add(error.message, "left out", [place(row)])
    return columns


def _read_shape(
    shape: Shape,
    points: NDArray[np.float64],
    row: int,
    columns: ShapeColumns,
    areas: NDArray[np.float64],
    sizes: NDArray[np.int64],
) -> None:
    match shape.shape_type, len(points):
        case "rectangle", 4 if _is_upright(points):
            return
        case "polygon" | "rectangle" | "oriented_rectangle", count if count >= _FEWEST_CORNERS:
            columns.geometry[row] = Geometry.POLYGON
            columns.area[row] = areas[row]
            columns.segmentation[row] = msgspec.json.encode([points.ravel().tolist()])
        case "circle", 2:
            _circle(points, row, columns)
        case "mask", 2:
            runs = _mask_runs(shape, points, sizes[row])
            height, width = sizes[row].tolist()
            columns.geometry[row] = Geometry.RLE
            mask_columns(columns, row, runs, height, width)
        case "polygon" | "rectangle" | "oriented_rectangle" | "circle" | "mask", count:
            raise DataError(f"{shape.shape_type} of {count} points")
        case kind, _:
            raise DataError(f"shape of type '{kind[:40]}', which has no area")


def mask_columns(columns: ShapeColumns, row: int, runs: Runs, height: int, width: int) -> None:
    """Put a mask into a row."""
    columns.boxes[row] = runs.box_xyxy(height)
    columns.area[row] = runs.area
    columns.segmentation[row] = runs_to_json(runs, height, width)


def _around(points: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    boxes = np.zeros((len(counts), 4))
    some = np.flatnonzero(counts)
    if len(some):
        starts = (np.cumsum(counts) - counts)[some]
        boxes[some, :2] = np.minimum.reduceat(points, starts)
        boxes[some, 2:] = np.maximum.reduceat(points, starts)
    return boxes


def _polygon_areas(points: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The area inside each ring of points, by the shoelace formula."""
    areas = np.zeros(len(counts))
    some = np.flatnonzero(counts)
    if len(some):
        ends = np.cumsum(counts)[some]
        starts = ends - counts[some]
        following = np.arange(1, len(points) + 1)
        following[ends - 1] = starts
        # From the ring's own corner: far from the origin the products would lose their digits.
        x, y = (points - np.repeat(points[starts], counts[some], axis=0)).T
        with np.errstate(over="ignore", invalid="ignore"):
            twice = np.add.reduceat(x * y[following] - x[following] * y, starts)
        areas[some] = np.abs(twice) / 2
    return areas


def _is_upright(points: NDArray[np.float64]) -> bool:
    """Whether four corners are those of a box."""
    return all(len(set(values)) == 2 for values in points.T.tolist())


def _circle(points: NDArray[np.float64], row: int, columns: ShapeColumns) -> None:
    (x, y), (edge_x, edge_y) = points.tolist()
    radius = math.hypot(edge_x - x, edge_y - y)
    if not 0 < radius < 2**31:
        raise DataError("circle without a radius, or beyond all pictures")
    corners = ellipse_corners(x, y, radius, radius)
    columns.geometry[row] = Geometry.POLYGON
    columns.boxes[row] = [x - radius, y - radius, x + radius, y + radius]
    columns.area[row] = _polygon_areas(corners, np.array([len(corners)]))[0]
    columns.segmentation[row] = msgspec.json.encode([corners.ravel().tolist()])


def _mask_runs(shape: Shape, points: NDArray[np.float64], size: NDArray[np.int64]) -> Runs:
    height, width = size.tolist()
    if not (height and width):
        raise DataError("mask in a picture of unknown size")
    (x0, y0), (x1, y1) = points.tolist()
    if not (0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height):
        raise DataError("mask that reaches outside its picture")
    left, top, right, bottom = int(x0), int(y0), int(x1), int(y1)  # as LabelMe does
    try:
        png = base64.b64decode(shape.mask or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError("mask that is not Base64") from error
    values = decode_png(png).values
    crop = np.asarray(values.any(axis=2) if values.ndim == 3 else values != 0)
    if crop.shape != (bottom - top + 1, right - left + 1):
        raise DataError("mask that does not fill its box")
    return crop_to_runs(crop, left, top, height)
