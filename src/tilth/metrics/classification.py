"""Numbers of a classifier: how often it is right, for which classes, and whether it knows it.

Source: Guo, Pleiss, Sun, Weinberger, 2017, On Calibration of Modern Neural Networks, arXiv
    1706.04599v2; Brier, 1950, doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
Follows: Eq. 3 -> `expected_calibration_error`; Eq. 9 -> `fit_temperature`; Brier's P ->
    `brier_score`.
Symbols: probabilities (n, k), rows that add up to 1; labels (n), class numbers; confidence = the
    largest probability; bins = M intervals of confidence, open below and closed above.
Differs: the temperature is found by bisection of the derivative, which is monotone in 1 / T, and
    stays between 0.05 and 20.
Checked by: `test_scores_equal_sklearn`, `test_calibration_error_equals_plain_twin`,
    `test_temperature_has_the_lowest_loss`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from tilth.errors import DataError, EmptyDatasetError

__all__ = [
    "ClassificationScores",
    "ReliabilityBins",
    "brier_score",
    "classification_scores",
    "confusion_matrix",
    "expected_calibration_error",
    "fit_temperature",
    "log_loss",
    "reliability_bins",
]

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

SMALLEST_PROBABILITY = 1e-12
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Predictions grouped by confidence; a bin without any has NaN.

    Attributes:
        edges: float64 [bins + 1], from 0 to 1.
        counts: int64 [bins].
        confidence, accuracy: float64 [bins], means in the bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassificationScores:
    """What a classifier reaches on n labelled examples.

    Attributes:
        majority_accuracy: of naming the most frequent class of these examples every time.
        balanced_accuracy: mean recall of the classes that occur.
        precision, recall, f1: float64 [k]; NaN where a class was never named or never occurred.
        support: int64 [k], examples of each class.
        confusion: int64 [k, k], rows are labels and columns predictions.
    """

    num_examples: int
    accuracy: float
    majority_accuracy: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    brier: float
    calibration_error: float
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    confusion: NDArray[np.int64]
    reliability: ReliabilityBins


def classification_scores(
    probabilities: Floats, labels: Ints, *, num_bins: int = 15
) -> ClassificationScores:
    """All numbers of this file at once.

    Raises:
        EmptyDatasetError: no example.
        DataError: labels that are no class, or arrays that do not belong together.

    >>> scores = classification_scores(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    >>> scores.accuracy, scores.confusion.tolist()
    (0.5, [[1, 0], [1, 0]])
    """
    num_classes = _checked(probabilities, labels)
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), num_classes)
    support, named = confusion.sum(axis=1), confusion.sum(axis=0)
    right = np.diagonal(confusion)
    recall, precision = _share(right, support), _share(right, named)
    occurs = support > 0
    f1 = _share(2 * right, support + named)
    bins = reliability_bins(probabilities, labels, num_bins=num_bins)
    return ClassificationScores(
        num_examples=len(labels),
        accuracy=float(right.sum() / len(labels)),
        majority_accuracy=float(support.max() / len(labels)),
        balanced_accuracy=float(recall[occurs].mean()),
        macro_f1=float(f1[occurs | (named > 0)].mean()),
        log_loss=log_loss(probabilities, labels),
        brier=brier_score(probabilities, labels),
        calibration_error=expected_calibration_error(bins),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
        confusion=confusion,
        reliability=bins,
    )


def confusion_matrix(labels: Ints, predicted: Ints, num_classes: int) -> NDArray[np.int64]:
    """int64 [k, k]: how many of each class (row) were called what (column)."""
    cells = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def reliability_bins(probabilities: Floats, labels: Ints, *, num_bins: int = 15) -> ReliabilityBins:
    """Confidence and accuracy in ``num_bins`` intervals of equal width."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, num_bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    return ReliabilityBins(
        edges=edges,
        counts=counts,
        confidence=_share(np.bincount(place, confidence, num_bins), counts),
        accuracy=_share(np.bincount(place, right, num_bins), counts),
    )


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Mean distance of accuracy from confidence, bins weighted by their number of examples."""
    filled = bins.counts > 0
    gaps = np.abs(bins.accuracy - bins.confidence)[filled]
    return float((gaps * bins.counts[filled]).sum() / bins.counts.sum())  # Eq. 3


def log_loss(probabilities: Floats, labels: Ints) -> float:
    """Mean negative logarithm of the label's probability, in nats."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1)).mean())


def brier_score(probabilities: Floats, labels: Ints) -> float:
    """Mean squared distance to the one-hot label, 0 to 2; twice the usual binary score."""
    distance = probabilities.astype(np.float64)
    distance[np.arange(len(labels)), labels] -= 1
    return float((distance**2).sum(axis=1).mean())


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """T for which softmax(logits / T) has the lowest log loss; fit it on held-out examples.

    Raises:
        EmptyDatasetError, DataError: as `classification_scores`.

    >>> round(fit_temperature(np.log([[0.8, 0.2]] * 10), np.array([0] * 6 + [1] * 4)), 2)
    3.42
    """
    _checked(logits, labels)
    logits = log_softmax(logits.astype(np.float64), axis=1)
    chosen = logits[np.arange(len(labels)), labels].mean()
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(60):
        middle = (low + high) / 2
        slope = (softmax(middle * logits, axis=1) * logits).sum(axis=1).mean() - chosen
        low, high = (middle, high) if slope < 0 else (low, middle)
    return float(2 / (low + high))


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _checked(probabilities: Floats, labels: Ints) -> int:
    if not len(labels):
        raise EmptyDatasetError("there is no example to score")
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise DataError(
            "predictions and labels do not belong together",
            expected=f"one row for each of {len(labels)} labels",
            got=f"an array of shape {probabilities.shape}",
        )
    num_classes = probabilities.shape[1]
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            "a label is no class",
            expected=f"0 to {num_classes - 1}",
            got=f"{labels.min()} to {labels.max()}",
        )
    if not np.isfinite(probabilities).all():
        raise DataError("a prediction is not a number", expected="finite values")
    return num_classes
