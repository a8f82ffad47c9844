"""The words of many small texts, as arrays over their joined bytes.

Any number of words in a line, and any space between them. Which file and line a word stands in
stays known, for errors and reports.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["Tokens", "finite_numbers", "tokens_of"]

_NEWLINE = 10
_IS_SPACE = np.zeros(256, dtype=np.bool_)
_IS_SPACE[[9, 10, 11, 12, 13, 32]] = True


@dataclass(frozen=True)
class Tokens:
    """The words of the lines of some files; lines without any are left out.

    Attributes:
        words: n strings, as their bytes (not known to be UTF-8).
        first: int64 [m + 1]; line i has the words ``first[i]:first[i + 1]``.
        file: int64 [m], row of the file among all that are read.
        line: int64 [m], counted from 1.
    """

    words: pa.StringArray
    first: NDArray[np.int64]
    file: NDArray[np.int64]
    line: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [m]: words in each line."""
        return np.diff(self.first)

    def text(self, line: int) -> str:
        """One line, for an error."""
        words = self.words[int(self.first[line]) : int(self.first[line + 1])]
        return b" ".join(words.cast(pa.binary()).to_pylist()).decode(errors="replace")[:80]


def tokens_of(texts: list[bytes], first_file: int) -> Tokens:
    """The words of some files.

    Args:
        texts: one a file, each ended by a newline.
        first_file: row of the first among all that are read.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    ends = np.cumsum(lengths)
    buffer = np.frombuffer(b"".join(texts), dtype=np.uint8)
    space = _IS_SPACE[buffer]
    edges = np.flatnonzero(np.diff(space, prepend=True, append=True))
    word_starts, word_ends = edges[0::2], edges[1::2]
    newlines = np.flatnonzero(buffer == _NEWLINE)
    offsets = np.zeros(len(word_starts) + 1, dtype=np.int32)
    np.cumsum(word_ends - word_starts, out=offsets[1:])
    words = pa.StringArray.from_buffers(
        len(word_starts), pa.py_buffer(offsets), pa.py_buffer(buffer[~space])
    )
    # Every file ends with a newline, so that every line ends with one.
    bounds = np.concatenate([[0], np.searchsorted(word_starts, newlines)])
    lines = np.flatnonzero(np.diff(bounds))
    file = np.searchsorted(ends, newlines[lines], side="right")
    first_lines = np.searchsorted(newlines, ends - lengths)
    return Tokens(
        words=words,
        first=np.concatenate([bounds[lines], [len(word_starts)]]).astype(np.int64),
        file=file + first_file,
        line=lines - first_lines[file] + 1,
    )


def finite_numbers(words: pa.StringArray) -> NDArray[np.float64]:
    """The words as numbers; NaN where one is no number, or none that is finite."""
    try:
        values = pc.cast(words, pa.float64()).to_numpy(zero_copy_only=False).copy()
    except pa.ArrowInvalid:
        return _some_numbers(words)
    values[~np.isfinite(values)] = np.nan
    return values


def _some_numbers(words: pa.StringArray) -> NDArray[np.float64]:
    """Halved until the part that is no numbers is small."""
    if len(words) > 64:
        middle = len(words) // 2
        return np.concatenate([finite_numbers(words[:middle]), finite_numbers(words[middle:])])
    return np.array([_number(word) for word in words.cast(pa.binary()).to_pylist()], np.float64)


def _number(word: bytes) -> float:
    try:
        value = float(word)
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) and b"_" not in word else float("nan")
