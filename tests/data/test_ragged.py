"""`RaggedBytes` is a list of byte strings in all but its storage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data import ragged
from tilth.data.ragged import RaggedBytes, take_bytes

items = st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=6)), max_size=12)


@given(items=items, seed=st.integers(0, 99))
def test_behaves_like_the_list(items: list[bytes | None], seed: int) -> None:
    packed = RaggedBytes.of(items)
    assert len(packed) == len(items)
    assert list(packed) == items
    assert packed == items
    assert [packed[i] for i in range(-len(items), len(items))] == items + items
    rows = np.random.default_rng(seed).integers(0, max(len(items), 1), len(items))
    assert list(packed.take(rows)) == [items[row] for row in rows]
    assert list(packed[1:-1:2]) == items[1:-1:2]
    assert RaggedBytes.concatenate([packed[:3], packed[3:]]) == packed


def test_entries_outside_are_refused() -> None:
    with pytest.raises(IndexError):
        RaggedBytes.of([b"a"])[1]


def test_a_run_of_rows_shares_the_buffer() -> None:
    packed = RaggedBytes.of([b"abc", b"de", None, b"f"])
    part = packed.take(np.array([1, 2, 3]))
    assert np.shares_memory(
        np.frombuffer(part.data, np.uint8), np.frombuffer(packed.data, np.uint8)
    )
    assert list(part) == [b"de", None, b"f"]


def test_takes_longer_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "_BLOCK", 3)
    values = [bytes([i]) * i or None for i in range(11)]
    packed = RaggedBytes.of(values)
    assert list(packed) == values
    assert list(packed.take(np.arange(11)[::-1])) == values[::-1]


def test_take_bytes_keeps_the_kind() -> None:
    assert take_bytes([b"a", None], np.array([1, 0])) == [None, b"a"]
    assert isinstance(take_bytes(RaggedBytes.of([b"a", None]), np.array([1, 0])), RaggedBytes)


def test_empty_entries_are_none() -> None:
    assert list(RaggedBytes.empty(2)) == [None, None]
    assert RaggedBytes.of([b"x"]) != RaggedBytes.of([b"y"])
    assert RaggedBytes.of([b"ab", b"c"]) != RaggedBytes.of([b"a", b"bc"])
