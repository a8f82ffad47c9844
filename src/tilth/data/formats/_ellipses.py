"""Circles and ellipses as polygons: formats know them, a data set does not."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["ellipse_corners"]

_SAGITTA_PX = 0.05  # how far a side may lie inside the curve
_FEWEST, _MOST = 16, 720


def ellipse_corners(
    centre_x: float, centre_y: float, radius_x: float, radius_y: float, degrees: float = 0.0
) -> NDArray[np.float64]:
    """Corners float64 [n, 2] on an ellipse, as many as keep the sides within 0.05 px of it.

    Args:
        degrees: turned clockwise about its centre, as y points down.

    >>> ellipse_corners(10, 10, 2, 2)[:1].tolist(), len(ellipse_corners(0, 0, 400, 400))
    ([[12.0, 10.0]], 200)
    """
    radius = max(abs(radius_x), abs(radius_y))
    share = min(_SAGITTA_PX / radius, 1.0) if radius > 0 else 1.0
    half_angle = math.acos(1 - share)  # of a side, seen from the centre
    count = _MOST if half_angle == 0 else math.ceil(math.pi / half_angle)
    count = 4 * math.ceil(min(max(count, _FEWEST), _MOST) / 4)  # so that the extremes are corners
    angle = 2 * np.pi * np.arange(count) / count
    along, across = radius_x * np.cos(angle), radius_y * np.sin(angle)
    turn = math.radians(degrees)
    x = centre_x + along * math.cos(turn) - across * math.sin(turn)
    y = centre_y + along * math.sin(turn) + across * math.cos(turn)
    return np.stack([x, y], axis=1)
