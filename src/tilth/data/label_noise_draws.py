"""Given labels drawn from true ones and a matrix: at random, or in the numbers that are expected.

Two numbers are drawn for each label, whatever the noise: `touch`, which is below the rate of a
wrong label, and `aim`, which chooses among the wrong classes. Both follow from the seed and the
place of the label alone, so a greater rate adds wrong labels and changes none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilth.seeding import generator

__all__ = ["aimed", "apportioned", "drawn_labels", "draws", "exact_labels"]


def draws(count: int, *, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``touch`` and ``aim``, float64 [n] each, from 0 to below 1."""
    return (
        generator(seed, "label noise", "touch").random(count),
        generator(seed, "label noise", "aim").random(count),
    )


def drawn_labels(
    true: NDArray[np.int64], matrix: NDArray[np.float64], *, seed: int
) -> NDArray[np.int64]:
    """int64 [n]: each label from the row of its true class in ``matrix`` [k, k]."""
    touch, aim = draws(len(true), seed=seed)
    noisy = true.copy()
    for true_class, chances in enumerate(matrix):
        wrong = _wrong_chances(chances, true_class)
        rows = np.flatnonzero((true == true_class) & (touch < wrong.sum()))
        if len(rows):
            noisy[rows] = aimed(np.broadcast_to(wrong, (len(rows), len(wrong))), aim[rows])
    return noisy


def exact_labels(
    true: NDArray[np.int64], matrix: NDArray[np.float64], *, seed: int
) -> NDArray[np.int64]:
    """int64 [n]: as many labels in each cell as ``matrix`` [k, k] expects, up to rounding.

    The number of all wrong labels is the expected one, rounded; so is then that of each class, and
    of each wrong class within it.
    """
    touch, aim = draws(len(true), seed=seed)
    num_classes = len(matrix)
    sizes = np.bincount(true, minlength=num_classes)
    expected = sizes * (1 - np.diag(matrix))
    numbers = apportioned(expected, round(float(expected.sum())))
    noisy = true.copy()
    for true_class, number in enumerate(numbers.tolist()):
        if not number:
            continue
        rows = np.flatnonzero(true == true_class)
        rows = rows[np.argsort(touch[rows], kind="stable")[:number]]
        wrong = _wrong_chances(matrix[true_class], true_class)
        cells = apportioned(number * wrong / wrong.sum(), number)
        rows = rows[np.argsort(aim[rows], kind="stable")]
        noisy[rows] = np.repeat(np.arange(num_classes), cells)
    return noisy


def aimed(chances: NDArray[np.float64], aim: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64 [n]: the class that ``aim`` [n] falls on where ``chances`` [n, k] lie end to end.

    >>> aimed(np.array([[0.0, 3.0, 1.0]] * 3), np.array([0.0, 0.74, 0.76])).tolist()
    [1, 1, 2]
    """
    ends = np.cumsum(chances, axis=1)
    ends /= ends[:, -1:]  # the last is exactly 1, above every aim
    return (ends <= aim[:, None]).sum(axis=1)


def apportioned(shares: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """int64 [k] that sum to ``total``, each a share rounded down or up (largest remainder).

    >>> apportioned(np.array([1.5, 2.25, 1.25]), 5).tolist()
    [2, 2, 1]
    """
    numbers = np.floor(shares).astype(np.int64)
    most = np.argsort(numbers - shares, kind="stable")
    numbers[most[: total - int(numbers.sum())]] += 1
    return numbers


def _wrong_chances(chances: NDArray[np.float64], true_class: int) -> NDArray[np.float64]:
    wrong = chances.copy()
    wrong[true_class] = 0.0
    return wrong
