"""A mask as the part of the picture that it covers: where that begins, and the pixels in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilth.data.label_maps import MAX_MAP_PIXELS
from tilth.data.runs import Runs, join, spans
from tilth.errors import DataError

__all__ = ["crop_to_runs", "runs_to_crop"]


def crop_to_runs(crop: NDArray[np.bool_], left: int, top: int, height: int) -> Runs:
    """The runs of a mask whose pixels bool [h, w] begin at a place in a picture.

    Args:
        height: of the picture, which the crop stays in.
    """
    columns = np.zeros((crop.shape[1], crop.shape[0] + 2), dtype=np.int8)
    columns[:, 1:-1] = crop.T
    edges = np.diff(columns, axis=1)
    column, row = np.nonzero(edges == 1)
    _, last = np.nonzero(edges == -1)
    first = (column.astype(np.int64) + left) * height + top
    return join([Runs(first + row, first + last)])


def runs_to_crop(runs: Runs, height: int) -> tuple[NDArray[np.bool_], int, int]:
    """The smallest crop bool [h, w] that holds a mask, and the place where it begins: x and y.

    Raises:
        DataError: no pixels, or more than a picture has.
    """
    x0, y0, x1, y1 = runs.box_xyxy(height).astype(np.int64).tolist()
    if not 0 < (x1 - x0) * (y1 - y0) <= MAX_MAP_PIXELS:
        raise DataError("a mask without pixels, or of more than a picture has")
    column, row = np.divmod(spans(*runs), height)
    crop = np.zeros((y1 - y0, x1 - x0), dtype=np.bool_)
    crop[row - y0, column - x0] = True
    return crop, x0, y0
