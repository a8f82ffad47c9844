"""Boxes in whole pixels, for formats that hold no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.formats._columns import report_rows
from tilth.data.problems import LabelReport

__all__ = ["half_away_from_zero", "whole_pixels"]


def half_away_from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounded to whole numbers; 0.5 becomes 1 and -0.5 becomes -1, as in school and in C.

    >>> half_away_from_zero(np.array([0.5, 1.5, -2.5, 0.49999999999999994])).tolist()
    [1.0, 2.0, -3.0, 0.0]
    """
    size = np.abs(values)
    below = np.floor(size)
    return np.copysign(below + (size - below >= 0.5), values)


def whole_pixels(dataset: Dataset, report: LabelReport) -> Dataset:
    """All boxes on whole pixels; one that rounding would close is one pixel wide."""
    labels, media = dataset.annotations, dataset.media
    boxes = half_away_from_zero(labels.boxes_xyxy)
    moved = (boxes != labels.boxes_xyxy).any(axis=1)
    if not moved.any():
        return dataset

    def place(row: int) -> str:
        return f"label {labels.id[row]}"

    closed = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    for low, high, side in ((0, 2, media.width), (1, 3, media.height)):
        rows = np.flatnonzero(boxes[:, high] <= boxes[:, low])
        border = side[labels.media_index[rows]]
        at_border = (border > 0) & (boxes[rows, low] >= border) & (boxes[rows, low] >= 1)
        boxes[rows, low] -= at_border
        boxes[rows, high] = boxes[rows, low] + 1
    report_rows(report, "box that is not on whole pixels", "rounded", moved & ~closed, place)
    kind = "box that rounding would close"
    report_rows(report, kind, "made one pixel wide", moved & closed, place)
    furthest = float(np.abs(boxes - labels.boxes_xyxy).max())
    report.notes.append(f"rounding to whole pixels moved edges by up to {furthest:.3g} px")
    sizes = boxes[:, 2:] - boxes[:, :2]
    area = np.where(moved, sizes[:, 0] * sizes[:, 1], labels.area)
    return replace(dataset, annotations=replace(labels, boxes_xyxy=boxes, area=area))
