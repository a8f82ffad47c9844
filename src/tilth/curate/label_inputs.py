"""Labels and predicted probabilities that belong together: checked before anything is counted.

Most wrong answers about wrong labels come from wrong input: labels that are not the places of
classes, probabilities that are logits, or probabilities of a model that has seen the labels.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from tilth.errors import DataError, EmptyDatasetError

__all__ = ["check_labels", "check_probabilities", "warn_if_in_sample"]

BLOCK_VALUES = 2**17
# Rows of float16 probabilities of 1,000 classes miss 1 by about a hundredth.
SUM_TOLERANCE = 0.02
# Held-out models that agree with more of hundreds of labels than this are rare; ones that have
# seen the labels are the rule.
SUSPICIOUS_AGREEMENT = 0.998
FEWEST_SUSPICIOUS = 200


def check_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """The probabilities [n, k], no copy, when each row can be a distribution over k classes.

    Raises:
        DataError: not [n, k] floats with k of 2 or more, a value that is NaN or not within 0 to 1,
            or a row that does not add up to 1.
        EmptyDatasetError: no row.

    >>> check_probabilities(np.array([[0.25, 0.75]])).shape
    (1, 2)
    """
    values = np.asarray(probabilities)
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind != "f":
        raise DataError(
            "the probabilities cannot be used",
            expected="floats of shape [examples, classes], two classes or more",
            got=f"{values.dtype} of shape {list(values.shape)}",
        )
    if not len(values):
        raise EmptyDatasetError("no example has probabilities")
    rows = max(1, BLOCK_VALUES // values.shape[1])
    for start in range(0, len(values), rows):  # a block stays in the cache for all three questions
        _refuse_values(values[start : start + rows], start)
    return values


def check_labels(labels: NDArray[np.integer], num_rows: int, num_classes: int) -> NDArray[np.int64]:
    """The labels as int64 [n], when they are places of classes.

    Raises:
        DataError: other than one whole number a row, a number of rows unlike the probabilities',
            or a label outside 0 to k - 1.

    >>> check_labels(np.array([1, 0], dtype=np.uint8), 2, 2)
    array([1, 0])
    """
    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(
            "the labels cannot be used",
            expected="whole numbers of shape [examples], the place of each label among the classes",
            got=f"{values.dtype} of shape {list(values.shape)}",
            fix="number the classes from 0: np.unique(labels, return_inverse=True)[1]",
        )
    if len(values) != num_rows:
        raise DataError(
            "labels and probabilities are not of the same examples",
            expected=f"{num_rows:,} labels, one for each row of probabilities",
            got=f"{len(values):,}",
        )
    outside = (values < 0) | (values >= num_classes)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise DataError(
            "a label is none of the classes",
            where=f"row {row}",
            expected=f"0 to {num_classes - 1}, as the probabilities have {num_classes} classes",
            got=str(values[row]),
            fix="number the classes from 0: np.unique(labels, return_inverse=True)[1]",
        )
    return values.astype(np.int64, copy=False)


def warn_if_in_sample(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> bool:
    """Warn, and return True, where the model agrees with nearly every label that it is to judge.

    A model that was trained on a wrong label has learned the error and finds nothing.
    """
    agreement = float((labels == predicted).mean())
    if len(labels) < FEWEST_SUSPICIOUS or agreement < SUSPICIOUS_AGREEMENT:
        return False
    warnings.warn(
        f"the model agrees with {agreement:.2%} of the labels: were the probabilities made by a "
        "model that was trained on these labels? It has learned their errors and finds none. "
        "Use probabilities of held-out rows, as 'tilth noise find DATA' makes them",
        UserWarning,
        stacklevel=3,
    )
    return True


def _refuse_values(block: NDArray[np.floating], start: int) -> None:
    kind = np.result_type(block.dtype, np.float32)
    sums = block.astype(kind, copy=False) @ np.ones(block.shape[1], dtype=kind)
    in_range = bool(block.min() >= 0 and block.max() <= 1 + SUM_TOLERANCE)  # false for NaN, too
    if in_range and bool((np.abs(sums - 1) <= SUM_TOLERANCE).all()):
        return
    inside = ((block >= 0) & (block <= 1 + SUM_TOLERANCE)).all(axis=1)
    if not inside.all():
        row = int(np.flatnonzero(~inside)[0])
        raise DataError(
            "the probabilities hold values that are none",
            where=f"row {start + row}",
            expected="0 to 1, no NaN",
            got=np.array2string(block[row, :6], precision=4, separator=", "),
            fix="give probabilities, not logits: softmax over the classes",
        )
    row = int(np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)[0])
    raise DataError(
        "a row of the probabilities does not add up to 1",
        where=f"row {start + row}",
        expected="1",
        got=f"{float(sums[row]):.4f}",
        fix="give probabilities, not logits or independent scores: softmax over the classes",
    )
