"""Texts as numbers, against a plain twin that looks at one character after the other."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.vocabulary import Vocabulary, fit_vocabulary, split_texts
from tilth.errors import DataError, SettingsError

any_texts = st.lists(
    st.text(st.sampled_from("aB2_ .,'é日\u0301ß\n-\U0001f600"), max_size=12)
    | st.text(st.sampled_from("aB2_ .,'\t"), max_size=12),
    max_size=6,
)


def plain_words(text: str) -> list[str]:
    words, word = [], ""
    for character in text.lower() + " ":
        if unicodedata.category(character)[0] in "LMN" or character == "_":
            word += character
        elif word:
            words.append(word)
            word = ""
    return words


def pieces_of(texts: list[str], unit: str) -> list[list[str]]:
    pieces = split_texts(pa.array(texts, pa.string()), unit, unit == "words")
    bounds = pieces.offsets.tolist()
    values = pieces.values.to_pylist()
    return [values[a:b] for a, b in itertools.pairwise(bounds)]


@given(texts=any_texts)
def test_words_equal_the_plain_twin(texts: list[str]) -> None:
    assert pieces_of(texts, "words") == [plain_words(text) for text in texts]


@given(texts=any_texts)
def test_characters_are_code_points(texts: list[str]) -> None:
    assert pieces_of(texts, "characters") == [list(text) for text in texts]


@given(texts=any_texts, data=st.data())
def test_a_slice_of_a_column_is_split_as_a_column_of_its_own(
    texts: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(texts)))
    sliced = pa.array(texts, pa.string())[start:]
    for unit in ("words", "characters"):
        pieces = split_texts(sliced, unit, unit == "words")
        again = split_texts(pa.array(texts[start:], pa.string()), unit, unit == "words")
        assert pieces.values.to_pylist() == again.values.to_pylist()
        assert pieces.offsets.tolist() == again.offsets.tolist()


@given(texts=any_texts, max_tokens=st.integers(3, 6), min_count=st.integers(1, 2))
def test_the_most_frequent_are_kept_in_a_lasting_order(
    texts: list[str], max_tokens: int, min_count: int
) -> None:
    counts = Counter(word for text in texts for word in plain_words(text))
    ranked = sorted((w for w in counts if counts[w] >= min_count), key=lambda w: (-counts[w], w))
    vocabulary = fit_vocabulary([texts], max_tokens=max_tokens, min_count=min_count)
    assert vocabulary.tokens == ("", "[UNK]", *ranked[: max_tokens - 2])
    parts = fit_vocabulary([texts[:2], texts[2:]], max_tokens=max_tokens, min_count=min_count)
    assert parts == vocabulary, "column by column or at once"


@given(texts=any_texts, max_length=st.none() | st.integers(1, 3))
def test_encoding_equals_the_plain_twin(texts: list[str], max_length: int | None) -> None:
    vocabulary = fit_vocabulary([texts], max_tokens=5)
    place = {token: number for number, token in enumerate(vocabulary.tokens)}
    encoded = vocabulary.encode(texts, max_length=max_length)
    wanted = [[place.get(w, 1) for w in plain_words(text)][:max_length] for text in texts]
    bounds = encoded.offsets.tolist()
    assert [encoded.values[a:b].tolist() for a, b in itertools.pairwise(bounds)] == wanted
    if texts:
        rows = np.arange(len(texts))[::-1]
        tokens, lengths = encoded.padded(rows)
        assert lengths.tolist() == [len(row) for row in wanted[::-1]]
        width = max(1, *(len(row) for row in wanted)) if len(wanted) > 1 else max(1, len(wanted[0]))
        assert tokens.tolist() == [row + [0] * (width - len(row)) for row in wanted[::-1]]
        cut, cut_lengths = encoded.padded(rows, 2)
        assert cut.shape == (len(texts), 2)
        assert cut_lengths.tolist() == [min(len(row), 2) for row in wanted[::-1]]


def test_words_come_back_from_numbers() -> None:
    vocabulary = fit_vocabulary([["the cat, the dog"]])
    tokens, _ = vocabulary.encode(["The DOG barks"]).padded(np.array([0]), 5)
    assert vocabulary.decode(tokens[0].tolist()) == "the dog [UNK]"


def test_a_vocabulary_survives_its_file(tmp_path: Path) -> None:
    vocabulary = fit_vocabulary([["größe 日本"]], unit="characters", lower=False)
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"tilth_vocabulary": 9}', b"[" * 9000, b"\xff"]
)
def test_another_file_is_no_vocabulary(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(DataError, match="not a vocabulary"):
        Vocabulary.load(tmp_path / "v.json")


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(SettingsError, match="max_tokens"):
        fit_vocabulary([["a"]], max_tokens=2)
