"""Outlines of a mask along the edges of its pixels, traced from its runs.

A corner of the outline is a place where the runs of two neighbouring columns do not go on alike.
Corners in one row, from left to right, are in pairs the ends of horizontal edges; corners in one
column, from above, those of vertical ones; following one and the other in turn goes round. Where
two pixels touch at a corner only, there are two corners in one place, one for each: such pixels
are parts of their own (connectivity of four), and holes that touch so are one (of eight).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.data.runs import Runs, spans
from tilth.errors import DataError

__all__ = ["outlines"]

MOST_COLUMNS = 2**24  # in which a mask has pixels, one column counted for each of its runs there


def outlines(runs: Runs, height: int) -> list[list[int]]:
    """A ring ``[x0, y0, x1, y1, ...]`` for each part, its holes hung in by bridges of no width.

    A bridge goes from the ring's first corner to the hole's and back on the same line, so that
    filling crosses it twice and sees nothing; the hole is gone round against the ring's sense.

    Raises:
        DataError: a mask beyond the size of all pictures.
    """
    if not len(runs.starts):
        return []
    segments = _segments(runs, height)
    corners = _corners(segments)
    rings = _rings(corners)
    outer = {ring[0]: ring for ring in rings if corners.opens[ring[0]]}
    holes = [ring for ring in rings if not corners.opens[ring[0]]]
    for hole, around in zip(holes, _parts_around(holes, rings, corners, segments), strict=True):
        outer[around] += [around, hole[0], *reversed(hole)]
    places = np.stack([corners.x, corners.y], axis=1)
    return [places[ring].ravel().tolist() for ring in outer.values()]


@dataclass(frozen=True)
class _Segments:
    """Runs cut at the columns, sorted by column and row: int64 [s] each."""

    column: NDArray[np.int64]
    top: NDArray[np.int64]
    bottom: NDArray[np.int64]


@dataclass(frozen=True)
class _Corners:
    """Corners of all rings, [c] each.

    Attributes:
        x, y: int64.
        opens: bool, whether the pixel to the right below is in the mask, where a ring begins.
        across, along: int64, the corner at the other end of the horizontal and vertical edge.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    opens: NDArray[np.bool_]
    across: NDArray[np.int64]
    along: NDArray[np.int64]


def _segments(runs: Runs, height: int) -> _Segments:
    first, last = runs.starts // height, (runs.ends - 1) // height
    count = int((last - first + 1).sum())
    if count > MOST_COLUMNS:
        raise DataError(
            "a mask beyond the size of all pictures",
            expected=f"at most {MOST_COLUMNS:,} runs, counted column by column",
            got=f"{count:,}",
        )
    column = spans(first, last + 1)
    run = np.repeat(np.arange(len(first)), last - first + 1)
    top = np.maximum(runs.starts[run] - column * height, 0)
    bottom = np.minimum(runs.ends[run] - column * height, height)
    return _Segments(column, top, bottom)


def _corners(segments: _Segments) -> _Corners:
    # Every end of a segment may be a corner at both sides of its column.
    count = len(segments.column)
    x = np.concatenate([np.tile(segments.column, 2), np.tile(segments.column + 1, 2)])
    y = np.tile(np.concatenate([segments.top, segments.bottom]), 2)
    is_top = np.tile(np.repeat([True, False], count), 2)
    is_left = np.repeat([True, False], 2 * count)  # of its column, which is to the right then
    order = np.lexsort((is_left, y, x))
    x, y, is_top, is_left = x[order], y[order], is_top[order], is_left[order]
    # Two in one place, of the columns to the left and to the right of it:
    # ends alike are one edge that goes on, ends unlike two pixels that touch at a corner.
    twin = (x[1:] == x[:-1]) & (y[1:] == y[:-1])
    alike = twin & (is_top[1:] == is_top[:-1])
    goes_on = np.append(alike, False) | np.append(False, alike)
    x, y, is_top, is_left = x[~goes_on], y[~goes_on], is_top[~goes_on], is_left[~goes_on]
    # Two that are left are told apart by where their edges lead: to the left, the one whose column
    # is to the left, and up, the one whose segment comes from above.
    across = _partners(np.lexsort((is_left, x, y)))
    along = _partners(np.lexsort((is_top, y, x)))
    return _Corners(x=x, y=y, opens=is_top & is_left, across=across, along=along)


def _partners(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The other one of each pair in ``order``."""
    partner = np.empty(len(order), dtype=np.int64)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return partner


def _rings(corners: _Corners) -> list[list[int]]:
    """The corners of each ring, from its leftmost in its top row to the right."""
    across, along = corners.across.tolist(), corners.along.tolist()
    seen = bytearray(len(across))
    rings = []
    for start in np.lexsort((corners.x, corners.y)).tolist():
        if seen[start]:
            continue
        ring: list[int] = []
        corner = start
        while not seen[corner]:
            other = across[corner]
            seen[corner] = seen[other] = 1
            ring += (corner, other)
            corner = along[other]
        rings.append(ring)
    return rings


def _parts_around(
    holes: list[list[int]], rings: list[list[int]], corners: _Corners, segments: _Segments
) -> list[int]:
    """The first corner of the outer ring of the part that each hole lies in.

    The segment that ends at a hole's top begins at the part's outer ring, or at another hole of
    the same part, further up.
    """
    if not holes:
        return []
    ring_of = np.empty(len(corners.x), dtype=np.int64)
    for ring in rings:
        ring_of[ring] = ring[0]
    tops = np.array([hole[0] for hole in holes])
    rows = _rows_of((segments.column, segments.bottom), (corners.x[tops], corners.y[tops]))
    left = np.flatnonzero(corners.x < corners.x[corners.across])
    left = left[np.lexsort((corners.x[left], corners.y[left]))]
    edges = _rows_of((corners.y[left], corners.x[left]), (segments.top[rows], corners.x[tops]))
    above: dict[int, int] = dict(zip(tops.tolist(), ring_of[left[edges]].tolist(), strict=True))
    around: dict[int, int] = {}
    for hole in above:  # from the top down: what lies above is settled already
        around[hole] = around.get(above[hole], above[hole])
    return list(around.values())


def _rows_of(
    sorted_pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    wanted: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """The last row of the sorted pairs that is not beyond each wanted pair."""
    firsts, seconds = sorted_pairs
    scale = int(max(seconds.max(), wanted[1].max())) + 1
    return np.searchsorted(firsts * scale + seconds, wanted[0] * scale + wanted[1], "right") - 1
