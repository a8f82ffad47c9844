"""Which detections overlap which truths: every pair of one picture and class, found without a loop.

Overlap is computed from corner, width and height, in the order of pycocotools' C code, so that a
pair that lies on a threshold falls on the same side of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections

__all__ = ["OverlappingPairs", "overlapping_pairs"]

CHUNK = 2_000_000  # pairs looked at together: 100 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class OverlappingPairs:
    """One row a pair, by detection, then by truth.

    Attributes:
        detection_row, truth_row: int64 [p].
        overlap: float64 [p], IoU; for a crowd the share of the detection that it covers.
    """

    detection_row: NDArray[np.int64]
    truth_row: NDArray[np.int64]
    overlap: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.overlap)


def overlapping_pairs(
    truth: Dataset, detections: Detections, *, at_least: float = 0.0
) -> OverlappingPairs:
    """Pairs of one picture and class that overlap, by ``at_least`` or more.

    Args:
        at_least: 0 leaves out pairs that do not touch.
    """
    annotations = truth.annotations
    classes = max(1, len(truth.categories))
    truth_key = annotations.media_index * classes + annotations.category_index
    by_key = np.argsort(truth_key, kind="stable")
    sorted_key = truth_key[by_key]
    wanted = detections.media_index * classes + detections.category_index
    first = np.searchsorted(sorted_key, wanted, side="left")
    counts = np.searchsorted(sorted_key, wanted, side="right") - first
    known, found = _corner_and_size(annotations.boxes_xyxy), _corner_and_size(detections.boxes_xyxy)
    parts = []
    for rows in _chunks(counts):
        repeats = counts[rows]
        detection_row = np.repeat(rows, repeats)
        within = np.arange(len(detection_row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        truth_row = by_key[np.repeat(first[rows], repeats) + within]
        is_crowd = annotations.is_crowd[truth_row]
        overlap = _overlap(found[detection_row], known[truth_row], is_crowd)
        near = (overlap >= at_least) & (overlap > 0)
        parts.append((detection_row[near], truth_row[near], overlap[near]))
    detection_rows, truth_rows, overlaps = map(np.concatenate, zip(*parts, strict=True))
    return OverlappingPairs(detection_row=detection_rows, truth_row=truth_rows, overlap=overlaps)


def _chunks(counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of detections in runs of about `CHUNK` pairs; one run, maybe empty, at least."""
    rows = np.arange(len(counts))
    part = np.cumsum(counts) // CHUNK
    return np.split(rows, np.flatnonzero(np.diff(part)) + 1)


def _corner_and_size(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def _overlap(
    found: NDArray[np.float64], known: NDArray[np.float64], is_crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    sides = np.minimum(found[:, :2] + found[:, 2:], known[:, :2] + known[:, 2:])
    sides -= np.maximum(found[:, :2], known[:, :2])
    shared = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
    own = found[:, 2] * found[:, 3]
    union = np.where(is_crowd, own, own + known[:, 2] * known[:, 3] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
