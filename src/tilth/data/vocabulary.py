"""Words or characters as numbers: fitted on texts, encoded a whole column at a time.

A word is a run of letters, marks, digits and underscores, in lower case unless asked otherwise:
``"Don't PANIC, größe_2"`` is ``don t panic größe_2``. Number 0 is padding and 1 stands for whatever
the vocabulary does not have.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.data.atomic import atomic_writer
from tilth.errors import DataError, SettingsError

__all__ = ["PADDING", "UNKNOWN", "EncodedTexts", "Vocabulary", "fit_vocabulary"]

PADDING, UNKNOWN = 0, 1
_SPECIAL = ("", "[UNK]")
_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}_]+"
_SCHEMA = 1

Unit = Literal["words", "characters"]


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedTexts:
    """Texts as numbers, one after the other.

    Attributes:
        values: int32 [total].
        offsets: int64 [n + 1]; text i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [n]."""
        return np.diff(self.offsets)

    def padded(
        self, rows: NDArray[np.int64], length: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The texts of these rows as int64 [k, t], 0 behind their ends, and their lengths [k].

        Args:
            length: t; that of the longest of these texts when left out (at least 1).
        """
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        width = max(int(lengths.max(initial=0)), 1) if length is None else length
        lengths = np.minimum(lengths, width)
        tokens = np.zeros((len(rows), width), dtype=np.int64)
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        source = np.repeat(self.offsets[rows], lengths) + within
        tokens.reshape(-1)[np.repeat(np.arange(len(rows)) * width, lengths) + within] = self.values[
            source
        ]
        return tokens, lengths


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What is known, in order: the number of a token is its place.

    Attributes:
        tokens: from 2 on the words or characters, the most frequent first.
        unit: what a token is.
        lower: whether texts become lower case first.
    """

    tokens: tuple[str, ...]
    unit: Unit = "words"
    lower: bool = True

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def _known(self) -> pa.Array:
        return pa.array(self.tokens, pa.string())

    def encode(self, texts: Any, *, max_length: int | None = None) -> EncodedTexts:
        """A column of texts as numbers.

        Args:
            texts: an Arrow string array, or a list of strings; none may be missing.
            max_length: tokens beyond it are cut off.
        """
        pieces = split_texts(_as_array(texts), self.unit, self.lower)
        numbers = pc.index_in(pieces.values, value_set=self._known)
        values = numbers.fill_null(UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int32)
        offsets = pieces.offsets
        if max_length is None:
            return EncodedTexts(values=values, offsets=offsets)
        lengths = np.diff(offsets)
        kept = np.arange(len(values)) - np.repeat(offsets[:-1], lengths) < max_length
        ends = np.cumsum(np.minimum(lengths, max_length))
        return EncodedTexts(values=values[kept], offsets=np.concatenate([[0], ends]))

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of some numbers; padding is left out."""
        space = " " if self.unit == "words" else ""
        return space.join(self.tokens[number] for number in numbers if number != PADDING)

    def save(self, path: Path) -> None:
        """Write it as JSON, in one step."""
        document = {
            "tilth_vocabulary": _SCHEMA,
            "unit": self.unit,
            "lower": self.lower,
            "tokens": self.tokens,
        }
        with atomic_writer(path) as stream:
            stream.write(json.dumps(document, ensure_ascii=False).encode())

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises:
            DataError: not a vocabulary, or one of a newer release.
        """
        try:
            document = json.loads(path.read_bytes())
            if document["tilth_vocabulary"] != _SCHEMA:
                raise ValueError(f"schema {document['tilth_vocabulary']}")
            tokens = tuple(str(token) for token in document["tokens"])
            return cls(tokens=tokens, unit=document["unit"], lower=bool(document["lower"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                "not a vocabulary that can be read",
                where=str(path),
                expected="the JSON that Vocabulary.save writes",
                got=f"{type(error).__name__}: {error}"[:120],
            ) from error


@dataclass(frozen=True, eq=False)
class _Pieces:
    values: pa.Array
    offsets: NDArray[np.int64]


def fit_vocabulary(
    columns: Iterable[Any],
    *,
    unit: Unit = "words",
    lower: bool = True,
    max_tokens: int = 20_000,
    min_count: int = 1,
) -> Vocabulary:
    """The most frequent words or characters of texts; of equal counts the first by its letters.

    Args:
        columns: Arrow string arrays or lists of strings, one after the other.
        max_tokens: at most, with the two that are always there.
        min_count: rarer ones are unknown.

    Raises:
        SettingsError: fewer than three tokens are asked for.
    """
    if max_tokens < 3:
        raise SettingsError(
            "a vocabulary holds padding, unknown and more",
            expected="max_tokens of 3 or more",
            got=str(max_tokens),
        )
    counts: Counter[str] = Counter()
    for texts in columns:
        pieces = split_texts(_as_array(texts), unit, lower)
        found = pc.value_counts(pieces.values)
        counts.update(
            dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))
        )
    ranked = sorted(
        (token for token, count in counts.items() if count >= min_count),
        key=lambda token: (-counts[token], token),
    )
    return Vocabulary(
        tokens=(*_SPECIAL, *ranked[: max_tokens - len(_SPECIAL)]), unit=unit, lower=lower
    )


def split_texts(texts: pa.Array, unit: Unit, lower: bool) -> _Pieces:
    """Words or characters of every text, one after the other."""
    texts = pc.utf8_lower(texts) if lower else texts
    if unit == "characters":
        return _characters(texts)
    if pc.all(pc.string_is_ascii(texts)).as_py() is not False:
        lists = pc.ascii_split_whitespace(_spaces_between_ascii_words(texts))
    else:
        lists = pc.split_pattern_regex(texts, _BETWEEN_WORDS)
    values, offsets = lists.flatten(), _offsets(lists)
    return _without_empty(values, offsets)


def _characters(texts: pa.Array) -> _Pieces:
    """One piece a code point; the column's bytes are cut where one begins."""
    data, bounds = _buffers(texts)
    starts = np.flatnonzero((data & 0xC0) != 0x80)  # not a continuation byte of UTF-8
    ends = np.append(starts[1:], len(data)) if len(starts) else starts
    offsets = np.searchsorted(starts, bounds).astype(np.int64)
    cuts = np.append(starts, ends[-1:]).astype(np.int64)
    if not len(starts):
        cuts = np.zeros(1, np.int64)
    values = pa.LargeStringArray.from_buffers(len(starts), pa.py_buffer(cuts), pa.py_buffer(data))
    return _Pieces(values.cast(pa.string()), offsets)


_IS_WORD_BYTE = np.zeros(256, dtype=np.bool_)
_IS_WORD_BYTE[[*b"0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]] = True


def _spaces_between_ascii_words(texts: pa.Array) -> pa.Array:
    """A space for every byte that is in no word: a quarter of the time of a regular expression."""
    data, bounds = _buffers(texts)
    spaced = np.where(_IS_WORD_BYTE[data], data, np.uint8(ord(" ")))
    return pa.LargeStringArray.from_buffers(
        len(texts), pa.py_buffer(bounds.astype(np.int64)), pa.py_buffer(spaced)
    )


def _buffers(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of a column, and where each text begins and ends among them."""
    large = texts.cast(pa.large_string())
    bounds = np.frombuffer(large.buffers()[1], np.int64)[
        large.offset : large.offset + len(large) + 1
    ]
    if not len(bounds):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    buffer = large.buffers()[2]
    data = np.empty(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)
    return data[bounds[0] : bounds[-1]], bounds - bounds[0]


def _offsets(lists: pa.Array) -> NDArray[np.int64]:
    offsets = lists.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    return offsets - offsets[0] if len(offsets) else np.zeros(1, np.int64)


def _without_empty(values: pa.Array, offsets: NDArray[np.int64]) -> _Pieces:
    """Splitting leaves empty pieces before the first separator and behind the last."""
    filled = pc.greater(pc.binary_length(values), 0).to_numpy(zero_copy_only=False).astype(np.bool_)
    if filled.all():
        return _Pieces(values.cast(pa.string()), offsets)
    before = np.concatenate([[0], np.cumsum(filled)]).astype(np.int64)
    return _Pieces(values.filter(pa.array(filled)).cast(pa.string()), before[offsets])


def _as_array(texts: Any) -> pa.Array:
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    return texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
