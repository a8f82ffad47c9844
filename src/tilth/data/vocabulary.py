"""Which token has which number: fitted on texts, saved as JSON, the same on every machine.

0 is padding and 1 stands for every token that is not known; known tokens count from 2, the most
frequent first, equally frequent ones in the order of their code points.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tilth.data.atomic import atomic_writer
from tilth.data.ragged_tokens import RaggedTokens
from tilth.data.tokenise import Tokeniser, text_blocks, token_strings
from tilth.errors import DataError, SettingsError
from tilth.lazy import attribute

__all__ = ["PADDING", "UNKNOWN", "TokenCounts", "Vocabulary"]

PADDING, UNKNOWN = 0, 1

_FIRST = 2
_SCHEMA = 1
_MERGED_AT = 2**20


@dataclass(frozen=True)
class Vocabulary:
    """The known tokens, in the order of their numbers (from 2), and how texts are cut into them.

    Attributes:
        tokens: the known tokens.
        tokeniser: ``"words"``, ``"characters"``, a callable of one text, or a Hugging Face
            `tokenizers.Tokenizer`, whose ids stand here two higher.

    >>> vocabulary = Vocabulary.fit(["i like ice cream", "i don't like ice"])
    >>> vocabulary.tokens
    ('i', 'ice', 'like', 'cream', "don't")
    >>> vocabulary.encode(["Ice, like snow"]).values.tolist()
    [3, 4, 1]
    """

    tokens: tuple[str, ...]
    tokeniser: Any = field(default="words", repr=False)

    def __post_init__(self) -> None:
        if len(set(self.tokens)) != len(self.tokens):
            raise DataError("a token stands twice in the vocabulary", expected="each token once")

    @classmethod
    def fit(
        cls,
        texts: Iterable[str] | pa.Array | pa.ChunkedArray,
        *,
        tokeniser: Tokeniser = "words",
        max_tokens: int | None = 20_000,
        min_count: int = 1,
    ) -> Vocabulary:
        """Count the tokens of ``texts`` and keep the most frequent.

        Args:
            tokeniser: a `tokenizers.Tokenizer` too, whose own tokens are then all kept.
            max_tokens: how many are known at most, padding and unknown not counted; None for all.
            min_count: a token seen less often stays unknown.
        """
        counts = TokenCounts(tokeniser)
        counts.add(_arrow_texts(texts))
        return counts.vocabulary(max_tokens=max_tokens, min_count=min_count)

    @classmethod
    def of_tokenizer(cls, tokenizer: Any) -> Vocabulary:
        """The vocabulary of a Hugging Face `tokenizers.Tokenizer`; its id i is i + 2 here.

        Raises:
            DataError: its ids have gaps.
        """
        ids = tokenizer.get_vocab(with_added_tokens=True)
        by_id = sorted(ids, key=ids.__getitem__)
        if [ids[token] for token in by_id] != list(range(len(by_id))):
            raise DataError(
                "the ids of the tokenizer have gaps",
                expected=f"0 to {len(by_id) - 1}, each once",
                fix="pass a callable that gives tokens: lambda text: tokenizer.encode(text).tokens",
            )
        return cls(tuple(by_id), tokenizer)

    def __len__(self) -> int:
        """How many numbers there are, padding and unknown among them: the rows of an embedding."""
        return len(self.tokens) + _FIRST

    def encode(
        self, texts: Iterable[str] | pa.Array | pa.ChunkedArray, *, max_length: int | None = None
    ) -> RaggedTokens:
        """The numbers of the tokens of every text.

        Args:
            max_length: tokens beyond it are left out, at the end of the text.

        Returns:
            `RaggedTokens`: values int32, offsets int64 [n + 1].
        """
        if max_length is not None and max_length < 1:
            raise SettingsError(
                "the length cannot be used", expected="max_length of 1 or more", got=str(max_length)
            )
        blocks = text_blocks(_arrow_texts(texts))
        return RaggedTokens.concatenate(
            [self._encode_block(block).truncated(max_length) for block in blocks]
        )

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The tokens behind these numbers; padding is left out, unknown is ``"?"``."""
        return [
            "?" if number == UNKNOWN else self.tokens[int(number) - _FIRST]
            for number in numbers
            if number != PADDING
        ]

    def save(self, path: Path | str) -> None:
        """Write JSON, whole or not at all. Of a callable only that there was one is noted."""
        document = {"tilth_vocabulary": _SCHEMA, **_described(self.tokeniser)}
        if document["tokeniser"] != "huggingface":  # that one brings its own tokens
            document["tokens"] = self.tokens
        with atomic_writer(Path(path)) as stream:
            stream.write(json.dumps(document, ensure_ascii=False).encode())

    @classmethod
    def load(cls, path: Path | str, *, tokeniser: Tokeniser | None = None) -> Vocabulary:
        """Read what `save` wrote.

        Args:
            tokeniser: the callable that it was fitted with, where that was one.

        Raises:
            DataError: not a vocabulary, one of a newer release, or one that lacks its callable.
            MissingExtraError: it needs the library tokenizers.
        """
        document = _read(Path(path))
        kind = document["tokeniser"]
        if kind == "huggingface":
            tokenizer = attribute("tokenizers:Tokenizer", extra="huggingface")
            return cls.of_tokenizer(tokenizer.from_str(document["huggingface"]))
        if kind == "callable" and tokeniser is None:
            raise DataError(
                "the vocabulary was fitted with a callable, which no file can hold",
                where=str(path),
                fix="pass it: Vocabulary.load(path, tokeniser=...)",
            )
        return cls(tuple(document["tokens"]), tokeniser if kind == "callable" else kind)

    @cached_property
    def _known(self) -> pa.Array:
        return pa.array(self.tokens, type=pa.large_string())

    def _encode_block(self, block: pa.Array) -> RaggedTokens:
        if _is_huggingface(self.tokeniser):
            encodings = self.tokeniser.encode_batch(block.to_pylist())
            ids = [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]
            lengths = np.fromiter(map(len, ids), np.int64, len(ids))
            return RaggedTokens.of_lengths(np.concatenate(ids) + np.int32(_FIRST), lengths)
        tokens, offsets = token_strings(block, self.tokeniser)
        found = pc.index_in(tokens, value_set=self._known)
        numbers = pc.fill_null(pc.add(found, _int32(_FIRST)), _int32(UNKNOWN))
        return RaggedTokens(numbers.to_numpy(zero_copy_only=False), offsets)


class TokenCounts:
    """How often each token comes, over texts that arrive in parts.

    Memory grows with the number of different tokens, not with the texts.
    """

    def __init__(self, tokeniser: Tokeniser = "words") -> None:
        self.tokeniser = tokeniser
        self._parts: list[pa.Table] = []

    def add(self, texts: pa.Array | pa.ChunkedArray) -> None:
        """Count the tokens of these texts too."""
        if _is_huggingface(self.tokeniser):  # its tokens are known beforehand
            return
        for block in text_blocks(texts):
            tokens, _ = token_strings(block, self.tokeniser)
            counted = pc.value_counts(tokens)
            columns = {"token": counted.field("values"), "count": counted.field("counts")}
            self._parts.append(pa.table(columns))
            # Merging costs by the size of what is merged: only when as much again has come.
            if sum(map(len, self._parts[1:])) > max(_MERGED_AT, len(self._parts[0])):
                self._parts = [self._merged()]

    def vocabulary(self, *, max_tokens: int | None = 20_000, min_count: int = 1) -> Vocabulary:
        """The most frequent tokens; ties in the order of their code points.

        Raises:
            SettingsError: bounds below 1.
        """
        if (max_tokens is not None and max_tokens < 1) or min_count < 1:
            raise SettingsError(
                "the bounds of the vocabulary cannot be used",
                expected="max_tokens and min_count of 1 or more",
                got=f"max_tokens={max_tokens}, min_count={min_count}",
            )
        if _is_huggingface(self.tokeniser):
            return Vocabulary.of_tokenizer(self.tokeniser)
        if not self._parts:
            return Vocabulary((), self.tokeniser)
        counted = self._merged()
        counted = counted.filter(pc.greater_equal(counted["count"], min_count))
        ranked = counted.sort_by([("count", "descending"), ("token", "ascending")])
        return Vocabulary(tuple(ranked["token"].slice(0, max_tokens).to_pylist()), self.tokeniser)

    def _merged(self) -> pa.Table:
        grouped = pa.concat_tables(self._parts).group_by("token").aggregate([("count", "sum")])
        return grouped.select(["token", "count_sum"]).rename_columns(["token", "count"])


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
        if document["tilth_vocabulary"] != _SCHEMA:
            raise ValueError(f"schema {document['tilth_vocabulary']}")
        kind, tokens = document["tokeniser"], document.get("tokens", [])
        if kind not in ("words", "characters", "callable", "huggingface"):
            raise ValueError(f"tokeniser {kind!r}")
        if not (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)):
            raise ValueError("tokens that are no list of strings")
        return document
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            "not a vocabulary that can be read",
            where=str(path),
            expected="the JSON that Vocabulary.save writes",
            got=f"{type(error).__name__}: {error}"[:120],
        ) from error


def _arrow_texts(texts: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(texts, pa.Array | pa.ChunkedArray):
        return texts
    if isinstance(texts, str):
        raise DataError("one text is not a list of texts", fix="put it in brackets: [text]")
    return pa.array(texts if isinstance(texts, Sequence) else list(texts), type=pa.large_string())


def _is_huggingface(tokeniser: Any) -> bool:
    return hasattr(tokeniser, "encode_batch")


def _described(tokeniser: Any) -> dict[str, Any]:
    if isinstance(tokeniser, str):
        return {"tokeniser": tokeniser}
    if _is_huggingface(tokeniser):
        return {"tokeniser": "huggingface", "huggingface": tokeniser.to_str()}
    return {"tokeniser": "callable"}


def _int32(value: int) -> pa.Scalar:
    return pa.scalar(value, type=pa.int32())
