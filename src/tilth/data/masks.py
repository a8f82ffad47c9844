"""Masks, polygons and boxes, each made from another without moving an edge.

In the house's pixel-edge coordinates a pixel belongs to a shape if its centre does. A polygon's
part is filled by the even-odd rule, the parts of one object are joined. Tracing goes along pixel
edges, so that a mask that becomes polygons and a mask again is the same mask; a hole is joined to
the ring around it by a bridge of no width, which is the only way to say a hole in parts.
(pycocotools rounds corners to a grid of a fifth of a pixel and draws the line itself: its masks
are up to half a pixel larger on the right and below.)
"""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data import rle
from tilth.errors import DataError

__all__ = ["box_to_rle", "polygons_to_rle", "rle_to_polygons"]

MAX_PIXELS = 2**28
"""Of the box around a shape: what is more is no picture, but an attack on the memory."""


def polygons_to_rle(polygons: bytes, height: int, width: int) -> bytes:
    """The run-length JSON of polygons in JSON.

    Args:
        polygons: ``[[x0, y0, x1, y1, ...], ...]``, the parts of one object, in pixels.
        height, width: of the picture; what lies outside is cut off.

    Raises:
        DataError: not polygons, a number that is not finite, or a size beyond all pictures.
    """
    parts = _parts(polygons)
    _refuse_huge(height, width, parts)
    starts, ends = _union([_part_runs(part, height, width) for part in parts])
    return _to_json(starts, ends, height, width)


def box_to_rle(box_xyxy: NDArray[np.float64], height: int, width: int) -> bytes:
    """The run-length JSON of a filled box, float [4]."""
    if not np.isfinite(box_xyxy).all():
        raise DataError("a box with a number that is not finite", got=str(list(box_xyxy)))
    x0, x1 = np.clip(np.ceil(box_xyxy[[0, 2]] - 0.5), 0, width).astype(np.int64).tolist()
    y0, y1 = np.clip(np.ceil(box_xyxy[[1, 3]] - 0.5), 0, height).astype(np.int64).tolist()
    columns = np.arange(x0, x1 if y1 > y0 else x0, dtype=np.int64) * height
    return _to_json(*_union([(columns + y0, columns + y1)]), height, width)


def rle_to_polygons(segmentation: bytes) -> bytes:
    """The polygons, as JSON, along the pixel edges of a run-length mask in JSON.

    Pixels that touch at a corner only are parts of their own.

    Raises:
        DataError: not a run-length mask, or a size beyond all pictures.
    """
    counts, height, width = rle.from_json(segmentation)
    ends = np.cumsum(counts)
    if (counts < 0).any() or (len(ends) and int(ends[-1]) != height * width):
        raise DataError(
            "the runs do not fill the picture",
            expected=f"{height} x {width} = {height * width}",
            got=str(int(ends[-1])),
        )
    mask, x0, y0 = _cut_out(counts, height)
    if not mask.any():
        return b"[]"
    rings = _rings(mask)
    return msgspec.json.encode([_flat(ring, x0, y0) for ring in _without_holes(mask, rings)])


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


def _refuse_huge(height: int, width: int, parts: list[NDArray[np.float64]]) -> None:
    for part in parts:
        spans = np.clip(part.max(axis=0), 0, (width, height)) - np.clip(
            part.min(axis=0), 0, (width, height)
        )
        if (spans[0] + 1) * (spans[1] + 1) > MAX_PIXELS:
            raise DataError(
                "a shape beyond the size of all pictures",
                expected=f"at most {MAX_PIXELS} pixels around it",
                got=f"{spans[0]:.0f} x {spans[1]:.0f}",
            )


Runs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Starts and ends of runs of ones, in column-major order of the whole picture."""


def _part_runs(corners: NDArray[np.float64], height: int, width: int) -> Runs:
    """The pixels whose centres are inside one part, by the even-odd rule."""
    following = np.roll(corners, -1, axis=0)
    # From left to right, whichever way the edge is drawn: a bridge there and back cancels exactly.
    flipped = following[:, 0] < corners[:, 0]
    left = np.where(flipped[:, None], following, corners)
    right = np.where(flipped[:, None], corners, following)
    first = np.clip(np.ceil(left[:, 0] - 0.5), 0, width).astype(np.int64)
    stop = np.clip(np.ceil(right[:, 0] - 0.5), 0, width).astype(np.int64)
    counts = stop - first  # columns whose centre the edge crosses
    edge = np.repeat(np.arange(len(corners)), counts)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    if not len(edge):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    slope = (right[edge, 1] - left[edge, 1]) / (right[edge, 0] - left[edge, 0])
    y = left[edge, 1] + slope * (column + 0.5 - left[edge, 0])
    row = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)
    # Within a column the crossings in order are start, end, start, end, ...
    order = np.lexsort((row, column))
    place = (column * height + row)[order]
    starts, ends = place[0::2], place[1::2]
    real = ends > starts
    return starts[real], ends[real]


def _union(parts: list[Runs]) -> Runs:
    """Runs that overlap or touch, joined."""
    starts = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
    ends = np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)])
    if not len(starts):
        return starts, ends
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    opens = np.concatenate([[True], starts[1:] > ends[:-1]])
    return starts[opens], np.append(ends[:-1][opens[1:]], ends[-1])


def _to_json(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int, width: int) -> bytes:
    bounds = np.empty(2 * len(starts) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, height * width
    bounds[1:-1:2], bounds[2:-1:2] = starts, ends
    counts = np.diff(bounds)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]  # as COCO writes it: nothing after the last one
    text = rle.to_text(counts).decode()
    return msgspec.json.encode({"size": [height, width], "counts": text})


def _cut_out(counts: NDArray[np.int64], height: int) -> tuple[NDArray[np.uint8], int, int]:
    """The mask inside its box, uint8 [h, w], and the place of the box: left and top."""
    x0, y0, x1, y1 = rle.box_xyxy(counts, height).astype(np.int64).tolist()
    if (x1 - x0) * (y1 - y0) > MAX_PIXELS:
        raise DataError(
            "a mask beyond the size of all pictures",
            expected=f"at most {MAX_PIXELS} pixels around it",
            got=f"{x1 - x0} x {y1 - y0}",
        )
    bounds = np.cumsum(counts)
    starts = bounds[:-1:2] if len(bounds) > 1 else bounds[:0]
    ends = bounds[1::2]
    # Each run adds one at its start and takes it back at its end, counted from the box's columns.
    toggles = np.zeros((x1 - x0) * height + 1, dtype=np.int8)
    np.add.at(toggles, starts - x0 * height, 1)
    np.add.at(toggles, ends - x0 * height, -1)
    columns = np.cumsum(toggles[:-1], dtype=np.int8).reshape(x1 - x0, height)
    return np.ascontiguousarray(columns[:, y0:y1].T).view(np.uint8), x0, y0


def _rings(mask: NDArray[np.uint8]) -> list[list[tuple[int, int]]]:
    """Closed ways around the pixels, as corners (x, y), along pixel edges.

    A corner is a place where the number of pixels around it is odd, or where two touch diagonally
    (that is two corners). Corners in one row, from left to right, are in pairs the ends of
    horizontal edges; corners in one column those of vertical edges. Following one and the other in
    turn goes round.
    """
    around = np.pad(mask, 1)
    tl, tr, bl, br = around[:-1, :-1], around[:-1, 1:], around[1:, :-1], around[1:, 1:]
    odd = ((tl + tr + bl + br) & 1).astype(np.bool_)
    falling, rising = (tl & br) > (tr | bl), (tr & bl) > (tl | br)  # \ and / diagonals
    ys, xs = np.nonzero(odd)
    fy, fx = np.nonzero(falling)
    ry, rx = np.nonzero(rising)
    y = np.concatenate([ys, fy, fy, ry, ry])
    x = np.concatenate([xs, fx, fx, rx, rx])
    # Of two corners in one place, which comes first along the row, and along the column:
    # \ pairs left with up and right with down, / pairs left with down and right with up.
    along_row = np.repeat([0, 0, 1, 0, 1], [len(ys), len(fy), len(fy), len(ry), len(ry)])
    along_column = np.repeat([0, 0, 1, 1, 0], [len(ys), len(fy), len(fy), len(ry), len(ry)])
    horizontal = _partners(np.lexsort((along_row, x, y)))
    vertical = _partners(np.lexsort((along_column, y, x)))
    return _walk(x.tolist(), y.tolist(), horizontal.tolist(), vertical.tolist())


def _partners(order: NDArray[np.int64]) -> NDArray[np.int64]:
    partner = np.empty(len(order), dtype=np.int64)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return partner


def _walk(
    x: list[int], y: list[int], horizontal: list[int], vertical: list[int]
) -> list[list[tuple[int, int]]]:
    seen = bytearray(len(x))
    rings = []
    for start in sorted(range(len(x)), key=lambda corner: (y[corner], x[corner])):
        if seen[start]:
            continue
        ring, corner = [], start
        while not seen[corner]:
            across = horizontal[corner]
            seen[corner] = seen[across] = 1
            ring += [(x[corner], y[corner]), (x[across], y[across])]
            corner = vertical[across]
        rings.append(ring)
    return rings


def _without_holes(
    mask: NDArray[np.uint8], rings: list[list[tuple[int, int]]]
) -> list[list[tuple[int, int]]]:
    """The outer rings, each with the holes of its part hung in by bridges of no width."""
    height, width = mask.shape

    def is_set(x: int, y: int) -> bool:
        return 0 <= y < height and 0 <= x < width and bool(mask[y, x])

    # The first corner of a ring is its leftmost of the top row: inside lies to the right below.
    outer = [ring for ring in rings if is_set(*ring[0])]
    holes = [ring for ring in rings if not is_set(*ring[0])]
    if not holes:
        return outer
    _, labels = cv2.connectedComponents(mask, connectivity=4)
    by_part = {labels[ring[0][1], ring[0][0]]: ring for ring in outer}
    for hole in holes:
        x, y = hole[0]
        ring = by_part[labels[y - 1, x]]  # above the top edge of a hole lies the part it is in
        # Against the sense of the ring, so that its area is taken away in every fill rule.
        ring += [ring[0], hole[0], *reversed(hole)]
    return outer


def _flat(ring: list[tuple[int, int]], x0: int, y0: int) -> list[int]:
    return [value for x, y in ring for value in (x + x0, y + y0)]
