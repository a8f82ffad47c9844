"""Which class was taken for which: a table of truths against detections, with background.

Unlike average precision, a detection is matched with the truth that it covers most whatever the
class of either, because being taken for another class is what the table is about.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.records import Geometry
from tilth.metrics.overlapping_pairs import OverlappingPairs, overlapping_pairs

__all__ = ["confusion_matrix"]


def confusion_matrix(
    truth: Dataset,
    detections: Detections,
    *,
    iou_threshold: float = 0.45,
    score_threshold: float = 0.25,
) -> Int64[np.ndarray, "c1 c1"]:
    """Counts [c + 1, c + 1]: row = class of the truth, column = that of the detection.

    The last row holds detections of nothing that is labelled, the last column truths that were
    missed. Pairs of a picture are taken by falling overlap, each truth and detection once (of equal
    overlaps the surer detection first). What is left over and lies in a crowd counts nowhere, and
    crowds are never missed.

    Args:
        iou_threshold: the least overlap of a pair.
        score_threshold: weaker detections are not counted.
    """
    truth = truth.keep_annotations(truth.annotations.geometry != Geometry.LABEL)
    strong = detections.take(np.flatnonzero(detections.score >= score_threshold))
    pairs = _of_any_class(truth, strong, iou_threshold)
    is_crowd = truth.annotations.is_crowd
    truths, found = _each_once(pairs, ~is_crowd[pairs.truth_row], strong.score)
    in_crowd = pairs.detection_row[is_crowd[pairs.truth_row]]
    is_missed = ~is_crowd
    is_missed[truths] = False
    is_over = np.ones(len(strong), dtype=bool)
    is_over[in_crowd] = False
    is_over[found] = False

    true_class, found_class = truth.annotations.category_index, strong.category_index
    background = len(truth.categories)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    np.add.at(matrix, (true_class[truths], found_class[found]), 1)
    matrix[:-1, -1] = np.bincount(true_class[is_missed], minlength=background)
    matrix[-1, :-1] = np.bincount(found_class[is_over], minlength=background)
    return matrix


def _of_any_class(truth: Dataset, detections: Detections, iou_threshold: float) -> OverlappingPairs:
    """Overlapping pairs of a picture, as if there were a single class."""
    annotations = truth.annotations
    one_class = np.zeros_like(annotations.category_index)
    return overlapping_pairs(
        replace(truth, annotations=replace(annotations, category_index=one_class)),
        replace(detections, category_index=np.zeros_like(detections.category_index)),
        at_least=iou_threshold,
    )


def _each_once(
    pairs: OverlappingPairs, chosen: NDArray[np.bool_], score: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Truths and detections of the ``chosen`` pairs, greatest overlap first, each row once."""
    truths, found = pairs.truth_row[chosen], pairs.detection_row[chosen]
    order = np.lexsort((-score[found], -pairs.overlap[chosen]))
    taken: list[tuple[int, int]] = []
    used_truths: set[int] = set()
    used_found: set[int] = set()
    for truth, detection in zip(truths[order].tolist(), found[order].tolist(), strict=True):
        if truth not in used_truths and detection not in used_found:
            used_truths.add(truth)
            used_found.add(detection)
            taken.append((truth, detection))
    rows = np.array(taken, dtype=np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]
