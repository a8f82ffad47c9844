"""`RaggedTokens` is a list of lists in all but its storage."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.ragged_tokens import RaggedTokens

any_rows = st.lists(st.lists(st.integers(2, 99), max_size=5), max_size=8)


def packed(rows: list[list[int]]) -> RaggedTokens:
    values = np.array([value for row in rows for value in row], dtype=np.int32)
    return RaggedTokens.of_lengths(values, np.array([len(row) for row in rows], dtype=np.int64))


def listed(ragged: RaggedTokens) -> list[list[int]]:
    bounds = ragged.offsets.tolist()
    return [ragged.values[bounds[i] : bounds[i + 1]].tolist() for i in range(len(ragged))]


@given(rows=any_rows, seed=st.integers(0, 9), max_length=st.none() | st.integers(1, 4))
def test_behaves_like_the_lists(rows: list[list[int]], seed: int, max_length: int | None) -> None:
    ragged = packed(rows)
    assert listed(ragged) == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert listed(RaggedTokens.concatenate([ragged, ragged])) == rows + rows
    assert listed(ragged.truncated(max_length)) == [row[:max_length] for row in rows]
    picked = np.random.default_rng(seed).integers(0, max(len(rows), 1), len(rows))
    assert listed(ragged.take(picked)) == [rows[place] for place in picked]


@given(rows=any_rows, data=st.data(), width=st.none() | st.integers(1, 6))
def test_padding_equals_the_plain_twin(
    rows: list[list[int]], data: st.DataObject, width: int | None
) -> None:
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    tokens, lengths = packed(rows).padded(start, stop, width)
    chosen = [row[:width] for row in rows[start:stop]]
    longest = max([1, *(len(row) for row in chosen)]) if width is None else width
    assert tokens.shape == (len(chosen), longest)
    assert tokens.tolist() == [row + [0] * (longest - len(row)) for row in chosen]
    assert lengths.tolist() == [len(row) for row in chosen]
    assert (tokens.dtype, lengths.dtype) == (np.int64, np.int64)


def test_nothing_together_is_nothing() -> None:
    assert listed(RaggedTokens.concatenate([])) == []
