"""Label maps: pictures in which a pixel's value says which object or class it belongs to.

A map comes apart into the masks of all its values in one pass over its pixels, and masks are laid
over each other, the later ones on top, to become a map. What is hidden is counted, not lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.data.runs import Runs, join, spans
from tilth.errors import DataError

__all__ = ["MAX_MAP_PIXELS", "Layers", "label_map", "lay_over", "runs_of_values"]

MAX_MAP_PIXELS = 2**28
"""Of one map, half a gigabyte in 16 bits; a larger one is refused before it is made."""
MAX_MAP_RUNS = 2**24  # noise, not a map; a file that small can hold ever so many


def runs_of_values(values: NDArray[Any]) -> dict[int, Runs]:
    """The pixels of each value of a map, in the order of the values.

    Args:
        values: integers [h, w].

    Raises:
        DataError: more runs than a map of objects has.

    >>> found = runs_of_values(np.array([[0, 2], [2, 2]]))
    >>> [(value, runs.starts.tolist(), runs.ends.tolist()) for value, runs in found.items()]
    [(0, [0], [1]), (2, [1], [4])]
    """
    column_major = np.ascontiguousarray(values.T).ravel()
    if not column_major.size:
        return {}
    changes = column_major[1:] != column_major[:-1]
    if (count := int(np.count_nonzero(changes))) > MAX_MAP_RUNS:
        raise DataError(
            "a picture that changes its value too often for a label map",
            expected=f"at most {MAX_MAP_RUNS:,} runs of pixels",
            got=f"{count:,}",
        )
    bounds = np.concatenate([[0], np.flatnonzero(changes) + 1, [column_major.size]])
    return _by_value(column_major[bounds[:-1]], bounds)


def _by_value(values: NDArray[Any], bounds: NDArray[np.int64]) -> dict[int, Runs]:
    """The runs of each value; value i reaches from ``bounds[i]`` to ``bounds[i + 1]``."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts, ends = bounds[:-1][order], bounds[1:][order]
    edges = np.concatenate(
        [[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, [len(ordered)]]
    ).tolist()
    return {
        int(ordered[first]): Runs(starts[first:stop], ends[first:stop])
        for first, stop in pairwise(edges)
    }


def label_map(
    shapes: Sequence[Runs], values: Sequence[int], height: int, width: int, dtype: type[Any]
) -> NDArray[Any]:
    """The map [h, w] of shapes that do not overlap; 0 where there is none.

    Raises:
        DataError: larger than ``MAX_MAP_PIXELS``, or shapes that overlap.
    """
    if height * width > MAX_MAP_PIXELS:
        raise DataError(
            "a mask beyond the size of all pictures",
            expected=f"at most {MAX_MAP_PIXELS:,} pixels",
            got=f"{width} x {height}",
        )
    starts = np.concatenate([np.empty(0, np.int64), *(shape.starts for shape in shapes)])
    ends = np.concatenate([np.empty(0, np.int64), *(shape.ends for shape in shapes)])
    order = np.argsort(starts, kind="stable")
    bounds = np.zeros(2 * len(starts) + 2, dtype=np.int64)
    bounds[1:-1:2], bounds[2:-1:2], bounds[-1] = starts[order], ends[order], height * width
    lengths = np.diff(bounds)
    if (lengths < 0).any():
        raise DataError("masks that overlap, or leave their picture, have no place in one map")
    filled = np.zeros(len(lengths), dtype=dtype)
    counts = [len(shape.starts) for shape in shapes]
    filled[1::2] = np.repeat(np.asarray(values, dtype=dtype), counts)[order]
    return np.repeat(filled, lengths).reshape(width, height).T


@dataclass(frozen=True)
class Layers:
    """What is seen of shapes that were laid over each other.

    Attributes:
        seen: the runs of each shape that no other covers.
        hidden: (the shape on top, the one that it was laid on) -> pixels.
    """

    seen: list[Runs]
    hidden: dict[tuple[int, int], int]


def lay_over(shapes: Sequence[Runs]) -> Layers:
    """Lay shapes over each other, the last one on top."""
    ends = np.concatenate([np.empty(0, np.int64), *(shape.ends for shape in shapes)])
    starts = np.concatenate([np.empty(0, np.int64), *(shape.starts for shape in shapes)])
    if int((ends - starts).sum()) == join(shapes).area:
        return Layers(seen=list(shapes), hidden={})
    # Between two neighbouring bounds nothing changes: such a stretch stands for its pixels.
    bounds = np.unique(np.concatenate([starts, ends]))
    pixels = np.diff(bounds)
    owner = np.full(len(pixels), -1, dtype=np.int64)
    hidden: dict[tuple[int, int], int] = {}
    for at, shape in enumerate(shapes):
        stretches = spans(*(np.searchsorted(bounds, side) for side in shape))
        under = owner[stretches]
        covered = np.zeros(len(shapes) + 1, dtype=np.int64)
        np.add.at(covered, under, pixels[stretches])  # -1, which is nobody's, is the last place
        for below in np.flatnonzero(covered[:-1]).tolist():
            hidden[at, below] = int(covered[below])
        owner[stretches] = at
    found = _by_value(owner, bounds)
    none = Runs(np.empty(0, np.int64), np.empty(0, np.int64))
    seen = [join([found[at]]) if at in found else none for at in range(len(shapes))]
    return Layers(seen=seen, hidden=hidden)
