"""Numbers that describe one picture: size, colour, light, information, sharpness, a fingerprint.

Source: D. Hasler and S. E. Suesstrunk, 2003, Measuring colorfulness in natural images,
    Proc. SPIE 5007, doi:10.1117/12.477378.
Follows: section 6, metric M^(3) -> `_colourfulness`.
Symbols: rg = R - G, yb = (R + G) / 2 - B, in levels; M^(3) =
    sqrt(var rg + var yb) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2).
Differs: the planes rg and yb are never formed. var(yb) follows from the variances of the three
    channel differences by the parallelogram law, which is exact: with a = R - B and b = G - B,
    yb = (a + b) / 2 and a - b = rg, so 4 var(yb) = 2 var(a) + 2 var(b) - var(rg).
Checked by: `test_metrics_match_plain_oracle`, `test_colourfulness_of_two_colours_by_hand`.

Decoding a JPEG is the floor of any such pass, so what comes after it is kept to about a quarter of
that. Means, deviations and colourfulness are over every pixel; the grey ones follow from the
channels' covariances without a grey plane. What depends on scale (entropy, contrast, sharpness, the
fingerprint) is read at one working scale, a longer side of at most 320 pixels reached by means of
2 x 2 pixels, so that pictures of different resolution can be compared. Values are float64; the
fingerprint is two 32-bit halves, which float64 holds exactly.
"""

from __future__ import annotations

import threading
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.curate.grey_histogram import grey_counts, grey_entropy, percentile_span
from tilth.errors import MediaError

__all__ = ["IMAGE_METRICS", "IMAGE_METRIC_NAMES", "image_metrics", "working_scale"]

IMAGE_METRICS: dict[str, str] = {
    "width": "pixels",
    "height": "pixels",
    "red_mean": "levels, 0 to 255",
    "green_mean": "levels, 0 to 255",
    "blue_mean": "levels, 0 to 255",
    "red_std": "levels",
    "green_std": "levels",
    "blue_std": "levels",
    "grey_std": "levels, of the BT.601 grey picture",
    "grey_entropy": "bits, 0 to 8, of the grey histogram at the working scale",
    "brightness": "0 to 1, mean grey level over 255",
    "contrast": "0 to 1, 5th to 95th percentile of grey over 255, at the working scale",
    "sharpness": "levels squared, variance of the 3 x 3 Laplacian of grey at the working scale",
    "colourfulness": "levels, Hasler and Suesstrunk's M^(3); 0 grey, about 100 extremely colourful",
    "phash_high": "32-bit integer, first half of the perceptual hash",
    "phash_low": "32-bit integer, second half of the perceptual hash",
}
IMAGE_METRIC_NAMES: tuple[str, ...] = tuple(IMAGE_METRICS)

WORKING_LONGEST_SIDE = 320
PHASH_LONGEST_SIDE = 64
PHASH_FLATNESS = 0.01  # levels; a frequency this close to the median is no evidence of structure

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # BT.601


def image_metrics(image_rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """All numbers of `IMAGE_METRIC_NAMES` of one decoded picture.

    Args:
        image_rgb: uint8 [h, w, 3].

    Returns:
        float64 [16], units in `IMAGE_METRICS`, never NaN.

    Raises:
        MediaError: the array is not a non-empty 8-bit RGB picture.

    >>> values = image_metrics(np.zeros((4, 6, 3), np.uint8))
    >>> dict(zip(IMAGE_METRIC_NAMES, values.tolist()))["grey_entropy"]
    0.0
    """
    _require_rgb(image_rgb)
    height, width = image_rgb.shape[:2]
    planes = _scratch.planes(height, width)
    means, stds, difference_vars = _channel_moments(image_rgb, planes)
    # The channels are done with; writing over one of them keeps the pass inside the cache.
    grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY, dst=planes[0])
    level = _halved_until(np.asarray(grey, dtype=np.uint8), WORKING_LONGEST_SIDE)
    counts = grey_counts(level)
    laplacian_std = cv2.meanStdDev(cv2.Laplacian(level, cv2.CV_16S, ksize=3))[1].item()
    values = (
        width,
        height,
        *means,
        *stds,
        _grey_std(stds, difference_vars),
        grey_entropy(counts, level.size),
        (_RED * means[0] + _GREEN * means[1] + _BLUE * means[2]) / 255,
        percentile_span(counts, 0.05, 0.95) / 255,
        laplacian_std**2,
        _colourfulness(means, difference_vars),
        *_perceptual_hash(level),
    )
    return np.array(values, dtype=np.float64)


def working_scale(width: int, height: int) -> int:
    """By how much a picture is reduced before entropy, contrast, sharpness and fingerprint.

    >>> working_scale(640, 480), working_scale(300, 200), working_scale(4000, 3000)
    (2, 1, 16)
    """
    scale = 1
    while max(width, height) > WORKING_LONGEST_SIDE and min(width, height) > 1:
        width, height, scale = width // 2, height // 2, scale * 2
    return scale


def _require_rgb(image_rgb: NDArray[np.uint8]) -> None:
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
        raise MediaError(
            "this is not an 8-bit RGB picture",
            expected="uint8 [height, width, 3]",
            got=f"{image_rgb.dtype} {list(image_rgb.shape)}",
        )
    if image_rgb.size == 0:
        raise MediaError("the picture has no pixels", got=f"{list(image_rgb.shape)}")


class _Scratch(threading.local):
    """Memory that a thread keeps from picture to picture.

    Returning half a megabyte to the system and asking for it again costs a tenth of the decoding.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)
        self._planes: list[NDArray[np.uint8]] = []

    def planes(self, height: int, width: int) -> list[NDArray[np.uint8]]:
        """Three uint8 [h, w] arrays, valid until the next call from this thread."""
        if not self._planes or self._planes[0].shape != (height, width):
            size = 3 * height * width
            if self._memory.size < size:
                self._memory = np.empty(size, np.uint8)
            self._planes = list(self._memory[:size].reshape(3, height, width))
        return self._planes


_scratch = _Scratch()


def _channel_moments(
    image_rgb: NDArray[np.uint8], planes: list[NDArray[np.uint8]]
) -> tuple[list[float], list[float], tuple[float, float, float]]:
    """Means and deviations of R, G, B, and the variances of R - G, R - B and G - B."""
    cv2.split(image_rgb, planes)
    red, green, blue = planes
    size = red.size
    moments = [cv2.meanStdDev(plane) for plane in planes]
    mean_red, mean_green, mean_blue = means = [mean.item() for mean, _ in moments]
    difference_vars = (
        cv2.norm(red, green, cv2.NORM_L2SQR) / size - (mean_red - mean_green) ** 2,
        cv2.norm(red, blue, cv2.NORM_L2SQR) / size - (mean_red - mean_blue) ** 2,
        cv2.norm(green, blue, cv2.NORM_L2SQR) / size - (mean_green - mean_blue) ** 2,
    )
    return means, [std.item() for _, std in moments], difference_vars


def _grey_std(stds: list[float], difference_vars: tuple[float, float, float]) -> float:
    """Deviation of wR R + wG G + wB B, from 2 cov(x, y) = var x + var y - var(x - y)."""
    var_rg, var_rb, var_gb = difference_vars
    # The weights sum to one, which lets the covariances collapse into these two sums.
    own = _RED * stds[0] ** 2 + _GREEN * stds[1] ** 2 + _BLUE * stds[2] ** 2
    shared = _RED * _GREEN * var_rg + _RED * _BLUE * var_rb + _GREEN * _BLUE * var_gb
    return max(own - shared, 0.0) ** 0.5


def _colourfulness(means: list[float], difference_vars: tuple[float, float, float]) -> float:
    red, green, blue = means
    var_rg, var_rb, var_gb = difference_vars
    var_yb = (2 * var_rb + 2 * var_gb - var_rg) / 4
    mean_rg, mean_yb = red - green, (red + green) / 2 - blue
    spread = max(var_rg + var_yb, 0.0) ** 0.5  # rounding can leave -1e-13 on a grey picture
    return spread + 0.3 * (mean_rg**2 + mean_yb**2) ** 0.5  # M^(3)


def _halved_until(grey: NDArray[np.uint8], longest_side: int) -> NDArray[np.uint8]:
    """Means over 2 x 2 pixels, again and again, until no side is longer than ``longest_side``."""
    height, width = grey.shape
    while max(height, width) > longest_side and min(height, width) > 1:
        height, width = height // 2, width // 2
        # An even crop makes this OpenCV's exact two-by-two path, ten times the general one's speed.
        even = grey[: 2 * height, : 2 * width]
        halved = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
        grey = np.asarray(halved, dtype=np.uint8)
    return grey


def _perceptual_hash(level: NDArray[np.uint8]) -> tuple[int, int]:
    """DCT hash: which of the 8 x 8 lowest frequencies (without the constant) exceed the median."""
    small = _halved_until(level, PHASH_LONGEST_SIDE)
    height, width = small.shape
    # At this size the call is what costs: `dot` takes half the time of `@`, sorting a fifth less
    # than a partition.
    lowest = _cosines(height).dot(small.astype(np.float32)).dot(_cosines(width).T).ravel()
    bits = np.packbits(lowest > np.sort(lowest)[31] + PHASH_FLATNESS)
    high, low = bits.view(">u4").tolist()
    return high, low


@lru_cache(maxsize=256)
def _cosines(length: int) -> NDArray[np.float32]:
    """float32 [8, length]: the DCT-II rows of frequencies 1 to 8, as means rather than sums."""
    position = np.arange(length) + 0.5
    rows = np.cos(np.pi * np.outer(np.arange(1, 9), position) / length) / length
    return rows.astype(np.float32)
