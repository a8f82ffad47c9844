"""Statistics of grey levels, shared by pictures and boxes.

256 counts hold everything that mean, deviation, entropy and percentiles need, so the pixels are
visited once.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["grey_counts", "grey_entropy", "grey_moments", "percentile_span", "to_grey"]

_LEVELS = np.arange(256, dtype=np.float64)
_LEVEL_POWERS = np.stack([_LEVELS, _LEVELS**2], axis=1)


def to_grey(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [h, w]: the BT.601 luma of an RGB picture, rounded."""
    return np.asarray(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def grey_counts(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """float64 [256]: how many pixels have each level of ``grey``, uint8 [h, w]."""
    return cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.float64)


def grey_moments(counts: NDArray[np.float64], total: int) -> tuple[float, float]:
    """Mean and standard deviation, in levels, of the ``total`` pixels in ``counts``.

    >>> grey_moments(np.bincount([10, 30], minlength=256).astype(float), 2)
    (20.0, 10.0)
    """
    mean, square = ((counts @ _LEVEL_POWERS) / total).tolist()
    return mean, max(square - mean**2, 0.0) ** 0.5


def grey_entropy(counts: NDArray[np.float64], total: int) -> float:
    """Shannon entropy in bits, 0 to 8, of the ``total`` pixels in ``counts``.

    >>> grey_entropy(np.bincount([10, 30], minlength=256).astype(float), 2)
    1.0
    """
    # -sum p log2 p with p = n / N, written over counts so that empty bins need no mask.
    entropy = math.log2(total) - (counts @ np.log2(np.maximum(counts, 1.0))) / total
    return max(float(entropy), 0.0)


def percentile_span(counts: NDArray[np.float64], low: float, high: float) -> int:
    """Levels between the quantiles ``low`` and ``high`` (0 to 1); robust against a few pixels.

    >>> percentile_span(np.ones(256), 0.05, 0.95)
    231
    """
    cumulative = counts.cumsum()
    total = cumulative.item(-1)
    # A single value is found faster without NumPy, which would make an array of it.
    return bisect_left(cumulative, high * total) - bisect_left(cumulative, low * total)
