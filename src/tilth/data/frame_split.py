"""Train and validation rows of a frame, with every class in its share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilth.errors import DataError, SettingsError
from tilth.seeding import derive_seed, generator

__all__ = ["drawn_for_validation", "refuse_share", "split_rows"]


def split_rows(
    num_rows: int, validation: float, *, seed: int, codes: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows to check with, each in ascending order.

    Args:
        validation: share of the rows to check with, between 0 and 1.
        codes: int64 [n], class of each row. Every class then gives its share, rounded so that the
            total is right; at least one row of each class stays to train on.

    Raises:
        SettingsError: the share is not between 0 and 1.
        DataError: one of the parts would be empty.
    """
    refuse_share(validation)
    order = generator(seed, "split").permutation(num_rows)
    if codes is None:
        chosen = order[: round(validation * num_rows)]
    else:
        chosen = order[_chosen(codes[order], validation)]
    in_validation = np.zeros(num_rows, dtype=bool)
    in_validation[chosen] = True
    train, check = np.flatnonzero(~in_validation), np.flatnonzero(in_validation)
    if not (len(train) and len(check)):
        raise DataError(
            "one part of the split would be empty",
            got=f"{len(train)} rows to train on, {len(check)} to check with",
            fix="give more rows, or another share",
        )
    return train, check


def refuse_share(validation: float) -> None:
    """Raise `SettingsError` for a share that leaves one part empty."""
    if not 0.0 < validation < 1.0:
        raise SettingsError(
            "the share of the validation part cannot be used",
            expected="a number between 0 and 1, such as 0.2",
            got=repr(validation),
        )


def _chosen(codes: NDArray[np.int64], validation: float) -> NDArray[np.bool_]:
    """bool [n]: the first rows of every class, as many as its quota."""
    counts = np.bincount(codes)
    quotas = _quotas(counts, validation)
    by_class = np.argsort(codes, kind="stable")
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(codes), dtype=np.int64)
    rank[by_class] = np.arange(len(codes)) - starts[codes[by_class]]
    return rank < quotas[codes]


def _quotas(counts: NDArray[np.int64], validation: float) -> NDArray[np.int64]:
    """int64 [k]: shares rounded down, then up for the largest remainders until the total is met."""
    exact = counts * validation
    quotas = np.minimum(np.floor(exact).astype(np.int64), np.maximum(counts - 1, 0))
    missing = round(validation * counts.sum()) - int(quotas.sum())
    room = quotas + 1 < counts
    candidates = np.argsort(-(exact - quotas), kind="stable")
    quotas[candidates[room[candidates]][: max(missing, 0)]] += 1
    return quotas


def drawn_for_validation(
    rows: NDArray[np.int64], validation: float, *, seed: int
) -> NDArray[np.bool_]:
    """bool [n]: which rows are drawn, each by its number alone, so that nothing need be remembered.

    The share is met in expectation. The mixing is the finaliser of SplitMix64.
    """
    mixed = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed += np.uint64(derive_seed(seed, "split"))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed < np.uint64(validation * 2.0**64)
