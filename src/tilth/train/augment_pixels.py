"""Pixels of a sample by OpenCV: one warp and one colour table a picture, into its place.

Colours are changed before the warp, and only where the picture will be seen; so a mosaic costs no
more than a single picture. Everything stays in 8 bits; what warps, writes where the result belongs.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.train.augment_geometry import Rectangle
from tilth.train.augment_parameters import PictureParameters, SampleParameters

__all__ = ["blot_out", "colour_table", "draw_picture", "recoloured", "roughened", "show_through"]

_MARGIN = 2  # source pixels around what is seen: bilinear needs one, rounding another


def draw_picture(
    sample: NDArray[np.uint8],
    tile: Rectangle,
    source: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    parameters: PictureParameters,
    fill: tuple[float, ...],
) -> None:
    """Warp ``source`` into its tile of ``sample``, which is changed in place.

    Args:
        sample: uint8 [s, s, 3].
        source: uint8 [h, w, 3].
        matrix: float64 [3, 3] from edges of source pixels to edges of sample pixels.
        fill: levels of what comes in from outside.
    """
    x0, y0, x1, y1 = tile
    view = sample[y0:y1, x0:x1]
    matrix = matrix if not (x0 or y0) else _shifted(-x0, -y0) @ matrix
    if np.array_equal(matrix, np.eye(3)) and source.shape == view.shape:
        view[:] = recoloured(source, parameters)
        return
    left, top, right, bottom = 0, 0, source.shape[1], source.shape[0]
    if view.shape != sample.shape:
        left, top, right, bottom = _needed(matrix, view.shape[:2], source.shape[:2])
    if left >= right or top >= bottom:
        view[:] = np.rint(fill).astype(np.uint8)
        return
    crop = recoloured(source[top:bottom, left:right], parameters)
    # OpenCV counts from pixel centres, we from pixel edges: half a pixel between them.
    centred = _shifted(-0.5, -0.5) @ matrix @ _shifted(left + 0.5, top + 0.5)
    shape = (x1 - x0, y1 - y0)
    if centred[2, :2].any():
        cv2.warpPerspective(
            crop, centred, shape, dst=view, flags=cv2.INTER_LINEAR, borderValue=fill
        )
    else:
        cv2.warpAffine(crop, centred[:2], shape, dst=view, flags=cv2.INTER_LINEAR, borderValue=fill)


def recoloured(image_rgb: NDArray[np.uint8], parameters: PictureParameters) -> NDArray[np.uint8]:
    """The picture with its hue, saturation, contrast and brightness changed; a new array if so."""
    if not parameters.colours:
        return image_rgb
    hsv = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2HSV)
    cv2.LUT(hsv, colour_table(parameters), dst=hsv)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv)  # type: ignore[return-value]


def colour_table(parameters: PictureParameters) -> NDArray[np.uint8]:
    """uint8 [1, 256, 3]: new hue, saturation and value for each old one."""
    levels = np.arange(256, dtype=np.float64)
    table = np.empty((1, 256, 3), dtype=np.uint8)
    # OpenCV keeps hue in 8 bits as half degrees.
    table[0, :, 0] = (levels + parameters.hue * 180) % 180
    table[0, :, 1] = np.minimum(levels * parameters.saturation, 255)
    value = (levels - 127.5) * parameters.contrast + 127.5
    table[0, :, 2] = (value * parameters.brightness).clip(0, 255)
    return table


def blot_out(
    sample: NDArray[np.uint8], rectangles: tuple[Rectangle, ...], fill: tuple[float, ...]
) -> None:
    """Cover rectangles with a plain colour, in place."""
    for x0, y0, x1, y1 in rectangles:
        sample[y0:y1, x0:x1] = np.rint(fill).astype(np.uint8)


def show_through(sample: NDArray[np.uint8], other: NDArray[np.uint8], share: float) -> None:
    """Make ``sample`` its own share and what is left of ``other``, in place."""
    cv2.addWeighted(sample, share, other, 1 - share, 0.0, dst=sample)


def roughened(sample: NDArray[np.uint8], parameters: SampleParameters) -> None:
    """Blur, noise and compression, in this order, in place."""
    if parameters.blur_sigma:
        cv2.GaussianBlur(sample, (0, 0), parameters.blur_sigma, dst=sample)
    if parameters.noise_levels:
        random = np.random.default_rng(parameters.noise_seed)
        drawn = np.frombuffer(random.bytes(sample.size), dtype=np.uint8).reshape(sample.shape)
        levels = np.rint(_normal_quantiles() * parameters.noise_levels).astype(np.int16)
        cv2.add(sample, levels[drawn], dst=sample, dtype=cv2.CV_8U)
    if parameters.jpeg_quality:
        quality = [cv2.IMWRITE_JPEG_QUALITY, parameters.jpeg_quality]
        bgr = cv2.cvtColor(sample, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, quality)
        decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
        cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=sample)


def _needed(
    matrix: NDArray[np.float64], shape: tuple[int, ...], source_shape: tuple[int, ...]
) -> Rectangle:
    """The part of the source that is seen in a view of ``shape`` (height, width)."""
    height, width = shape
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
    points = corners @ np.linalg.inv(matrix).T
    points = points[:, :2] / points[:, 2:]
    left, top = np.floor(points.min(axis=0)).astype(int) - _MARGIN
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + _MARGIN
    return (
        max(0, int(left)),
        max(0, int(top)),
        min(source_shape[1], int(right)),
        min(source_shape[0], int(bottom)),
    )


def _shifted(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64)


@lru_cache(maxsize=1)
def _normal_quantiles() -> NDArray[np.float64]:
    """The middles of 256 equal parts of the normal distribution."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((level + 0.5) / 256) for level in range(256)])
