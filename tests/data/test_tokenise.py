"""Tokens of whole columns, against a plain twin that looks at one text after the other."""

from __future__ import annotations

import itertools
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data import tokenise
from tilth.data.tokenise import text_blocks, token_strings
from tilth.errors import DataError, SettingsError

any_texts = st.lists(
    st.text(st.sampled_from("aB2_ .,'’é日\u0301ß\n-\U0001f600ÀΣ"), max_size=12)  # noqa: RUF001
    | st.text(st.sampled_from("aB2_ .,'\t"), max_size=12)
    | st.text(max_size=8),
    max_size=6,
)


def plain_words(text: str) -> list[str]:
    """The definition in the module, by the regular expression over one letter a category."""
    lowered = [_lower(character) for character in text.replace("’", "'")]  # noqa: RUF001
    kinds = "".join(
        "W" if unicodedata.category(c)[0] in "LMN" or c == "_" else c if c == "'" else " "
        for c in lowered
    )
    spans = [match.span() for match in re.finditer(r"W+(?:'W+)*", kinds)]
    return ["".join(lowered[start:stop]) for start, stop in spans]


def _lower(character: str) -> str:
    """One character to one, as Arrow does; Python makes two of a few."""
    return pa.compute.utf8_lower(pa.scalar(character)).as_py()


def tokens_of(texts: pa.Array, tokeniser: tokenise.Tokeniser) -> list[list[str]]:
    tokens, offsets = token_strings(texts, tokeniser)
    values = tokens.to_pylist()
    return [values[start:stop] for start, stop in itertools.pairwise(offsets.tolist())]


def column(texts: list[str]) -> pa.Array:
    return pa.array(texts, type=pa.large_string())


@given(texts=any_texts)
def test_words_equal_the_plain_twin(texts: list[str]) -> None:
    assert tokens_of(column(texts), "words") == [plain_words(text) for text in texts]


@given(texts=any_texts)
def test_characters_are_code_points(texts: list[str]) -> None:
    assert tokens_of(column(texts), "characters") == [list(text) for text in texts]


@given(texts=any_texts)
def test_a_callable_cuts_one_text_after_the_other(texts: list[str]) -> None:
    assert tokens_of(column(texts), str.split) == [text.split() for text in texts]


@given(texts=any_texts, data=st.data())
def test_a_slice_is_cut_as_a_column_of_its_own(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts)))
    for tokeniser in ("words", "characters"):
        whole = tokens_of(column(texts), tokeniser)
        assert tokens_of(column(texts)[start:], tokeniser) == whole[start:]


def test_an_apostrophe_joins_only_inside_a_word() -> None:
    texts = ["I don't", "'quoted' rock'n'roll", "'", "a''b", "it’s", "dogs'", "'tis"]  # noqa: RUF001
    assert tokens_of(column(texts), "words") == [
        ["i", "don't"],
        ["quoted", "rock'n'roll"],
        [],
        ["a", "b"],
        ["it's"],
        ["dogs"],
        ["tis"],
    ]


def test_no_word_runs_from_one_text_into_the_next() -> None:
    assert tokens_of(column(["ab", "'", "cd", "", "é", "f"]), "words") == [
        ["ab"],
        [],
        ["cd"],
        [],
        ["é"],
        ["f"],
    ]


@given(texts=any_texts, cuts=st.lists(st.integers(0, 6), max_size=3))
def test_blocks_hold_every_text_once_in_order(texts: list[str], cuts: list[int]) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut <= len(texts)), len(texts)]
    chunks = [column(texts[a:b]) for a, b in itertools.pairwise(bounds)]
    blocks = list(text_blocks(pa.chunked_array(chunks, type=pa.large_string())))
    assert [text for block in blocks for text in block.to_pylist()] == texts


def test_blocks_end_by_rows_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenise, "_BLOCK_ROWS", 3)
    monkeypatch.setattr(tokenise, "_BLOCK_BYTES", 4)
    texts = ["a", "b", "c", "d", "longer than all", "ee", "ff", "g"]
    assert [block.to_pylist() for block in text_blocks(pa.array(texts))] == [
        ["a", "b", "c"],
        ["d"],
        ["longer than all"],
        ["ee", "ff"],
        ["g"],
    ]


@pytest.mark.parametrize("answer", ["text", 3, [1, 2], [b"bytes"], None])
def test_a_callable_that_gives_no_tokens_is_refused(answer: object) -> None:
    with pytest.raises(DataError, match="did not give a sequence of strings"):
        token_strings(column(["a"]), lambda text: answer)  # type: ignore[arg-type, return-value]


def test_an_unknown_tokeniser_is_refused() -> None:
    with pytest.raises(SettingsError, match="'words', 'characters'"):
        token_strings(column(["a"]), "word")  # type: ignore[arg-type]


def test_offsets_start_at_zero_without_texts() -> None:
    for tokeniser in ("words", "characters", str.split):
        tokens, offsets = token_strings(column([]), tokeniser)  # type: ignore[arg-type]
        assert (len(tokens), offsets.tolist(), offsets.dtype) == (0, [0], np.int64)
