"""Masks, polygons and boxes, each made from another without moving an edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["box_to_rle", "polygons_to_rle", "rle_to_polygons"]


def polygons_to_rle(polygons: bytes, height: int, width: int) -> bytes:
    """The run-length JSON of polygons in JSON."""
    raise NotImplementedError


def rle_to_polygons(segmentation: bytes) -> bytes:
    """The polygons, as JSON, along the pixel edges of a run-length mask in JSON."""
    raise NotImplementedError


def box_to_rle(box_xyxy: NDArray[np.float64], height: int, width: int) -> bytes:
    """The run-length JSON of a filled box."""
    raise NotImplementedError
