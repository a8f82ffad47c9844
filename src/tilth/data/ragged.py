"""Byte strings of varying length as two arrays, so that a million polygons are not objects."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["RaggedBytes", "take_bytes"]

_BLOCK = 10_000


class RaggedBytes(Sequence["bytes | None"]):
    """A read-only sequence of byte strings over one buffer; an entry becomes bytes when asked for.

    An empty entry stands for None: what is stored here is JSON, of which no text is empty.

    Args:
        data: the strings, one after the other.
        offsets: int64 [m + 1]; entry i is ``data[offsets[i]:offsets[i + 1]]``.

    >>> ragged = RaggedBytes.of([b"[1]", None, b"{}"])
    >>> ragged[0], ragged[1], len(ragged)
    (b'[1]', None, 3)
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: bytes | memoryview, offsets: NDArray[np.int64]) -> None:
        self.data = data
        self.offsets = offsets

    @classmethod
    def of(cls, items: Iterable[Any]) -> RaggedBytes:
        """Pack bytes-like ``items`` or None; packed ones are returned as they are."""
        if isinstance(items, RaggedBytes):
            return items
        parts = [bytes(item) if item else b"" for item in items]
        return cls(b"".join(parts), _offsets(np.fromiter(map(len, parts), np.int64, len(parts))))

    @classmethod
    def empty(cls, length: int) -> RaggedBytes:
        """``length`` entries that are None."""
        return cls(b"", np.zeros(length + 1, dtype=np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[RaggedBytes]) -> RaggedBytes:
        """The entries of all ``parts``, one after the other."""
        lengths = np.concatenate([np.empty(0, dtype=np.int64), *(part.lengths for part in parts)])
        return cls(b"".join([part.packed().data for part in parts]), _offsets(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> bytes | None: ...
    @overload
    def __getitem__(self, index: slice) -> RaggedBytes: ...
    def __getitem__(self, index: int | slice) -> bytes | RaggedBytes | None:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = range(len(self))[index]
        return bytes(self.data[self.offsets[row] : self.offsets[row + 1]]) or None

    def __iter__(self) -> Iterator[bytes | None]:
        data = self.data
        for start in range(0, len(self), _BLOCK):  # bounds as plain integers, a block at a time
            bounds = self.offsets[start : start + _BLOCK + 1].tolist()
            for begin, end in pairwise(bounds):
                yield bytes(data[begin:end]) or None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RaggedBytes):
            return bool(np.array_equal(self.lengths, other.lengths)) and (
                self.packed().data == other.packed().data
            )
        if isinstance(other, Sequence) and not isinstance(other, (str, bytes)):
            return len(self) == len(other) and all(
                mine == theirs for mine, theirs in zip(self, other, strict=True)
            )
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [m]: bytes in each entry, 0 for None."""
        return np.diff(self.offsets)

    def packed(self) -> RaggedBytes:
        """The same entries over a buffer that starts at 0 and holds nothing else."""
        start, end = int(self.offsets[0]), int(self.offsets[-1])
        if start == 0 and end == len(self.data):
            return self
        return RaggedBytes(memoryview(self.data)[start:end], self.offsets - start)

    def take(self, rows: NDArray[np.int64]) -> RaggedBytes:
        """The entries of these rows, in this order."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return RaggedBytes(self.data, self.offsets[rows[0] : rows[0] + len(rows) + 1]).packed()
        data, stream = self.data, io.BytesIO()
        for at in range(0, len(rows), _BLOCK):
            block = rows[at : at + _BLOCK]
            bounds = zip(
                self.offsets[block].tolist(), self.offsets[block + 1].tolist(), strict=True
            )
            stream.write(b"".join([data[start:end] for start, end in bounds]))
        return RaggedBytes(stream.getvalue(), _offsets(self.lengths[rows]))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def take_bytes(items: Sequence[bytes | None], rows: NDArray[np.int64]) -> Sequence[bytes | None]:
    """The entries of these rows, packed if ``items`` are packed."""
    if isinstance(items, RaggedBytes):
        return items.take(rows)
    return [items[row] for row in rows.tolist()]
