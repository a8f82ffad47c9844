"""What training itself says of each label: margins over the epochs, and weights that a loss gave.

An example with a right label is learned early and stays learned; one with a wrong label is pulled
towards the class of its likes, so that its margin stays low and a loss that trusts low losses gives
it little weight. No held-out model is needed, and no label is held back.

Source: Pleiss, Zhang, Elenberg, Weinberger, 2020, Identifying Mislabeled Data using the Area Under
    the Margin Ranking, arXiv 2001.10528.
Follows: Eq. 1 -> `label_margins`; Eq. 2 -> `area_under_margin`.
Symbols: logits = z, of one epoch; margin = z_y less the largest other logit, high is good.
Differs: an example that an epoch has no logits for (NaN) is averaged over the others. The paper's
    threshold samples, which need a class of their own in training, are left out: the margins rank.
Checked by: `test_eq1_margin_by_hand`, `test_eq2_area_under_margin_is_the_mean_over_epochs`
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tilth.curate.label_inputs import check_labels
from tilth.errors import DataError, EmptyDatasetError

__all__ = ["area_under_margin", "label_margins", "rank_within_class"]


def label_margins(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [n]: the label's logit less the largest other one.

    >>> label_margins(np.array([[2.0, 0.5], [1.0, 4.0]]), np.array([0, 0]))
    array([ 1.5, -3. ])
    """
    every = np.arange(len(logits))
    own = logits[every, labels].astype(np.float64)
    others = logits.astype(np.result_type(logits.dtype, np.float32))  # a copy, to be changed
    others[every, labels] = -np.inf
    return own - others.max(axis=1)  # Eq. 1


def area_under_margin(
    epochs: Iterable[NDArray[np.floating]], labels: NDArray[np.integer]
) -> NDArray[np.float64]:
    """float64 [n]: the mean margin over the epochs, low where the label is likely to be wrong.

    Args:
        epochs: logits [n, k] of each epoch, one after the other; a generator need not hold them
            all. A row of NaN is an example that the epoch did not see.

    Raises:
        DataError: logits of another shape than the epoch before, or a label outside the classes.
        EmptyDatasetError: no epoch.

    >>> area_under_margin([np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]])], np.array([0]))
    array([2.])
    """
    total: NDArray[np.float64] | None = None
    shape: tuple[int, ...] = ()
    for logits in epochs:
        if total is None:
            shape = logits.shape
            _require_matrix(shape)
            given = check_labels(np.asarray(labels), *shape)
            total, seen = np.zeros(len(given)), np.zeros(len(given), dtype=np.int64)
        if logits.shape != shape:
            raise DataError(
                "the epochs have logits of different shapes",
                expected=str(list(shape)),
                got=str(list(logits.shape)),
            )
        margins = label_margins(logits, given)
        known = ~np.isnan(margins)
        total[known] += margins[known]
        seen += known
    if total is None:
        raise EmptyDatasetError("no epoch has logits")
    return np.divide(total, seen, out=np.full(len(total), np.nan), where=seen > 0)  # Eq. 2


def rank_within_class(
    signal: NDArray[np.floating], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """float64 [n], 0 to 1: the share of the label's own class that lies below each example.

    Margins and weights have no scale of their own, and rare classes have low ones throughout: taken
    as they are, they accuse the rare classes. Equal signals get equal ranks; NaN stays NaN.

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


def _require_matrix(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[1] < 2:
        raise DataError(
            "the logits cannot be used",
            expected="[examples, classes], two classes or more",
            got=f"shape {list(shape)}",
        )
