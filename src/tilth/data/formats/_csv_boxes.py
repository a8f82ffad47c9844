"""Boxes out of the columns of a CSV file: which corners, which units, counted from 0 or from 1."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.formats._columns import report_rows
from tilth.data.formats._csv_conventions import Corners
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry
from tilth.errors import LabelError

__all__ = ["Origin", "Units", "complete", "corners_of", "only_sized", "origin_of", "units_of"]

Units = Literal["pixels", "normalised"]
Origin = Literal["zero", "voc1"]

_OPPOSITE = (0, 1, 4, 5)  # of AutoML's four vertices: the two that a box always has
_SURELY_PIXELS = 2


def complete(empty: NDArray[np.bool_], corners: Corners) -> NDArray[np.bool_]:
    """bool [n]: rows whose cells (``empty``: bool [n, k]) suffice for a box."""
    if corners == "none":
        return np.zeros(len(empty), dtype=np.bool_)
    needed = empty[:, _OPPOSITE] if corners == "vertices" else empty
    return np.logical_not(needed.any(axis=1))


def corners_of(values: NDArray[np.float64], corners: Corners) -> NDArray[np.float64]:
    """float64 [n, 4] as x0 y0 x1 y1, of whatever corners the columns have."""
    if corners == "vertices":
        x, y = values[:, 0::2], values[:, 1::2]
        ends = [np.fmin.reduce(x, 1), np.fmin.reduce(y, 1)]
        return np.stack([*ends, np.fmax.reduce(x, 1), np.fmax.reduce(y, 1)], axis=1)
    boxes = values.copy()
    if corners == "cxcywh":
        boxes[:, :2] -= boxes[:, 2:] / 2
    if corners in ("cxcywh", "xywh"):
        boxes[:, 2:] += boxes[:, :2]
    return boxes


def units_of(boxes: NDArray[np.float64], where: str) -> tuple[Units, str]:
    """Pixels, or shares of the picture, by the values themselves; and the evidence in words.

    The same header is used for both: TensorFlow's ``xmin,ymin,xmax,ymax`` holds pixels in the
    raccoon set and shares elsewhere.

    Raises:
        LabelError: the values fit both.
    """
    values = boxes[np.isfinite(boxes).all(axis=1)]
    if not len(values):
        return "pixels", "coordinates: no box tells; taken for pixels"
    largest = values.max(axis=1)
    small = float(np.mean(largest <= 1))
    if small == 1 and (values % 1 != 0).any():
        return "normalised", f"coordinates: shares of the picture (none above {largest.max():g})"
    if small < 0.5 and largest.max() > _SURELY_PIXELS:
        return "pixels", f"coordinates: pixels (up to {largest.max():g})"
    raise LabelError(
        "it is not clear whether the boxes are in pixels or in shares of the picture",
        where=where,
        got=f"{small:.0%} of the boxes lie within 0 to 1, the largest number is {largest.max():g}",
        fix="say which: --option coordinates=pixels or --option coordinates=normalised",
    )


def origin_of(
    boxes: NDArray[np.float64], width: NDArray[np.int32], height: NDArray[np.int32]
) -> tuple[Origin, str]:
    """Whether pixel boxes are Pascal VOC's, counted from 1 with the last pixel inside.

    That is so when all are whole numbers, none is below 1, and some box ends at the very number
    that the picture's width or height is.

    Args:
        width, height: int32 [n], of the picture of each box; 0 where it is not known.
    """
    values = np.isfinite(boxes).all(axis=1)
    boxes, width, height = boxes[values], width[values], height[values]
    touches = int(np.sum((boxes[:, 2] == width) | (boxes[:, 3] == height)))
    if touches and (boxes % 1 == 0).all() and boxes.min() >= 1:
        evidence = f"whole numbers from {boxes.min():g} on, {touches} boxes end at width or height"
        return "voc1", f"origin: 1-based with the last pixel inside, as in Pascal VOC ({evidence})"
    return "zero", "origin: pixel edges counted from 0"


def only_sized(dataset: Dataset, report: LabelReport) -> Dataset:
    """Without the boxes of pictures whose size is not known: they have no shares of it."""
    labels, media = dataset.annotations, dataset.media
    unsized = ((media.width <= 0) | (media.height <= 0))[labels.media_index]
    unsized &= labels.geometry != Geometry.LABEL

    def place(row: int) -> str:
        return f"label {labels.id[row]}"

    report_rows(report, "box in a picture of unknown size", "left out", unsized, place)
    return dataset.keep_annotations(~unsized) if unsized.any() else dataset
