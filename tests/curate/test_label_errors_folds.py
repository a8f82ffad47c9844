"""Folds keep classes in their shares and groups together; groups join in chains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.curate.label_folds import fold_of_rows, joined_groups, same_values
from tilth.errors import DataError, SettingsError


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.integers(20, 200), st.integers(1, 4), st.integers(0, 1000))
def test_rows_of_a_class_are_spread_evenly(folds, rows, classes, seed):
    labels = np.random.default_rng(seed).integers(classes, size=rows)
    fold = fold_of_rows(labels, folds=folds, seed=seed)
    assert set(fold.tolist()) <= set(range(folds))
    for label in range(classes):
        counts = np.bincount(fold[labels == label], minlength=folds)
        assert counts.max() - counts.min() <= 1
    counts = np.bincount(fold, minlength=folds)
    assert counts.max() - counts.min() <= classes


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 5), st.integers(60, 300), st.integers(0, 1000))
def test_a_group_is_never_torn(folds, rows, seed):
    stream = np.random.default_rng(seed)
    groups = stream.integers(rows // 3, size=rows)
    fold = fold_of_rows(stream.integers(3, size=rows), folds=folds, seed=seed, groups=groups)
    for group in np.unique(groups):
        assert len(np.unique(fold[groups == group])) == 1
    counts = np.bincount(fold, minlength=folds)
    assert counts.min() > 0
    assert counts.max() <= 1.5 * rows / folds + 3


def test_seed_decides_and_nothing_else():
    labels = np.arange(50) % 3
    one, same, other = (fold_of_rows(labels, folds=4, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_groups_in_pairs_keep_classes_level():
    labels = np.repeat(np.arange(40) % 4, 2)
    fold = fold_of_rows(labels, folds=5, seed=0, groups=np.repeat(np.arange(40), 2))
    for label in range(4):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.tolist() == [4] * 5


def test_too_few_groups_or_folds_are_refused():
    with pytest.raises(SettingsError, match="held out"):
        fold_of_rows(np.zeros(5, int), folds=1, seed=0)
    with pytest.raises(DataError, match="fewer groups than folds"):
        fold_of_rows(np.zeros(5, int), folds=3, seed=0, groups=np.array([0, 0, 0, 1, 1]))


def test_groups_join_in_chains_over_columns():
    street = np.array([0, 0, 1, 2, -1, -1])
    person = np.array([-1, 5, 5, -1, -1, 7])
    assert joined_groups(street, person).tolist() == [0, 0, 0, 1, 2, 3]


def test_values_are_numbered_and_nothing_is_no_value():
    assert same_values([(1, 2), None, (1, 2), "b"]).tolist() == [0, -1, 0, 1]
