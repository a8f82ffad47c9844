"""Many polygons as flat arrays: out of their JSON and back, without a Python number each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.data.formats._text_columns import column
from tilth.data.ragged import RaggedBytes
from tilth.errors import DataError

__all__ = ["Polygons", "polygons_of_json"]

_IS_MARK = np.zeros(256, dtype=np.bool_)
_IS_MARK[list(b"[], \t\r\n")] = True
_CLOSES = ord("]")


@dataclass(frozen=True)
class Polygons:
    """Parts of corners, and rows of parts.

    Attributes:
        numbers: float64, x and y in turn.
        part_first: int64 [p + 1]; part i has the numbers ``part_first[i]:part_first[i + 1]``.
        row_first: int64 [m + 1]; row i has the parts ``row_first[i]:row_first[i + 1]``.
    """

    numbers: NDArray[np.float64]
    part_first: NDArray[np.int64]
    row_first: NDArray[np.int64]

    @property
    def parts(self) -> NDArray[np.int64]:
        """int64 [m]: parts in each row."""
        return np.diff(self.row_first)

    @property
    def number_first(self) -> NDArray[np.int64]:
        """int64 [m + 1]: the first number of each row."""
        return self.part_first[self.row_first]

    def boxes_xyxy(self) -> NDArray[np.float64]:
        """float64 [m, 4]: the box around each row; every part has whole corners, every row one."""
        starts = self.number_first[:-1] // 2
        x, y = self.numbers[0::2], self.numbers[1::2]
        if not len(starts):
            return np.zeros((0, 4))
        low = (np.minimum.reduceat(side, starts) for side in (x, y))
        high = (np.maximum.reduceat(side, starts) for side in (x, y))
        return np.stack([*low, *high], axis=1)

    def areas(self) -> NDArray[np.float64]:
        """float64 [m]: the areas of the parts (shoelace formula), summed."""
        x, y = self.numbers[0::2], self.numbers[1::2]
        if not len(x):
            return np.zeros(len(self.parts))
        starts = self.part_first[:-1] // 2
        following = np.arange(1, len(x) + 1)
        following[self.part_first[1:] // 2 - 1] = starts
        turns = x * y[following] - x[following] * y
        parts = np.abs(np.add.reduceat(turns, starts)) / 2
        return np.add.reduceat(parts, self.row_first[:-1])

    def to_json(self) -> RaggedBytes:
        """``[[x0,y0,x1,y1,...],...]`` of each row."""
        inside = _bracketed(column(self.numbers), self.part_first)
        texts = _bracketed(inside, self.row_first)
        _, offsets, data = texts.buffers()
        bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        return RaggedBytes(bytes(data or b""), bounds.copy())


def _bracketed(texts: pa.LargeStringArray, first: NDArray[np.int64]) -> pa.LargeStringArray:
    lists = pa.LargeListArray.from_arrays(pa.array(first), texts)
    comma, nothing, start, end = (
        pa.scalar(mark, pa.large_string()) for mark in (",", "", "[", "]")
    )
    joined = pc.binary_join(lists, comma)
    return pc.binary_join_element_wise(start, joined, end, nothing)


def polygons_of_json(texts: Sequence[bytes | None]) -> Polygons:
    """Polygons from their JSON; parts without a number vanish.

    Raises:
        DataError: anything but lists of lists of numbers.
    """
    packed = RaggedBytes.of(texts).packed()
    buffer = np.frombuffer(packed.data, dtype=np.uint8)
    mark = _IS_MARK[buffer]
    edges = np.flatnonzero(np.diff(mark, prepend=True, append=True))
    starts, ends = edges[0::2], edges[1::2]
    offsets = np.zeros(len(starts) + 1, dtype=np.int64)
    np.cumsum(ends - starts, out=offsets[1:])
    words = pa.LargeStringArray.from_buffers(
        len(starts), pa.py_buffer(offsets), pa.py_buffer(buffer[~mark])
    )
    try:
        numbers = pc.cast(words, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise DataError("not polygons", expected="[[x0, y0, x1, y1, ...], ...]") from error
    closing = np.searchsorted(starts, np.flatnonzero(buffer == _CLOSES))
    part_first = np.unique(np.concatenate([[0], closing, [len(starts)]]))
    row_first = np.searchsorted(part_first, np.searchsorted(starts, packed.offsets))
    return Polygons(numbers, part_first.astype(np.int64), row_first.astype(np.int64))
