"""How likely each kind of error in a box label is, from a detector's boxes: pure formulas.

Source: Tkachenko, Thyagarajan, Mueller, 2023, ObjectLab: Automated Diagnosis of Mislabeled Images
    in Object Detection Data, arXiv 2309.00832v1 (overlooked, badly located and swapped boxes; the
    soft minimum that makes one score of a picture).
Follows: overlooked boxes -> `missed_score`; badly located boxes -> `moved_score`; swapped boxes ->
    `swapped_score`; pooling of the boxes of a picture -> `picture_scores`.
Symbols: score = a detection's confidence, 0 to 1; iou = overlap of a label and a detection;
    temperature = temperature of the soft minimum, 0.1.
Differs: the paper scores each box against the most similar one, with a confidence of 0.95 as the
    threshold; detectors differ so much in calibration that here confidence weighs the score
    instead, and boxes are paired one to one first (`tilth.curate.box_pairs`), so that a
    neighbour's detection is no evidence. Similarity is the overlap alone. High is bad: these are
    scores of an error, the paper's are of quality (one minus ours). Labels without any detection
    (`spurious_score`) are ours: how many equal labels the detector misses says what its silence is
    worth.
Checked by: `test_scores_by_hand`, `test_picture_score_is_a_soft_maximum`,
    `test_one_of_each_is_found`, `test_planted_errors_come_first`
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["missed_score", "moved_score", "picture_scores", "spurious_score", "swapped_score"]


def missed_score(score: NDArray[np.float64], iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """An object was overlooked: a detection of this confidence overlaps no label more than ``iou``.

    >>> missed_score(np.array([0.9]), np.array([0.0]))
    array([0.9])
    """
    return score * (1 - iou)  # overlooked


def moved_score(score: NDArray[np.float64], iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """A box is badly placed: its object's detection overlaps it by ``iou`` only.

    >>> moved_score(np.array([0.8]), np.array([0.25]))
    array([0.6])
    """
    return score * (1 - iou)  # badly located


def swapped_score(
    score: NDArray[np.float64],
    iou: NDArray[np.float64],
    own_support: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """A class is wrong: a detection of another class lies here.

    Args:
        own_support: the largest score * iou of a detection of the label's own class, which counts
            against it.

    >>> swapped_score(np.array([0.8]), np.array([1.0]), np.array([0.5])).round(6)
    array([0.3])
    """
    return np.maximum(score * iou - own_support, 0)  # swapped


def spurious_score(
    support: NDArray[np.float64],
    miss_rate: NDArray[np.float64] | float,
    *,
    error_rate: float = 0.02,
) -> NDArray[np.float64]:
    """There is no object: no detection supports the label.

    Of the labels that a detector does not find, a share of about error_rate / miss_rate owe it to
    themselves; the others are the detector's own misses.

    Args:
        support: the largest score * iou of any detection.
        miss_rate: the share of labels of this class and size that the detector does not find.
        error_rate: the share of labels that are taken to be spurious before looking.

    >>> spurious_score(np.array([0.0, 0.5]), 0.04)
    array([0.5 , 0.25])
    """
    return np.minimum(error_rate / np.maximum(miss_rate, 1e-12), 1.0) * (1 - support)


def picture_scores(
    media_index: NDArray[np.int64],
    error_scores: NDArray[np.float64],
    num_media: int,
    *,
    temperature: float = 0.1,
) -> NDArray[np.float64]:
    """One score of each picture, float64 [n]: the soft maximum of its boxes' error scores.

    The mean of the scores, each weighted by exp(score / temperature): near the worst box, and
    higher for a picture with several bad ones among its boxes. 0 for a picture without boxes.

    Args:
        media_index: int64 [k], the picture of each box.
        error_scores: float64 [k].

    >>> picture_scores(np.array([0, 0]), np.array([0.0, 1.0]), 2).round(3)
    array([1., 0.])
    """
    weights = np.exp((error_scores - 1) / temperature)
    total = np.bincount(media_index, weights, minlength=num_media)
    weighted = np.bincount(media_index, weights * error_scores, minlength=num_media)
    return np.divide(weighted, total, out=np.zeros(num_media), where=total > 0)
