"""The COCO protocol for boxes: what becomes of every detection at ten thresholds and four sizes.

Source: Lin et al., 2014, Microsoft COCO: Common Objects in Context, arXiv 1405.0312v3; the protocol
    itself is the program pycocotools (cocoeval.py) that its authors publish.
Follows: COCOeval.evaluate -> `evaluate`, `ignored_truths`, `out_of_area`.
Symbols: THRESHOLDS = iouThrs; AREAS = areaRng (all, small, medium, large); MAX_DETECTIONS = the
    greatest of maxDets; turn = the place of a detection in its picture and class, by score.
Differs: nothing; what is made of the matches stands in `tilth.metrics.accumulation`.
Checked by: `test_equals_pycocotools_on_random_sets`,
    `test_equals_pycocotools_when_pictures_hold_more_than_a_hundred_detections`
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.errors import DataError, EmptyDatasetError
from tilth.metrics.accumulation import Evaluation
from tilth.metrics.coco_matching import greedy_matches
from tilth.metrics.overlapping_pairs import overlapping_pairs

__all__ = [
    "MAX_DETECTIONS",
    "THRESHOLDS",
    "count_truths",
    "evaluate",
    "ignored_truths",
    "in_protocol_order",
    "matched_pairs",
    "out_of_area",
    "refuse_unusable",
    "turns",
]

MAX_DETECTIONS = 100  # a picture and class
THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))  # square pixels


def evaluate(truth: Dataset, detections: Detections) -> Evaluation:
    """Match all detections with the truth at IoU 0.50, 0.55, ..., 0.95.

    Raises:
        EmptyDatasetError: no pictures or no categories.
        DataError: detections of pictures or categories that the truth does not have.
    """
    refuse_unusable(truth, detections)
    turn = turns(detections)
    rows = in_protocol_order(detections, turn)
    rows = rows[turn[rows] < MAX_DETECTIONS]
    kept = detections.take(rows)
    is_ignored = ignored_truths(truth)
    matched_to = greedy_matches(
        overlapping_pairs(truth, kept, at_least=float(THRESHOLDS[0])),
        turn[rows],
        thresholds=THRESHOLDS,
        is_ignored=is_ignored,
        is_crowd=truth.annotations.is_crowd,
    )
    is_matched = matched_to >= 0
    is_right = np.zeros_like(is_matched)
    for area, ignored in enumerate(is_ignored):
        own = matched_to[:, area]
        is_right[:, area] = (own >= 0) & ~np.append(ignored, False)[own]
    return Evaluation(
        class_starts=np.searchsorted(kept.category_index, np.arange(len(truth.categories) + 1)),
        media_index=kept.media_index,
        turn=turn[rows],
        is_right=is_right,
        is_wrong=~is_matched & ~out_of_area(kept)[None],
        num_truths=count_truths(truth, is_ignored),
    )


def matched_pairs(
    truth: Dataset, detections: Detections, *, iou_threshold: float, max_detections: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of matched detections, and the rows of ``truth.annotations`` that they were matched to.

    Crowds are matched too, and may be matched more than once.
    """
    refuse_unusable(truth, detections)
    turn = turns(detections)
    rows = np.flatnonzero(turn < max_detections)
    matched_to = greedy_matches(
        overlapping_pairs(truth, detections.take(rows), at_least=min(iou_threshold, 1 - 1e-10)),
        turn[rows],
        thresholds=np.array([iou_threshold], dtype=np.float64),
        is_ignored=truth.annotations.is_crowd[None],
        is_crowd=truth.annotations.is_crowd,
    )[0, 0]
    is_matched = matched_to >= 0
    return rows[is_matched], matched_to[is_matched]


def turns(detections: Detections) -> NDArray[np.int64]:
    """int64 [k]: the place of each detection in its picture and class, 0 for the best score."""
    order = np.lexsort((-detections.score, detections.media_index, detections.category_index))
    media, category = detections.media_index[order], detections.category_index[order]
    starts = np.append(True, (np.diff(media) != 0) | (np.diff(category) != 0))[: len(order)]
    first = np.flatnonzero(starts)
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return turn


def in_protocol_order(detections: Detections, turn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows class by class, best score first; of equal scores the earlier picture, and turn."""
    keys = (turn, detections.media_index, -detections.score, detections.category_index)
    return np.lexsort(keys)


def ignored_truths(truth: Dataset) -> NDArray[np.bool_]:
    """bool [a, m]: crowds, and objects outside each range of areas."""
    area = truth.annotations.area
    outside = np.array([(area < low) | (area > high) for low, high in AREAS])
    return outside | truth.annotations.is_crowd


def out_of_area(detections: Detections) -> NDArray[np.bool_]:
    """bool [a, k]: detections outside each range; where they are wrong, that is not held to it."""
    sides = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
    area = sides[:, 0] * sides[:, 1]
    return np.array([(area < low) | (area > high) for low, high in AREAS])


def count_truths(truth: Dataset, is_ignored: NDArray[np.bool_]) -> NDArray[np.int64]:
    """int64 [pictures, c, a] of objects that count."""
    shape = (len(truth.media), len(truth.categories))
    key = truth.annotations.media_index * shape[1] + truth.annotations.category_index
    counts = [np.bincount(key[~ignored], minlength=shape[0] * shape[1]) for ignored in is_ignored]
    return np.stack(counts, axis=-1).reshape(*shape, len(is_ignored))


def refuse_unusable(truth: Dataset, detections: Detections) -> None:
    """Refuse a truth that is empty, and detections that are not of it or are not numbers.

    Raises:
        EmptyDatasetError, DataError: see `evaluate`.
    """
    if not len(truth.media) or not truth.categories:
        raise EmptyDatasetError(
            "there is nothing to score detections against",
            expected="pictures and categories",
            got=f"{len(truth.media)} pictures, {len(truth.categories)} categories",
        )
    for name, index, limit in (
        ("picture", detections.media_index, len(truth.media)),
        ("category", detections.category_index, len(truth.categories)),
    ):
        outside = (index < 0) | (index >= limit)
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise DataError(
                f"a detection is of a {name} that the truth does not have",
                expected=f"rows 0 to {limit - 1}",
                got=str(int(index[row])),
                where=f"detection {row}",
                fix="score detections against the set that they were made on",
            )
    broken = ~(np.isfinite(detections.boxes_xyxy).all(axis=-1) & np.isfinite(detections.score))
    if broken.any():
        raise DataError(
            "a detection's box or score is not a number",
            where=f"detection {int(np.flatnonzero(broken)[0])}",
            fix="look for a network whose training has diverged",
        )
