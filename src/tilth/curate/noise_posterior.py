"""How likely each given label is right, when labels are wrong by a noise matrix.

Probabilities of a model that learned from wrong labels say which label an example would be *given*.
With T[i, j] = p(given i | true j), estimated by confident learning, p(given | x) = T p(true | x).
So p(true | x) = T^-1 p(given | x), kept above 0, and by Bayes' rule

    p(true j | x, given i)  is proportional to  T[i, j] p(true j | x).

p(given | x) are the model's probabilities, first made as sure as the given labels bear out
(`tilth.curate.probability_sharpness`): a doubt must be worth what it says.

Two things follow that counting alone does not have: a doubt is weighed by how often its two classes
are mistaken for each other, and the doubts add up to the number of wrong labels to expect.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilth.curate.confident_learning import ScannedLabels, row_blocks
from tilth.curate.probability_sharpness import fitting_exponent, sharpened

__all__ = [
    "LabelPosterior",
    "label_posterior",
    "noise_matrix_of",
    "own_posterior",
    "stable_inverse",
]

# The largest column sum of |T^-1|: beyond it noise in the probabilities is blown up to nonsense.
LARGEST_INVERSE = 20.0
# What a corrected probability keeps of the uncorrected one at least. Cut off at 0, all labels that
# the noise cannot explain would be equally wrong, and the head of the ranking would have no order.
LEAST_SHARE = 0.01
SMALLEST = 1e-12
FEW_CLASSES = 32


class LabelPosterior(NamedTuple):
    """What the true labels of n examples may be.

    Attributes:
        own: float32 [n], probability that the given label is right.
        suggested: int64 [n], the likeliest of the other classes.
        suggested_probability: float32 [n], of that one.
        sums: float64 [k, k], summed over the examples of each given label (row): probability of
            each true one (column).
        squares: float64 [k, k], the same of the squared probabilities.
    """

    own: NDArray[np.float32]
    suggested: NDArray[np.int64]
    suggested_probability: NDArray[np.float32]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]


def label_posterior(scan: ScannedLabels, joint: NDArray[np.float64]) -> LabelPosterior:
    """The posterior of every example, block by block.

    Args:
        joint: float64 [k, k], share of examples by given and true label; see
            `tilth.curate.confident_learning.calibrated_joint`.
    """
    count, k = len(scan), scan.num_classes
    own = np.empty(count, dtype=np.float32)
    best = np.empty(count, dtype=np.int64)
    best_probability = np.empty(count, dtype=np.float32)
    sums, squares = np.zeros((k, k)), np.zeros((k, k))
    given = _given_matrix(joint, scan)
    for rows, chances, total in _true_blocks(scan, given):
        labels, every = scan.labels[rows], np.arange(len(chances))
        chances *= given[labels]
        chances /= total[:, None]
        own[rows] = chances[every, labels]
        _add_by_label(sums, squares, chances, labels)
        chances[every, labels] = -1
        best[rows] = chances.argmax(axis=1)
        best_probability[rows] = np.maximum(chances[every, best[rows]], 0)
    return LabelPosterior(own, best, best_probability, sums, squares)


def own_posterior(scan: ScannedLabels, joint: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 [n]: `LabelPosterior.own` alone, in less time."""
    own = np.empty(len(scan), dtype=np.float32)
    given = _given_matrix(joint, scan)
    right = np.diagonal(given).copy()
    for rows, chances, total in _true_blocks(scan, given):
        labels = scan.labels[rows]
        own[rows] = chances[np.arange(len(chances)), labels] * right[labels] / total
    return own


def noise_matrix_of(joint: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [..., k, k]: p(given i | true j), whose columns add up to 1; a class that is never
    true is taken to be given rightly.

    >>> noise_matrix_of(np.array([[0.3, 0.1], [0.0, 0.6]])).round(3)
    array([[1.   , 0.143],
           [0.   , 0.857]])
    """
    prior = joint.sum(axis=-2, keepdims=True)
    identity = np.broadcast_to(np.eye(joint.shape[-1]), joint.shape).copy()
    return np.divide(joint, prior, out=identity, where=prior > 0)


def stable_inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [k, k]: the inverse, of the matrix mixed with as much of the identity as it needs.

    >>> stable_inverse(np.eye(2))
    array([[1., 0.],
           [0., 1.]])
    """
    identity = np.eye(len(matrix))
    for share in (0.0, 0.125, 0.25, 0.5, 0.75):
        try:
            inverse = np.linalg.inv((1 - share) * matrix + share * identity)
        except np.linalg.LinAlgError:
            continue
        if np.abs(inverse).sum(axis=0).max() <= LARGEST_INVERSE:
            return np.asarray(inverse, dtype=np.float64)
    return identity


def _given_matrix(joint: NDArray[np.float64], scan: ScannedLabels) -> NDArray[np.floating]:
    """[k, k]: p(given i | true j) in the precision of the probabilities."""
    matrix = noise_matrix_of(joint)
    # A label that nothing gives would make every sum 0: it then keeps its own word.
    np.maximum(matrix, SMALLEST * np.eye(len(matrix)), out=matrix)
    return matrix.astype(np.result_type(scan.probabilities.dtype, np.float32))


def _true_blocks(
    scan: ScannedLabels, given: NDArray[np.floating]
) -> Iterator[tuple[slice, NDArray[np.floating], NDArray[np.floating]]]:
    """Rows, p(true | x) [b, k] up to a factor, and p(given label | x) [b] up to the same one."""
    undo = np.ascontiguousarray(stable_inverse(given.astype(np.float64)).T).astype(given.dtype)
    forth = np.ascontiguousarray(given.T)
    exponent = fitting_exponent(scan.probabilities, scan.labels)
    for rows, block in row_blocks(scan.probabilities):
        sure = sharpened(block, exponent)
        chances = sure @ undo
        sure *= LEAST_SHARE
        np.maximum(sure, SMALLEST, out=sure)
        np.maximum(chances, sure, out=chances)
        labels = scan.labels[rows]
        if len(given) <= FEW_CLASSES:  # all of them at once is quicker than picking rows first
            total = (chances @ forth)[np.arange(len(chances)), labels]
        else:
            total = np.einsum("ij,ij->i", chances, given[labels])
        yield rows, chances, total


def _add_by_label(
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    chances: NDArray[np.floating],
    labels: NDArray[np.int64],
) -> None:
    """Add the rows of ``chances``, and their squares, to the rows of their labels."""
    order = np.argsort(labels.astype(np.min_scalar_type(len(sums))), kind="stable")
    counts = np.bincount(labels, minlength=len(sums))
    present = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[present]
    sorted_rows = chances[order].astype(np.float64)
    sums[present] += np.add.reduceat(sorted_rows, starts)
    squares[present] += np.add.reduceat(sorted_rows**2, starts)
