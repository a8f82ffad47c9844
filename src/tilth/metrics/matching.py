"""Which detection found which object: the state of every detection and truth at one threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.metrics import coco_protocol, voc_protocol
from tilth.metrics.accumulation import Interpolation

__all__ = ["Matches", "match"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """What became of every detection and every truth.

    Attributes:
        annotation_row: int64 [k], the truth that each detection was matched to, -1 for none.
        is_considered: bool [k], the score reached the threshold.
        is_true_positive: bool [k], matched to an object that counts.
        is_false_positive: bool [k], considered and matched to nothing; a detection in a crowd, or
            by VOC's rule of a difficult object, is neither.
        is_missed: bool [m], an object that counts and that no considered detection was matched to.
        is_counted: bool [m], objects that must be found: no crowd, by VOC's rule not difficult.
    """

    annotation_row: NDArray[np.int64]
    is_considered: NDArray[np.bool_]
    is_true_positive: NDArray[np.bool_]
    is_false_positive: NDArray[np.bool_]
    is_missed: NDArray[np.bool_]
    is_counted: NDArray[np.bool_]


def match(
    truth: Dataset,
    detections: Detections,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
    max_detections: int | None = None,
    mode: Interpolation = "coco",
) -> Matches:
    """Match best score first, each to the free truth of its class it covers most (COCO's rule).

    By VOC's rule, in the other modes, a detection whose best truth is taken is wrong.

    Args:
        iou_threshold: the least overlap of a match.
        score_threshold: detections below it are left out of consideration.
        max_detections: of each picture and class, only so many of the best; all by default.

    Raises:
        EmptyDatasetError, DataError: see `tilth.metrics.coco_protocol.evaluate`.
    """
    protocol = coco_protocol if mode == "coco" else voc_protocol
    considered = detections.score >= score_threshold
    rows = np.flatnonzero(considered)
    limit = max(1, len(rows)) if max_detections is None else max_detections
    found, matched_to = protocol.matched_pairs(
        truth, detections.take(rows), iou_threshold=iou_threshold, max_detections=limit
    )
    is_counted = ~truth.annotations.is_crowd
    if mode != "coco":
        is_counted &= ~voc_protocol.difficult_objects(truth)
    annotation_row = np.full(len(detections), -1, dtype=np.int64)
    annotation_row[rows[found]] = matched_to
    is_true_positive = np.zeros(len(detections), dtype=bool)
    is_true_positive[rows[found]] = is_counted[matched_to]
    is_missed = is_counted.copy()
    is_missed[matched_to] = False
    return Matches(
        annotation_row=annotation_row,
        is_considered=considered,
        is_true_positive=is_true_positive,
        is_false_positive=considered & (annotation_row < 0),
        is_missed=is_missed,
        is_counted=is_counted,
    )
