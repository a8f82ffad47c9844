"""Texts to tokens, whole columns at once.

``words``: lower case (one character to one character), then every longest run of letters, marks,
digits and underscores in any script; an apostrophe between two of these joins them ("don't" is one
word), and a typographic one counts as a plain one. Everything else separates. As a regular
expression over Unicode categories, with W for ``[\\p{L}\\p{M}\\p{N}_]``: ``W+(?:'W+)*``.

``characters``: every character as it is, spaces and case kept.

A callable of one text gives any other cutting; it is the only one that costs a loop over rows.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.errors import DataError, SettingsError

__all__ = ["Tokeniser", "text_blocks", "token_strings"]

Tokeniser = Literal["words", "characters"] | Callable[[str], Sequence[str]]

_BLOCK_ROWS = 2**16
_BLOCK_BYTES = 2**25
_APOSTROPHE = 0x27
_TYPOGRAPHIC = "’"  # noqa: RUF001


def text_blocks(texts: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array]:
    """The texts as large_string arrays of a size that the steps below hold in the cache.

    A block ends after 65,536 texts or 32 MiB, whichever comes first; one text is never divided.
    """
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    for chunk in chunks:
        column = chunk if pa.types.is_large_string(chunk.type) else chunk.cast(pa.large_string())
        bounds, start = _bounds(column), 0
        while start < len(column):
            by_bytes = int(np.searchsorted(bounds, bounds[start] + _BLOCK_BYTES, side="right")) - 1
            stop = min(max(by_bytes, start + 1), start + _BLOCK_ROWS, len(column))
            yield column.slice(start, stop - start)
            start = stop


def token_strings(block: pa.Array, tokeniser: Tokeniser) -> tuple[pa.Array, NDArray[np.int64]]:
    """The tokens of a block of texts, one after the other, and where each text's begin.

    Args:
        block: large_string [n] without nulls.

    Returns:
        large_string [m], offsets int64 [n + 1].

    Raises:
        SettingsError: an unknown name.
        DataError: a callable gave something else than a sequence of strings.
    """
    if tokeniser == "words":
        return _words(block)
    if tokeniser == "characters":
        return _characters(block)
    if callable(tokeniser):
        return _called(block, tokeniser)
    raise SettingsError(
        "the tokeniser is not known",
        expected="'words', 'characters', or a callable of one text",
        got=repr(tokeniser),
    )


def _words(block: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    lowered = pc.utf8_lower(block)
    data, offsets = _buffers(lowered)
    if not data.isascii():
        lowered = pc.replace_substring(lowered, _TYPOGRAPHIC, "'")
        data, offsets = _buffers(lowered)
    kept = _in_words(data, offsets)
    fresh = np.zeros(len(kept) + 1, dtype=bool)
    fresh[offsets] = True  # a text begins (or the last has ended): no token runs across
    begins, ends = fresh[:-1].copy(), fresh[1:].copy()
    begins[1:] |= ~kept[:-1]
    ends[:-1] |= ~kept[1:]
    first = np.flatnonzero(begins & kept)
    last = np.flatnonzero(ends & kept)
    lengths = last - first + 1
    packed = np.frombuffer(data, dtype=np.uint8)[kept]
    return _large_strings(packed, lengths), np.searchsorted(first, offsets).astype(np.int64)


def _in_words(data: bytes, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [bytes]: which bytes belong to a word, the apostrophes inside words among them."""
    raw = np.frombuffer(data, dtype=np.uint8)
    if data.isascii():
        word = _ASCII_WORD[raw]
    else:
        points, sizes = _code_points(data)
        word = np.repeat(_word_characters()[points], sizes)
    places = np.flatnonzero(raw == _APOSTROPHE)
    places = places[(places > 0) & (places < len(raw) - 1)]
    places = places[word[places - 1] & word[places + 1]]
    if len(places):
        at_start = np.zeros(len(raw) + 1, dtype=bool)
        at_start[offsets] = True
        word[places[~at_start[places] & ~at_start[places + 1]]] = True
    return word


def _word_table(size: int) -> NDArray[np.bool_]:
    """bool [size]: which of the first code points are letters, marks, numbers or the underscore."""
    categories = (unicodedata.category(chr(point))[0] for point in range(size))
    table = np.fromiter((name in "LMN" for name in categories), bool, size)
    table[ord("_")] = True
    table.setflags(write=False)
    return table


_ASCII_WORD = _word_table(128)


@cache
def _word_characters() -> NDArray[np.bool_]:
    """The table of all code points: half a second, for texts that need it."""
    return _word_table(sys.maxunicode + 1)


def _code_points(data: bytes) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """uint32 [c] of the characters, and how many bytes each takes in UTF-8."""
    points = np.frombuffer(data.decode().encode("utf-32-le"), dtype=np.uint32)
    sizes = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return points, sizes


def _characters(block: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    data, offsets = _buffers(block)
    raw = np.frombuffer(data, dtype=np.uint8)
    begins = np.flatnonzero((raw & 0xC0) != 0x80)  # not a continuation byte of UTF-8
    tokens = _large_strings(raw, np.diff(begins, append=len(raw)))
    return tokens, np.searchsorted(begins, offsets).astype(np.int64)


def _called(
    block: pa.Array, tokeniser: Callable[[str], Sequence[str]]
) -> tuple[pa.Array, NDArray[np.int64]]:
    parts: list[Any] = [tokeniser(text) for text in block.to_pylist()]
    for part in parts:
        listed = isinstance(part, Sequence) and not isinstance(part, str)
        if not listed or not all(type(token) is str for token in part):
            raise DataError(
                "the tokeniser did not give a sequence of strings",
                got=repr(part)[:80],
                fix="return a list of str for every text, as str.split does",
            )
    tokens = pa.array([token for part in parts for token in part], type=pa.large_string())
    lengths = np.fromiter((len(part) for part in parts), np.int64, len(parts))
    return tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _bounds(block: pa.Array) -> NDArray[np.int64]:
    """int64 [n + 1]: offsets of a large_string array, seen through its slice."""
    if not len(block):  # Arrow may leave out the buffer of an empty array
        return np.zeros(1, dtype=np.int64)
    offsets = np.frombuffer(block.buffers()[1], dtype=np.int64)
    return offsets[block.offset : block.offset + len(block) + 1]


def _buffers(block: pa.Array) -> tuple[bytes, NDArray[np.int64]]:
    """The bytes of all texts together, and their offsets counted from 0."""
    bounds = _bounds(block)
    buffer = block.buffers()[2]
    if buffer is None or bounds[0] == bounds[-1]:
        return b"", bounds - bounds[0]
    return buffer[int(bounds[0]) : int(bounds[-1])].to_pybytes(), bounds - bounds[0]


def _large_strings(packed: NDArray[np.uint8], lengths: NDArray[np.int64]) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(
        len(lengths), pa.py_buffer(offsets), pa.py_buffer(packed)
    )
