"""Splits depend on names alone, and derived pictures never leave their parent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sets import small_dataset

from tilth.data.dataset import Dataset
from tilth.data.records import Split
from tilth.data.splits import split_by_parent
from tilth.errors import DataError, SettingsError

SHARES = (0.6, 0.2, 0.2)


def many(count: int) -> Dataset:
    return small_dataset(num_media=count, labels_each=0)


def test_shares_are_met_in_expectation() -> None:
    splits = split_by_parent(many(4_000), SHARES, 0)
    shares = np.bincount(splits, minlength=3) / 4_000
    np.testing.assert_allclose(shares, SHARES, atol=0.03)  # four standard deviations


@given(seed=st.integers(0, 1_000), added=st.integers(1, 30))
def test_adding_pictures_moves_none(seed: int, added: int) -> None:
    few, more = many(20), many(20 + added)
    np.testing.assert_array_equal(
        split_by_parent(few, SHARES, seed), split_by_parent(more, SHARES, seed)[:20]
    )


def test_the_seed_decides() -> None:
    dataset = many(50)
    first = split_by_parent(dataset, SHARES, 1)
    np.testing.assert_array_equal(first, split_by_parent(dataset, SHARES, 1))
    assert (first != split_by_parent(dataset, SHARES, 2)).any()


@given(seed=st.integers(0, 1_000))
def test_a_whole_family_falls_into_one_part(seed: int) -> None:
    dataset = many(30)
    ids = dataset.media.id
    parents = np.full(30, -1)
    parents[10:20] = ids[:10]  # children
    parents[20:] = ids[10:20]  # grandchildren
    family = replace(dataset, media=replace(dataset.media, parent_id=parents))
    splits = split_by_parent(family, SHARES, seed)
    np.testing.assert_array_equal(splits[10:20], splits[:10])
    np.testing.assert_array_equal(splits[20:], splits[:10])


def test_a_group_falls_into_one_part() -> None:
    groups = [f"street {i // 5}" for i in range(50)]
    splits = split_by_parent(many(50), SHARES, 0, groups=groups)
    assert all(len(set(splits[i : i + 5].tolist())) == 1 for i in range(0, 50, 5))
    assert len(set(splits.tolist())) > 1


def test_a_share_of_nothing_gets_nothing() -> None:
    splits = split_by_parent(many(200), (0.5, 0.0, 0.5), 0)
    assert not (splits == Split.VAL).any()
    assert (split_by_parent(many(20), (1.0, 0.0, 0.0), 0) == Split.TRAIN).all()


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.2, 0.2), (1.5, -0.5, 0.0), (np.nan, 1, 0)])
def test_shares_that_cannot_be_used_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="shares"):
        split_by_parent(many(4), shares, 0)


def test_a_missing_parent_is_refused() -> None:
    dataset = many(4)
    media = replace(dataset.media, parent_id=np.array([-1, 7, -1, -1]))
    with pytest.raises(DataError, match="parent"):
        split_by_parent(replace(dataset, media=media), SHARES, 0)


def test_a_circle_of_parents_is_refused() -> None:
    dataset = many(2)
    media = replace(dataset.media, parent_id=dataset.media.id[::-1].copy())
    with pytest.raises(DataError, match="each other"):
        split_by_parent(replace(dataset, media=media), SHARES, 0)


def test_project_and_pictures_moved_together_divide_as_before() -> None:
    dataset = many(200)

    def placed(home: str) -> Dataset:
        uris = [f"{home}/photos/{number}.png" for number in range(200)]
        return replace(dataset, media=replace(dataset.media, uri=uris))

    here, there = placed("/home/ann"), placed("/data/team")
    first = split_by_parent(here, SHARES, 0, root=Path("/home/ann/field"))
    second = split_by_parent(there, SHARES, 0, root=Path("/data/team/field"))
    np.testing.assert_array_equal(first, second)
    assert (first != split_by_parent(there, SHARES, 0)).any()
