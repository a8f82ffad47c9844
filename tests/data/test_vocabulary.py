"""Texts as numbers, against a plain twin."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data import vocabulary as vocabulary_file
from tilth.data.vocabulary import TokenCounts, Vocabulary
from tilth.errors import DataError, SettingsError

any_texts = st.lists(st.lists(st.sampled_from("abcé日"), max_size=6).map(" ".join), max_size=6)


@given(texts=any_texts, max_tokens=st.none() | st.integers(1, 4), min_count=st.integers(1, 2))
def test_the_most_frequent_are_kept_in_a_lasting_order(
    texts: list[str], max_tokens: int | None, min_count: int
) -> None:
    counts = Counter(word for text in texts for word in text.split())
    ranked = sorted((w for w in counts if counts[w] >= min_count), key=lambda w: (-counts[w], w))
    vocabulary = Vocabulary.fit(texts, max_tokens=max_tokens, min_count=min_count)
    assert vocabulary.tokens == tuple(ranked[:max_tokens])
    assert len(vocabulary) == len(vocabulary.tokens) + 2


@given(texts=any_texts)
def test_counting_in_parts_equals_counting_at_once(texts: list[str]) -> None:
    counts = TokenCounts()
    before, vocabulary_file._MERGED_AT = vocabulary_file._MERGED_AT, 2
    try:
        for text in texts:
            counts.add(pa.array([text]))
    finally:
        vocabulary_file._MERGED_AT = before
    assert counts.vocabulary() == Vocabulary.fit(texts)


@given(texts=any_texts, max_length=st.none() | st.integers(1, 3))
def test_encoding_equals_the_plain_twin(texts: list[str], max_length: int | None) -> None:
    vocabulary = Vocabulary.fit(texts, max_tokens=3)
    number = {token: place for place, token in enumerate(vocabulary.tokens, start=2)}
    encoded = vocabulary.encode(texts, max_length=max_length)
    wanted = [[number.get(word, 1) for word in text.split()][:max_length] for text in texts]
    bounds = encoded.offsets.tolist()
    assert [encoded.values[a:b].tolist() for a, b in itertools.pairwise(bounds)] == wanted
    assert encoded.values.dtype == "int32"


@given(texts=any_texts)
def test_known_tokens_come_back(texts: list[str]) -> None:
    vocabulary = Vocabulary.fit(texts, max_tokens=None)
    for text in texts:
        assert vocabulary.decode(vocabulary.encode([text]).values) == text.split()


def test_padding_and_unknown_are_told_apart() -> None:
    vocabulary = Vocabulary.fit(["the cat, the dog"])
    tokens, lengths = vocabulary.encode(["The DOG barks"]).padded(0, 1, 5)
    assert tokens.tolist() == [[2, 4, 1, 0, 0]]
    assert lengths.tolist() == [3]
    assert vocabulary.decode(tokens[0]) == ["the", "dog", "?"]


@pytest.mark.parametrize("tokeniser", ["words", "characters"])
def test_a_vocabulary_survives_its_file(tokeniser: Any, tmp_path: Path) -> None:
    vocabulary = Vocabulary.fit(["größe 日本 \x00 \ud7ff"], tokeniser=tokeniser)
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary


def test_a_callable_is_asked_for_again(tmp_path: Path) -> None:
    vocabulary = Vocabulary.fit(["a-b a"], tokeniser=lambda text: text.split("-"))
    vocabulary.save(tmp_path / "v.json")
    with pytest.raises(DataError, match="no file can hold"):
        Vocabulary.load(tmp_path / "v.json")
    again = Vocabulary.load(tmp_path / "v.json", tokeniser=vocabulary.tokeniser)
    assert again.encode(["a-b a"]).values.tolist() == [2, 3]


def test_a_hugging_face_tokenizer_keeps_its_ids(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    ids = {"[UNK]": 0, "ice": 1, "cream": 2}
    theirs = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vocabulary = Vocabulary.fit(["anything"], tokeniser=theirs)
    texts = ["ice cream", "", "cream soda ice"]
    encoded = vocabulary.encode(texts)
    wanted = [one + 2 for text in texts for one in theirs.encode(text).ids]
    assert encoded.values.tolist() == wanted
    assert encoded.lengths.tolist() == [2, 0, 3]
    assert len(vocabulary) == 5
    vocabulary.save(tmp_path / "v.json")
    again = Vocabulary.load(tmp_path / "v.json")
    assert again.tokens == vocabulary.tokens
    assert again.encode(texts).values.tolist() == wanted


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"tilth_vocabulary": 9}',
        b'{"tilth_vocabulary": 1, "tokeniser": "other"}',
        b'{"tilth_vocabulary": 1, "tokeniser": "words", "tokens": [1]}',
        b"[" * 9000,
        b"\xff",
    ],
)
def test_another_file_is_no_vocabulary(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(DataError, match="not a vocabulary"):
        Vocabulary.load(tmp_path / "v.json")


def test_a_missing_file_is_no_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a vocabulary") as caught:
        Vocabulary.load(tmp_path / "none.json")
    assert "none.json" in str(caught.value)


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(SettingsError, match="bounds of the vocabulary"):
        Vocabulary.fit(["a"], max_tokens=0)
    with pytest.raises(SettingsError, match="max_length"):
        Vocabulary.fit(["a"]).encode(["a"], max_length=0)
    with pytest.raises(DataError, match="one text is not a list"):
        Vocabulary.fit("a text")
    with pytest.raises(DataError, match="stands twice"):
        Vocabulary(("a", "a"))
