"""Signals that have no scale of their own, as ranks within each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["rank_within_class"]


def rank_within_class(
    signal: NDArray[np.floating], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """float64 [n], 0 to 1: the share of the label's own class that lies below each example.

    The weights that a loss gives have no scale of their own, and rare classes have low ones
    throughout: taken as they are, they accuse the rare classes. Equal signals get equal ranks; NaN
    stays NaN.

    >>> rank_within_class(np.array([5.0, 1.0, 3.0, 0.1]), np.array([0, 0, 0, 1])).round(3)
    array([1. , 0. , 0.5, 0.5])
    """
    ranks = np.full(len(signal), np.nan)
    for label in np.unique(labels):
        rows = np.flatnonzero((labels == label) & ~np.isnan(signal))
        if not len(rows):
            continue
        values = np.sort(signal[rows])
        below = np.searchsorted(values, signal[rows], side="left")
        upto = np.searchsorted(values, signal[rows], side="right")
        alone = len(rows) == 1
        ranks[rows] = 0.5 if alone else (below + upto - 1) / 2 / (len(rows) - 1)
    return ranks
