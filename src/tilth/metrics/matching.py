"""Which detection found which object: the state of every detection and truth at one threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.metrics.coco_protocol import matched_pairs

__all__ = ["Matches", "match"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """What became of every detection and every truth.

    Attributes:
        annotation_row: int64 [k], the truth that each detection was matched to, -1 for none.
        is_considered: bool [k], the score reached the threshold.
        is_true_positive: bool [k], matched to a single object.
        is_false_positive: bool [k], considered and matched to nothing; a detection in a crowd is
            neither.
        is_missed: bool [m], a single object that no considered detection was matched to.
    """

    annotation_row: NDArray[np.int64]
    is_considered: NDArray[np.bool_]
    is_true_positive: NDArray[np.bool_]
    is_false_positive: NDArray[np.bool_]
    is_missed: NDArray[np.bool_]


def match(
    truth: Dataset,
    detections: Detections,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
    max_detections: int | None = None,
) -> Matches:
    """Match by the COCO rule: best score first, each to the free truth of its class it covers most.

    Args:
        iou_threshold: the least overlap of a match.
        score_threshold: detections below it are left out of consideration.
        max_detections: of each picture and class, only so many of the best; all by default.

    Raises:
        EmptyDatasetError, DataError: see `tilth.metrics.coco_protocol.evaluate`.
    """
    considered = detections.score >= score_threshold
    rows = np.flatnonzero(considered)
    strong = Detections(
        media_index=detections.media_index[rows],
        category_index=detections.category_index[rows],
        boxes_xyxy=detections.boxes_xyxy[rows],
        score=detections.score[rows],
    )
    limit = max(1, len(rows)) if max_detections is None else max_detections
    found, matched_to = matched_pairs(
        truth, strong, iou_threshold=iou_threshold, max_detections=limit
    )
    is_crowd = truth.annotations.is_crowd
    annotation_row = np.full(len(detections), -1, dtype=np.int64)
    annotation_row[rows[found]] = matched_to
    is_matched = annotation_row >= 0
    is_true_positive = np.zeros(len(detections), dtype=bool)
    is_true_positive[rows[found]] = ~is_crowd[matched_to]
    is_missed = ~is_crowd
    is_missed[matched_to] = False
    return Matches(
        annotation_row=annotation_row,
        is_considered=considered,
        is_true_positive=is_true_positive,
        is_false_positive=considered & ~is_matched,
        is_missed=is_missed,
    )
