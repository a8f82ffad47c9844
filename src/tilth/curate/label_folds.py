"""Folds for held-out predictions: every class in its share, everything of one group in one fold.

Near-duplicates in two folds are a leak: the model that is to judge a label has then seen the label
of its twin, which is wrong in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tilth.errors import DataError, SettingsError
from tilth.seeding import generator

__all__ = ["fold_of_rows", "joined_groups", "same_values"]


def fold_of_rows(
    labels: NDArray[np.int64],
    *,
    folds: int,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """int64 [n], 0 to ``folds`` - 1: the fold that holds each row out.

    The largest groups are placed first, each where its classes are most lacking; groups of one size
    in an order drawn from the seed.

    Args:
        labels: int64 [n], places of classes.
        groups: int64 [n], rows of one number stay together; None for rows on their own.

    Raises:
        SettingsError: fewer than 2 folds.
        DataError: fewer groups than folds.
    """
    if folds < 2:
        raise SettingsError("labels cannot be held out", expected="2 folds or more", got=str(folds))
    group = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(group)
    if len(sizes) < folds:
        raise DataError(
            "there are fewer groups than folds",
            expected=f"{folds} groups or more, or fewer folds",
            got=f"{len(sizes)} groups of {len(labels):,} rows",
        )
    order = generator(seed, "folds").permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of_group = np.empty(len(sizes), dtype=np.int64)
    large = order[: int((sizes > 1).sum())]
    filled = _place_large(fold_of_group, large, group, labels, folds)
    single = order[len(large) :]
    first_row = np.empty(len(sizes), dtype=np.int64)
    first_row[group] = np.arange(len(labels))
    _place_single(fold_of_group, single, labels[first_row[single]], filled)
    return fold_of_group[group]


def joined_groups(*numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [n]: rows that share a number in any of the columns are of one group, also in chains.

    A negative number is none. Groups are numbered from 0 in the order of their first rows.

    >>> joined_groups(np.array([7, 7, 8, -1]), np.array([0, 1, 1, -1])).tolist()
    [0, 0, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, rows, columns, start = len(numbers[0]), [], [], len(numbers[0])
    for column in numbers:
        known = np.flatnonzero(column >= 0)
        values, codes = np.unique(column[known], return_inverse=True)
        rows.append(known)
        columns.append(start + codes)
        start += len(values)
    ends = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(start, start))
    found = connected_components(graph, directed=False)[1][:count]
    _, first, codes = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes].astype(np.int64)


def same_values(values: Sequence[object]) -> NDArray[np.int64]:
    """int64 [n]: a number for each different value; -1 for None.

    >>> same_values(["a", None, "b", "a"]).tolist()
    [0, -1, 1, 0]
    """
    known: dict[object, int] = {}
    return np.array([-1 if v is None else known.setdefault(v, len(known)) for v in values])


def _place_large(
    fold_of_group: NDArray[np.int64],
    large: NDArray[np.int64],
    group: NDArray[np.int64],
    labels: NDArray[np.int64],
    folds: int,
) -> NDArray[np.int64]:
    """Place the groups of several rows; int64 [folds, k]: rows of each class placed so far."""
    k = int(labels.max()) + 1
    filled = np.zeros((folds, k), dtype=np.int64)
    place = np.full(int(group.max()) + 1, -1)
    place[large] = np.arange(len(large))
    rows = np.flatnonzero(place[group] >= 0)
    rows = rows[np.argsort(place[group[rows]], kind="stable")]
    ends = np.cumsum(np.bincount(place[group[rows]], minlength=len(large)))
    for number, own in enumerate(np.split(rows, ends[:-1]) if len(large) else []):
        counts = np.bincount(labels[own], minlength=k)
        # Rows of the group's classes first; a fold with fewer rows in all among equals.
        crowded = (filled * counts).sum(axis=1), filled.sum(axis=1)
        fold = int(np.lexsort(crowded[::-1])[0])
        fold_of_group[large[number]] = fold
        filled[fold] += counts
    return filled


def _place_single(
    fold_of_group: NDArray[np.int64],
    single: NDArray[np.int64],
    labels: NDArray[np.int64],
    filled: NDArray[np.int64],
) -> None:
    """Place rows on their own, class by class, into the folds that lack the class most."""
    for label in np.unique(labels):
        own = single[labels == label]
        missing = _levelled(filled[:, label], filled.sum(axis=1), len(own))
        fold_of_group[own] = np.repeat(np.arange(len(filled)), missing)
        filled[:, label] += missing


def _levelled(
    filled: NDArray[np.int64], total: NDArray[np.int64], number: int
) -> NDArray[np.int64]:
    """int64 [folds]: how many of ``number`` rows each fold gets so that all are as full."""
    low, high = int(filled.min()), int(filled.max()) + number
    while low < high:  # the highest level that the rows can fill up to
        middle = (low + high + 1) // 2
        if np.maximum(middle - filled, 0).sum() <= number:
            low = middle
        else:
            high = middle - 1
    missing = np.maximum(low - filled, 0)
    rest = number - int(missing.sum())
    room = np.flatnonzero(filled + missing == low)
    missing[room[np.argsort(total[room] + missing[room], kind="stable")][:rest]] += 1
    return missing
