"""Light changes that a detector sees a picture through, new in every epoch.

One affine warp and one colour table a picture, at network size. This is the small change of
training; new pictures that are stored and counted are made by `tilth.curate.augment`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.errors import SettingsError

__all__ = ["NO_JITTER", "JitterSettings", "jitter"]

_MIN_SIDE = 1.0  # network pixels; Darknet drops what is smaller, no grid cell could learn it


@dataclass(frozen=True, kw_only=True)
class JitterSettings:
    """How far a picture may be changed; every entry is switched off by 0.

    Attributes:
        flip_probability: of a mirror image, left to right.
        scale: the size factor is uniform in 1 - scale to 1 + scale, about the centre.
        translate: shift along each axis, uniform within this fraction of the side.
        brightness: the factor is uniform in 1 - brightness to 1 + brightness.
        saturation: likewise.
        hue: shift, uniform within this fraction of the colour circle.
        min_visible: a box is dropped when less than this fraction of its area stays inside.
    """

    flip_probability: float = 0.5
    scale: float = 0.2
    translate: float = 0.1
    brightness: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02
    min_visible: float = 0.2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            limit = 0.5 if field.name == "hue" else 1.0
            if not 0 <= value <= limit or (field.name == "scale" and value == 1):
                raise SettingsError(
                    f"setting '{field.name}' of the jitter cannot be used",
                    expected="0 or more, below 1" if field.name == "scale" else f"0 to {limit:g}",
                    got=str(value),
                )

    @property
    def moves(self) -> bool:
        """Whether pixels and boxes are moved."""
        return bool(self.flip_probability or self.scale or self.translate)

    @property
    def colours(self) -> bool:
        """Whether colours are changed."""
        return bool(self.brightness or self.saturation or self.hue)


NO_JITTER = JitterSettings(
    flip_probability=0, scale=0, translate=0, brightness=0, saturation=0, hue=0
)


def jitter(
    image_rgb: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float64],
    generator: np.random.Generator,
    settings: JitterSettings,
    *,
    fill: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.bool_]]:
    """A changed copy of a picture and its boxes, and which boxes are still worth learning.

    Args:
        image_rgb: uint8 [h, w, 3].
        boxes_xyxy: float64 [n, 4], pixel-edge corners.
        fill: grey level, 0 to 255, of what comes in from outside.

    Returns:
        The picture, the boxes [n, 4] clipped to it, and a mask [n] of those to keep.
    """
    # All draws, always, in one order: switching one option off leaves the others as they were.
    flip, *spread = generator.random(7)
    size, right, down, brightness, saturation, hue = 2 * np.asarray(spread) - 1
    if settings.colours:
        image_rgb = _coloured(
            image_rgb,
            hue=hue * settings.hue,
            saturation=1 + saturation * settings.saturation,
            brightness=1 + brightness * settings.brightness,
        )
    if settings.moves:
        height, width = image_rgb.shape[:2]
        factor = 1 + size * settings.scale
        sign = -1 if flip < settings.flip_probability else 1
        x = _about_the_centre(sign * factor, right * settings.translate, width)
        y = _about_the_centre(factor, down * settings.translate, height)
        image_rgb = _warped(image_rgb, x, y, fill)
        boxes_xyxy = _moved(boxes_xyxy, x, y)
    return _clipped(image_rgb, boxes_xyxy, settings.min_visible)


def _about_the_centre(factor: float, shift: float, side: int) -> tuple[float, float]:
    """``(a, b)`` of the map ``a * position + b`` between pixel edges."""
    return factor, side / 2 * (1 - factor) + shift * side


def _warped(
    image: NDArray[np.uint8], x: tuple[float, float], y: tuple[float, float], fill: int
) -> NDArray[np.uint8]:
    # OpenCV counts from pixel centres, boxes from pixel edges: half a pixel between them.
    matrix = np.array(
        [[x[0], 0, x[1] + (x[0] - 1) / 2], [0, y[0], y[1] + (y[0] - 1) / 2]], dtype=np.float64
    )
    height, width = image.shape[:2]
    return cv2.warpAffine(  # type: ignore[return-value]
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(fill, fill, fill)
    )


def _moved(
    boxes: NDArray[np.float64], x: tuple[float, float], y: tuple[float, float]
) -> NDArray[np.float64]:
    moved = boxes * [x[0], y[0], x[0], y[0]] + [x[1], y[1], x[1], y[1]]
    # A mirror image swaps left and right.
    return np.concatenate(
        [np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])], axis=1
    )


def _clipped(
    image: NDArray[np.uint8], boxes: NDArray[np.float64], min_visible: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.bool_]]:
    height, width = image.shape[:2]
    inside = np.clip(boxes, 0, [width, height, width, height])
    sides, sides_before = inside[:, 2:] - inside[:, :2], boxes[:, 2:] - boxes[:, :2]
    visible = sides.prod(axis=1) >= min_visible * sides_before.prod(axis=1)
    return image, inside, visible & (sides >= _MIN_SIDE).all(axis=1)


def _coloured(
    image: NDArray[np.uint8], *, hue: float, saturation: float, brightness: float
) -> NDArray[np.uint8]:
    levels = np.arange(256, dtype=np.float64)
    table = np.stack(
        [
            (levels + hue * 180) % 180,  # OpenCV keeps hue in 8 bits as half degrees
            np.clip(levels * saturation, 0, 255),
            np.clip(levels * brightness, 0, 255),
        ],
        axis=1,
    ).astype(np.uint8)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[return-value]
