"""From which score to take a detector's word: precision, recall and F1 as the threshold moves.

Average precision sums over all thresholds; somebody who uses a detector must choose one. The best
is given for each class, as a detector is seldom as sure of one class as of another.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.records import Geometry
from tilth.metrics.accumulation import Interpolation
from tilth.metrics.matching import match

__all__ = ["OperatingPoint", "ScoreCurves", "operating_points", "score_curves"]


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What a class gets at one threshold.

    Attributes:
        score: keep detections from here up.
        precision, recall, f1: of the kept ones, at the IoU that was asked for.
    """

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreCurves:
    """Each class at evenly spaced thresholds.

    Attributes:
        scores: [s], 0 to 1.
        precision, recall, f1: [c, s]; NaN for a class without truth. Where nothing is kept,
            precision is 1 and F1 is 0.
    """

    scores: Float[np.ndarray, "s"]
    precision: Float[np.ndarray, "c s"]
    recall: Float[np.ndarray, "c s"]
    f1: Float[np.ndarray, "c s"]


def operating_points(
    truth: Dataset,
    detections: Detections,
    *,
    iou_threshold: float = 0.5,
    mode: Interpolation = "coco",
) -> dict[str, OperatingPoint | None]:
    """The threshold of the best F1 by category name; None without truth, or without detections.

    Of thresholds that are equally good the highest is given.

    Args:
        mode: whose rule of matching, see `average_precision`.
    """
    found: dict[str, OperatingPoint | None] = {}
    counted = _Counted.of(truth, detections, iou_threshold, mode)
    for row, category in enumerate(truth.categories):
        scores, right, wrong = counted.running(row)
        total = int(counted.num_truths[row])
        if not total or not len(scores):
            found[category.name] = None
            continue
        f1 = 2 * right / (right + wrong + total)
        best = int(np.argmax(f1))
        found[category.name] = OperatingPoint(
            score=float(scores[best]),
            precision=float(right[best] / max(1, right[best] + wrong[best])),
            recall=float(right[best] / total),
            f1=float(f1[best]),
        )
    return found


def score_curves(
    truth: Dataset,
    detections: Detections,
    *,
    iou_threshold: float = 0.5,
    mode: Interpolation = "coco",
    num_scores: int = 101,
) -> ScoreCurves:
    """Precision, recall and F1 of every class at ``num_scores`` thresholds from 0 to 1."""
    counted = _Counted.of(truth, detections, iou_threshold, mode)
    grid = np.linspace(0.0, 1.0, num_scores)
    shape = (len(truth.categories), num_scores)
    precision, recall, f1 = (np.full(shape, np.nan) for _ in range(3))
    for row in np.flatnonzero(counted.num_truths).tolist():
        scores, right, wrong = counted.running(row)
        # Scores fall: as many are kept as are not below the threshold.
        kept = np.searchsorted(-scores, -grid, side="right")
        right_kept = np.append(0, right)[kept]
        wrong_kept = np.append(0, wrong)[kept]
        total = right_kept + wrong_kept
        precision[row] = np.where(total > 0, right_kept / np.maximum(total, 1), 1.0)
        recall[row] = right_kept / counted.num_truths[row]
        f1[row] = 2 * right_kept / (total + counted.num_truths[row])
    return ScoreCurves(scores=grid, precision=precision, recall=recall, f1=f1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counted:
    """Detections that count for or against a class, and how many objects each class has."""

    category: NDArray[np.int64]
    score: NDArray[np.float32]
    is_right: NDArray[np.bool_]
    num_truths: NDArray[np.int64]

    @classmethod
    def of(
        cls, truth: Dataset, detections: Detections, iou_threshold: float, mode: Interpolation
    ) -> "_Counted":
        truth = truth.keep_annotations(truth.annotations.geometry != Geometry.LABEL)
        matches = match(truth, detections, iou_threshold=iou_threshold, mode=mode)
        counts = matches.is_true_positive | matches.is_false_positive
        rows = np.flatnonzero(counts)
        rows = rows[np.argsort(-detections.score[rows], kind="stable")]
        own = truth.annotations.category_index[matches.is_counted]
        return cls(
            category=detections.category_index[rows],
            score=detections.score[rows],
            is_right=matches.is_true_positive[rows],
            num_truths=np.bincount(own, minlength=len(truth.categories)),
        )

    def running(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """The distinct scores of a class, falling, with what is right and wrong down to each."""
        own = self.category == row
        scores, is_right = self.score[own], self.is_right[own]
        last = np.append(np.diff(scores) != 0, True)[: len(scores)]
        right, wrong = np.cumsum(is_right), np.cumsum(~is_right)
        return scores[last], right[last], wrong[last]
