"""Confident learning: from labels and held-out probabilities to counts of (given, true) labels.

Source: Northcutt, Jiang, Chuang, 2021, Confident Learning: Estimating Uncertainty in Dataset
    Labels, arXiv 1911.00068v4.
Follows: Eq. 1 -> `confident_joint`; Eq. 2 -> `class_thresholds`; Eq. 3 -> `calibrated_joint`.
Symbols: thresholds = t_j = mean probability of class j among the examples that carry label j;
    confident = the class that an example is counted under, -1 for none; joint = Q = share of
    examples with given label i (row) and true label j (column).
Differs: a diagonal entry counts at least one example, so that every class that is given is true
    somewhere; a class that no example carries is never the true one. Everything is read in blocks
    of rows: nothing of the size of the probabilities is made.
Checked by: `test_eq1_confident_joint_matches_plain_loop`, `test_eq2_thresholds_by_hand`,
    `test_eq3_calibrated_joint_keeps_the_given_counts`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.curate.label_inputs import check_labels, check_probabilities

__all__ = [
    "ScannedLabels",
    "calibrated_joint",
    "class_thresholds",
    "confident_joint",
    "row_blocks",
    "scan_labels",
]

BLOCK_VALUES = 2**17
# A class whose probabilities are all alike must reach its own mean, whatever rounding does.
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class ScannedLabels:
    """What one reading of n examples of k classes gives; every filter and score starts from it.

    Attributes:
        labels: int64 [n], the given ones.
        probabilities: [n, k], as they were given.
        own: [n], probability of the given label.
        predicted: int64 [n], the likeliest class.
        confident: int64 [n], the likeliest class that reaches its threshold; -1 for none.
        thresholds: float64 [k]; infinite for a class that no example carries.
        counts: int64 [k], examples that carry each label.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.floating]
    own: NDArray[np.floating]
    predicted: NDArray[np.int64]
    confident: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """k."""
        return len(self.counts)


def scan_labels(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> ScannedLabels:
    """Read labels [n] and probabilities [n, k] once.

    Raises:
        DataError, EmptyDatasetError: input that cannot be used; see `tilth.curate.label_inputs`.
    """
    values = check_probabilities(probabilities)
    given = check_labels(labels, *values.shape)
    count, k = values.shape
    own = values[np.arange(count), given].astype(np.result_type(values.dtype, np.float32))
    thresholds = class_thresholds(given, own, k)
    predicted = np.empty(count, dtype=np.int64)
    confident = np.empty(count, dtype=np.int64)
    for rows, block in row_blocks(values):
        predicted[rows], confident[rows] = _confident_classes(block, thresholds)
    return ScannedLabels(
        labels=given,
        probabilities=values,
        own=own,
        predicted=predicted,
        confident=confident,
        thresholds=thresholds,
        counts=np.bincount(given, minlength=k),
    )


def class_thresholds(
    labels: NDArray[np.int64], own: NDArray[np.floating], num_classes: int
) -> NDArray[np.float64]:
    """float64 [k]: the mean of ``own``, the probability of the given label, for each label.

    >>> class_thresholds(np.array([0, 0]), np.array([0.5, 1.0]), 2)
    array([0.75,  inf])
    """
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, own, minlength=num_classes)
    missing = np.full(num_classes, np.inf)
    return np.divide(sums, counts, out=missing, where=counts > 0)  # Eq. 2


def confident_joint(scan: ScannedLabels) -> NDArray[np.int64]:
    """int64 [k, k + 1]: examples of each given label (row) that are confidently of each class.

    The last column counts those that reach no threshold; the rows add up to ``scan.counts``.
    """
    k = scan.num_classes
    columns = np.where(scan.confident < 0, k, scan.confident)
    cells = np.bincount(scan.labels * (k + 1) + columns, minlength=k * (k + 1))  # Eq. 1
    return cells.reshape(k, k + 1)


def calibrated_joint(cells: NDArray[np.integer]) -> NDArray[np.float64]:
    """float64 [..., k, k]: share of examples by given (row) and true (column) label; adds up to 1.

    Args:
        cells: [..., k, k + 1], as `confident_joint` gives them.

    >>> calibrated_joint(np.array([[2, 1, 3], [0, 2, 0]]))
    array([[0.5 , 0.25],
           [0.  , 0.25]])
    """
    counts = cells.sum(axis=-1, keepdims=True)
    joint = cells[..., :-1].astype(np.float64)
    k = np.arange(joint.shape[-1])
    diagonal = np.maximum(joint[..., k, k], counts[..., 0] > 0)
    joint[..., k, k] = diagonal
    sums = joint.sum(axis=-1, keepdims=True)
    shares = np.divide(joint, sums, out=np.zeros_like(joint), where=sums > 0)
    return shares * (counts / counts.sum(axis=(-2, -1), keepdims=True))  # Eq. 3


def row_blocks(
    values: NDArray[np.floating],
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Slices of rows with their values, float16 as float32, small enough for the cache."""
    rows = max(1, BLOCK_VALUES // values.shape[1])
    kind = np.result_type(values.dtype, np.float32)
    for start in range(0, len(values), rows):
        part = slice(start, start + rows)
        yield part, values[part].astype(kind, copy=False)


def _confident_classes(
    block: NDArray[np.floating], thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The likeliest class of each row, and the likeliest one that reaches its threshold."""
    reach = (thresholds - ROUNDING).astype(block.dtype)
    every = np.arange(len(block))
    predicted = block.argmax(axis=1)
    confident = predicted.copy()
    # The likeliest class of all is the answer wherever it is confident: look on only elsewhere.
    rest = np.flatnonzero(block[every, predicted] < reach[predicted])
    others = block[rest]
    others *= others >= reach
    best = others.argmax(axis=1)
    best[others[np.arange(len(rest)), best] <= 0] = -1
    confident[rest] = best
    return predicted, confident
