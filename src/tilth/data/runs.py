"""Masks as the runs of pixels inside them: what overlaps, joins and boxes are worked out on.

A run is a start and an end in the column-major order of the whole picture, as in COCO's run-length
code. No pixel is allocated: a mask of a thousand million pixels costs what its runs cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilth.data import rle
from tilth.errors import DataError

__all__ = ["Runs", "all_to_json", "join", "runs_from_json", "runs_to_json", "spans"]

MOST_PIXELS = 2**60  # of a picture: so that places in it are 64-bit numbers


class Runs(NamedTuple):
    """Sorted, apart from each other, none empty.

    Attributes:
        starts, ends: int64 [r], places in column-major order; the end is outside.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def area(self) -> int:
        """Pixels inside."""
        return int((self.ends - self.starts).sum())

    def box_xyxy(self, height: int) -> NDArray[np.float64]:
        """The smallest box float64 [4] around them, in pixel edges; zeros where there are none."""
        if not len(self.starts):
            return np.zeros(4)
        last = self.ends - 1
        left, right = int(self.starts[0]) // height, int(last[-1]) // height
        if (self.starts // height != last // height).any():  # on into the next column
            return np.array([left, 0, right + 1, height], dtype=np.float64)
        top, bottom = int((self.starts % height).min()), int((last % height).max())
        return np.array([left, top, right + 1, bottom + 1], dtype=np.float64)


def runs_from_json(segmentation: bytes) -> tuple[Runs, int, int]:
    """Runs, height and width of a run-length mask in JSON.

    Raises:
        DataError: not a run-length mask, or runs that do not fill its picture.
    """
    try:
        counts, height, width = rle.from_json(segmentation)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(
            "not a run-length mask", got=segmentation[:80].decode(errors="replace")
        ) from error
    size = f"{height} x {width}"
    if height < 0 or width < 0 or height * width > MOST_PIXELS:
        raise DataError("a mask of an impossible size", got=size[:80])
    if counts.ndim != 1 or (counts < 0).any() or (counts > height * width).any():
        raise DataError("a mask with a run that is no number of pixels", got=size)
    bounds = np.cumsum(counts)
    if (np.diff(bounds) < 0).any() or (int(bounds[-1]) if len(bounds) else 0) != height * width:
        raise DataError(
            "the runs do not fill the picture",
            expected=f"{size} = {height * width}",
            got=str(int(bounds[-1])) if len(bounds) else "no runs",
        )
    ends = bounds[1::2]
    starts = bounds[: 2 * len(ends) : 2]
    return join([Runs(starts, ends)]), height, width


def runs_to_json(runs: Runs, height: int, width: int) -> bytes:
    """The run-length mask in JSON, its counts as COCO's text."""
    bounds = np.empty(2 * len(runs.starts) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, height * width
    bounds[1:-1:2], bounds[2:-1:2] = runs
    counts = np.diff(bounds)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]  # as COCO writes it: nothing after the last one
    return _json(rle.to_text(counts), height, width)


def all_to_json(shapes: Sequence[Runs], height: int, width: int) -> list[bytes]:
    """The run-length masks in JSON of all shapes of a picture."""
    if not shapes:
        return []
    lengths = np.fromiter((len(shape.starts) for shape in shapes), np.int64, len(shapes))
    # Of each shape 0, the ends of its runs, and the last pixel; between them are the counts.
    sizes = 2 * lengths + 2
    lasts = np.cumsum(sizes) - 1
    bounds = np.zeros(int(sizes.sum()), dtype=np.int64)
    shape_of = np.repeat(np.arange(len(shapes)), lengths)
    at = 2 * (np.arange(len(shape_of)) + shape_of) + 1
    bounds[at] = np.concatenate([shape.starts for shape in shapes])
    bounds[at + 1] = np.concatenate([shape.ends for shape in shapes])
    bounds[lasts] = height * width
    counts = np.diff(bounds, append=0)
    # Nothing after the last one, as above.
    empty_end = (counts[lasts - 1] == 0) & (sizes > 2)
    keep = np.ones(len(bounds), dtype=np.bool_)
    keep[lasts] = False
    keep[lasts[empty_end] - 1] = False
    offsets = np.concatenate([[0], np.cumsum(sizes - 1 - empty_end)])
    return [_json(text, height, width) for text in rle.to_texts(counts[keep], offsets)]


def _json(text: bytes, height: int, width: int) -> bytes:
    # Of the characters of the code, from 0 to o, only the backslash is special in JSON.
    escaped = text.replace(b"\\", b"\\\\")
    return b'{"size":[%d,%d],"counts":"%b"}' % (height, width, escaped)


def join(parts: Sequence[Runs]) -> Runs:
    """What lies in any of the parts; runs that overlap or touch become one."""
    starts = np.concatenate([np.empty(0, np.int64), *(part.starts for part in parts)])
    ends = np.concatenate([np.empty(0, np.int64), *(part.ends for part in parts)])
    some = ends > starts
    if not some.all():
        starts, ends = starts[some], ends[some]
    if not len(starts):
        return Runs(starts, ends)
    if len(parts) > 1:
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], np.maximum.accumulate(ends[order])
    opens = np.flatnonzero(starts[1:] > ends[:-1])
    return Runs(starts[np.append(0, opens + 1)], ends[np.append(opens, len(ends) - 1)])


def spans(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """All numbers of the ranges ``starts[i]`` to ``ends[i]`` (outside), one after the other.

    >>> spans(np.array([2, 7]), np.array([4, 8])).tolist()
    [2, 3, 7]
    """
    lengths = ends - starts
    offsets = starts - (np.cumsum(lengths) - lengths)
    return np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(offsets, lengths)
