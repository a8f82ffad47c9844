"""Shapes that are parts of one object, joined: polygons side by side, masks pixel by pixel."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data import masks
from tilth.data.formats._labelme_shapes import ShapeColumns, mask_columns
from tilth.data.records import Geometry
from tilth.data.runs import join, runs_from_json
from tilth.errors import DataError

__all__ = ["join_parts"]


def join_parts(
    columns: ShapeColumns, keys: Sequence[Hashable | None], sizes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Join the shapes of each key into the first of them; bool [m]: the ones that are gone.

    Args:
        keys: m, the same for the parts of one object; None for an object of one part.
        sizes: int64 [m, 2], height and width of each one's picture.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None and columns.geometry[row] >= 0:
            groups.setdefault(key, []).append(row)
    gone = np.zeros(len(keys), dtype=np.bool_)
    for rows in groups.values():
        if len(rows) > 1:
            _join(columns, rows, sizes[rows[0]])
            gone[rows[1:]] = True
    return gone


def _join(columns: ShapeColumns, rows: list[int], size: NDArray[np.int64]) -> None:
    first, (height, width) = rows[0], size.tolist()
    if any(columns.geometry[row] == Geometry.RLE for row in rows):
        runs = [runs_from_json(_as_mask(columns, row, height, width))[0] for row in rows]
        columns.geometry[first] = Geometry.RLE
        mask_columns(columns, first, join(runs), height, width)
        return
    parts = [part for row in rows for part in msgspec.json.decode(_as_polygon(columns, row))]
    boxes = columns.boxes[rows]
    sizes = boxes[:, 2:] - boxes[:, :2]
    areas = np.where(np.isnan(columns.area[rows]), sizes[:, 0] * sizes[:, 1], columns.area[rows])
    columns.geometry[first] = Geometry.POLYGON
    columns.boxes[first] = [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]
    columns.area[first] = areas.sum()
    columns.segmentation[first] = msgspec.json.encode(parts)


def _as_polygon(columns: ShapeColumns, row: int) -> bytes:
    text = columns.segmentation[row]
    if text is not None:
        return text
    x0, y0, x1, y1 = columns.boxes[row].tolist()
    return msgspec.json.encode([[x0, y0, x1, y0, x1, y1, x0, y1]])


def _as_mask(columns: ShapeColumns, row: int, height: int, width: int) -> bytes:
    text = columns.segmentation[row]
    if columns.geometry[row] == Geometry.RLE and text is not None:
        return text
    try:
        return masks.polygons_to_rle(_as_polygon(columns, row), height, width)
    except DataError:
        return masks.box_to_rle(columns.boxes[row], height, width)
