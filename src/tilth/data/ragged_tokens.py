"""Token numbers of many texts as two arrays, and their padded batches without a loop over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RaggedTokens"]


@dataclass(frozen=True, eq=False)
class RaggedTokens:
    """The tokens of n texts, one text after the other.

    Attributes:
        values: int32 [m].
        offsets: int64 [n + 1]; text i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of_lengths(cls, values: NDArray[np.int32], lengths: NDArray[np.int64]) -> RaggedTokens:
        """Texts of these lengths, which add up to the number of values."""
        return cls(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[RaggedTokens]) -> RaggedTokens:
        """The texts of all ``parts``, one after the other."""
        empty = np.empty(0, dtype=np.int32)
        values = [part.values[part.offsets[0] : part.offsets[-1]] for part in parts]
        lengths = [part.lengths for part in parts]
        return cls.of_lengths(
            np.concatenate([empty, *values]),
            np.concatenate([np.empty(0, dtype=np.int64), *lengths]),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [n]: tokens in each text."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> RaggedTokens:
        """The texts of these rows, in this order."""
        lengths = self.lengths[rows]
        taken = RaggedTokens.of_lengths(np.empty(0, dtype=np.int32), lengths)
        # Within a text positions run on by one; at its start they jump to where it lies in values.
        jumps = self.offsets[rows] - taken.offsets[:-1]
        places = np.arange(taken.offsets[-1]) + np.repeat(jumps, lengths)
        return RaggedTokens(self.values[places], taken.offsets)

    def truncated(self, max_length: int | None) -> RaggedTokens:
        """At most the first ``max_length`` tokens of every text."""
        lengths = self.lengths
        if max_length is None or not len(lengths) or lengths.max() <= max_length:
            return self
        kept = np.minimum(lengths, max_length)
        cut = RaggedTokens.of_lengths(np.empty(0, dtype=np.int32), kept)
        places = np.arange(cut.offsets[-1]) + np.repeat(self.offsets[:-1] - cut.offsets[:-1], kept)
        return RaggedTokens(self.values[places], cut.offsets)

    def padded(
        self, start: int, stop: int, width: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Texts ``start`` to ``stop`` as int64 [b, t], 0 behind each end, and lengths int64 [b].

        Args:
            width: t; that of the longest of these texts, at least 1, if None. Longer texts lose
                their end.
        """
        bounds = self.offsets[start : stop + 1]
        lengths = np.diff(bounds)
        longest = int(lengths.max(initial=0))
        if width is not None and longest > width:
            rows = RaggedTokens(self.values, bounds).truncated(width)
            return rows.padded(0, len(rows), width)
        tokens = np.zeros(
            (len(lengths), max(longest, 1) if width is None else width), dtype=np.int64
        )
        tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = self.values[bounds[0] : bounds[-1]]
        return tokens, lengths
