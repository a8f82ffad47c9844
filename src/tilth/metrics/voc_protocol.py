"""The Pascal VOC protocol, which Darknet's `map` follows: each detection has one truth to hit.

Unlike COCO's rule, a detection cannot fall back on a second truth when the one that it overlaps
most is taken: it is wrong then. Difficult objects (the attribute of that name) and crowds need not
be found, and what hits them is not counted.

Source: Everingham, Van Gool, Williams, Winn, Zisserman, 2010, The Pascal Visual Object Classes
    (VOC) Challenge, IJCV 88, doi 10.1007/s11263-009-0275-4, section 4.2; the rule itself is the
    development kit's VOCevaldet.m.
Follows: section 4.2.2 (bounding box evaluation) -> `evaluate`.
Symbols: best_truth = jmax = the truth that a detection overlaps most; best_overlap = ovmax.
Differs: all thresholds of COCO are worked out, 0.50 is the protocol's own; sizes too, which VOC
    does not know, with the objects of other sizes left out as if they were difficult; boxes are
    pixel edges, so no 1 is added to a side; crowds cover a share of a detection, as in COCO.
Checked by: `test_voc_modes_match_a_plain_twin`, `test_a_second_choice_is_wrong_in_voc`
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.metrics.accumulation import Evaluation
from tilth.metrics.coco_protocol import (
    THRESHOLDS,
    count_truths,
    ignored_truths,
    in_protocol_order,
    out_of_area,
    refuse_unusable,
    turns,
)
from tilth.metrics.overlapping_pairs import OverlappingPairs, overlapping_pairs

__all__ = ["difficult_objects", "evaluate", "matched_pairs"]


def evaluate(truth: Dataset, detections: Detections) -> Evaluation:
    """Judge all detections at IoU 0.50, 0.55, ..., 0.95.

    Raises:
        EmptyDatasetError: no pictures or no categories.
        DataError: detections of pictures or categories that the truth does not have.
    """
    refuse_unusable(truth, detections)
    turn = turns(detections)
    rows = in_protocol_order(detections, turn)
    kept = detections.take(rows)
    chosen = _choices(truth, kept)
    is_ignored = ignored_truths(truth) | difficult_objects(truth)
    num_areas = len(is_ignored)
    shape = (len(THRESHOLDS), num_areas, len(kept))
    is_right, is_wrong = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for level, threshold in enumerate(THRESHOLDS):
        hits = chosen.overlap >= threshold
        is_first = _first_hits(chosen.truth_row, hits, len(truth.annotations))
        misses = ~hits & (chosen.crowd_overlap < threshold)
        for area in range(num_areas):
            counts = hits & ~np.append(is_ignored[area], False)[chosen.truth_row]
            is_right[level, area] = counts & is_first
            is_wrong[level, area] = (counts & ~is_first) | misses
        is_wrong[level] &= hits | ~out_of_area(kept)
    return Evaluation(
        class_starts=np.searchsorted(kept.category_index, np.arange(len(truth.categories) + 1)),
        media_index=kept.media_index,
        turn=turn[rows],
        is_right=is_right,
        is_wrong=is_wrong,
        num_truths=count_truths(truth, is_ignored),
    )


def matched_pairs(
    truth: Dataset, detections: Detections, *, iou_threshold: float, max_detections: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of matched detections, and the rows of ``truth.annotations`` that they were matched to.

    Difficult objects and crowds are matched too, and may be matched more than once.
    """
    refuse_unusable(truth, detections)
    turn = turns(detections)
    rows = in_protocol_order(detections, turn)
    rows = rows[turn[rows] < max_detections]
    kept = detections.take(rows)
    chosen = _choices(truth, kept)
    hits = chosen.overlap >= iou_threshold
    is_difficult = np.append(difficult_objects(truth), False)[chosen.truth_row]
    is_first = _first_hits(chosen.truth_row, hits, len(truth.annotations))
    lies_in_crowd = ~hits & (chosen.crowd_overlap >= iou_threshold)
    is_matched = (hits & (is_first | is_difficult)) | lies_in_crowd
    matched_to = np.where(lies_in_crowd, chosen.crowd_row, chosen.truth_row)
    by_row = np.argsort(rows[is_matched])
    return rows[is_matched][by_row], matched_to[is_matched][by_row]


def difficult_objects(truth: Dataset) -> NDArray[np.bool_]:
    """bool [m]: annotations whose attributes say that they are hard to recognise."""
    marked = np.zeros(len(truth.annotations), dtype=bool)
    for row, attributes in enumerate(truth.annotations.attributes):
        if attributes and b'"difficult"' in attributes:
            marked[row] = bool(msgspec.json.decode(attributes).get("difficult"))
    return marked


@dataclass(frozen=True, kw_only=True, eq=False)
class _Choices:
    """What each detection overlaps most: a single object, and a crowd; row -1 for none."""

    truth_row: NDArray[np.int64]
    overlap: NDArray[np.float64]
    crowd_row: NDArray[np.int64]
    crowd_overlap: NDArray[np.float64]


def _choices(truth: Dataset, kept: Detections) -> _Choices:
    pairs = overlapping_pairs(truth, kept)
    is_crowd = truth.annotations.is_crowd[pairs.truth_row]
    truth_row, overlap = _best(pairs, ~is_crowd, len(kept))
    crowd_row, crowd_overlap = _best(pairs, is_crowd, len(kept))
    return _Choices(
        truth_row=truth_row, overlap=overlap, crowd_row=crowd_row, crowd_overlap=crowd_overlap
    )


def _best(
    pairs: OverlappingPairs, wanted: NDArray[np.bool_], num_detections: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each detection the wanted pair of most overlap, of equal ones the first."""
    detection, truth = pairs.detection_row[wanted], pairs.truth_row[wanted]
    overlap = pairs.overlap[wanted]
    order = np.lexsort((-truth, overlap, detection))  # the last of each detection is the best
    best_truth = np.full(num_detections, -1, dtype=np.int64)
    best_overlap = np.zeros(num_detections)
    best_truth[detection[order]] = truth[order]
    best_overlap[detection[order]] = overlap[order]
    return best_truth, best_overlap


def _first_hits(
    best_truth: NDArray[np.int64], hits: NDArray[np.bool_], num_truths: int
) -> NDArray[np.bool_]:
    """bool [n]: hits that no better detection has made before; rows go by falling score."""
    rows = np.flatnonzero(hits)
    first = np.full(num_truths, len(best_truth), dtype=np.int64)
    np.minimum.at(first, best_truth[rows], rows)
    is_first = np.zeros(len(best_truth), dtype=bool)
    is_first[rows] = first[best_truth[rows]] == rows
    return is_first
