"""Masks, polygons and boxes, each made from another without moving an edge.

In the house's pixel-edge coordinates a pixel belongs to a shape if its centre does; a centre on an
edge belongs to the shape to its right and below. A polygon's part is filled by the even-odd rule,
the parts of one object are joined. Tracing goes along pixel edges, so that a mask that becomes
polygons and a mask again is the same mask; a hole is joined to the ring around it by a bridge of no
width, which is the only way to say a hole in parts.

pycocotools rounds corners to a fifth of a pixel and lets the drawn line decide. On the 929 polygons
of coco128 its masks and these have a mean IoU of 0.990 (0.9986 weighted by area) and the same area
on the whole; polygons that were traced from masks it fills just as they are filled here, bridges
included.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.outlines import MOST_COLUMNS, outlines
from tilth.data.runs import Runs, join, runs_from_json, runs_to_json, spans
from tilth.errors import DataError

__all__ = ["box_to_rle", "polygons_to_rle", "rle_to_polygons"]


def polygons_to_rle(polygons: bytes, height: int, width: int) -> bytes:
    """The run-length JSON of polygons in JSON.

    Args:
        polygons: ``[[x0, y0, x1, y1, ...], ...]``, the parts of one object, in pixels.
        height, width: of the picture; what lies outside is cut off.

    Raises:
        DataError: not polygons, a number that is not finite, or a size beyond all pictures.
    """
    parts = _parts(polygons)
    runs = join([_part_runs(part, height, width) for part in parts])
    return runs_to_json(runs, height, width)


def box_to_rle(box_xyxy: NDArray[np.float64], height: int, width: int) -> bytes:
    """The run-length JSON of a filled box, float [4]."""
    if not np.isfinite(box_xyxy).all():
        raise DataError("a box with a number that is not finite", got=str(list(box_xyxy)))
    x0, x1 = np.clip(np.ceil(box_xyxy[[0, 2]] - 0.5), 0, width).astype(np.int64).tolist()
    y0, y1 = np.clip(np.ceil(box_xyxy[[1, 3]] - 0.5), 0, height).astype(np.int64).tolist()
    _refuse_huge(x1 - x0)
    columns = np.arange(x0, x1 if y1 > y0 else x0, dtype=np.int64) * height
    return runs_to_json(join([Runs(columns + y0, columns + y1)]), height, width)


def rle_to_polygons(segmentation: bytes) -> bytes:
    """The polygons, as JSON, along the pixel edges of a run-length mask in JSON.

    Pixels that touch at a corner only are parts of their own.

    Raises:
        DataError: not a run-length mask, or a size beyond all pictures.
    """
    runs, height, _ = runs_from_json(segmentation)
    return msgspec.json.encode(outlines(runs, height))


def _parts(polygons: bytes) -> list[NDArray[np.float64]]:
    """Each part float64 [n, 2]; those of fewer than three corners have no inside."""
    try:
        parts = msgspec.json.decode(polygons, type=list[list[float]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            "not polygons",
            expected="[[x0, y0, x1, y1, ...], ...]",
            got=polygons[:80].decode(errors="replace"),
        ) from error
    arrays = []
    for part in parts:
        corners = np.array(part[: len(part) // 2 * 2], dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(corners).all() or (np.abs(corners) > 2.0**52).any():
            raise DataError("a polygon with a number that is no place in a picture")
        if len(corners) >= 3:
            arrays.append(corners)
    return arrays


def _refuse_huge(count: int) -> None:
    if count > MOST_COLUMNS:
        raise DataError(
            "a shape beyond the size of all pictures",
            expected=f"at most {MOST_COLUMNS:,} columns, counted for each of its edges",
            got=f"{count:,}",
        )


def _part_runs(corners: NDArray[np.float64], height: int, width: int) -> Runs:
    """The pixels whose centres are inside one part, by the even-odd rule."""
    x, y = corners.T
    next_x, next_y = np.append(x[1:], x[:1]), np.append(y[1:], y[:1])
    # From left to right, whichever way the edge is drawn: a bridge there and back cancels exactly.
    flipped = next_x < x
    left, left_y = np.where(flipped, next_x, x), np.where(flipped, next_y, y)
    right, right_y = np.where(flipped, x, next_x), np.where(flipped, y, next_y)
    first = np.clip(np.ceil(left - 0.5), 0, width).astype(np.int64)
    stop = np.clip(np.ceil(right - 0.5), 0, width).astype(np.int64)
    counts = stop - first  # columns whose centre the edge crosses
    _refuse_huge(int(counts.sum()))
    edge = np.repeat(np.arange(len(corners)), counts)
    column = spans(first, stop)
    slope = (right_y[edge] - left_y[edge]) / (right[edge] - left[edge])
    crossing = left_y[edge] + slope * (column + 0.5 - left[edge])
    row = np.clip(np.ceil(crossing - 0.5), 0, height).astype(np.int64)
    # Within a column the crossings in order are start, end, start, end, ...
    places = np.sort(column * height + row)
    starts, ends = places[0::2], places[1::2]
    some = ends > starts
    return Runs(starts[some], ends[some])
