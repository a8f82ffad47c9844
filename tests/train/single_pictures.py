"""Single letterboxed pictures, changed lightly: a plain twin of what the augmentation does to them.

It is how Tilth made its samples before there were mosaics. Runs that were made then can be made
again to the bit (`LIGHT`), and this says so.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from tilth.data.images import read_image
from tilth.ops.letterbox import FILL, letterbox, to_letterbox
from tilth.seeding import generator


def single_picture(path, boxes_xyxy, *, size, seed, position, settings):
    """uint8 [size, size, 3], its boxes float64 [n, 4] and which of them are kept, bool [n]."""
    image = read_image(path)
    height, width = image.shape[:2]
    boxes = boxes_xyxy.clip(0, [width, height, width, height])
    square, placement = letterbox(torch.from_numpy(image).permute(2, 0, 1), size)
    picture = square.permute(1, 2, 0).contiguous().numpy()
    moved = to_letterbox(torch.from_numpy(boxes), placement).numpy()

    flip, *spread = generator(seed, "jitter", position).random(7)
    zoom, right, down, brightness, saturation, hue = 2 * np.asarray(spread) - 1
    if settings.brightness or settings.saturation or settings.hue:
        picture = _coloured(
            picture,
            hue=hue * settings.hue,
            saturation=1 + saturation * settings.saturation,
            brightness=1 + brightness * settings.brightness,
        )
    if settings.flip_probability or settings.scale or settings.translate:
        factor = 1 + zoom * settings.scale
        sign = -1 if flip < settings.flip_probability else 1
        x = _about_the_centre(sign * factor, right * settings.translate, size)
        y = _about_the_centre(factor, down * settings.translate, size)
        picture = _warped(picture, x, y)
        moved = moved * [x[0], y[0], x[0], y[0]] + [x[1], y[1], x[1], y[1]]
        first, second = moved[:, :2], moved[:, 2:]
        moved = np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)
    inside = moved.clip(0, size)
    sides, before = inside[:, 2:] - inside[:, :2], moved[:, 2:] - moved[:, :2]
    visible = sides.prod(axis=1) >= settings.min_visible * before.prod(axis=1)
    in_picture = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return picture, inside, in_picture & visible & (sides >= 1).all(axis=1)


def _about_the_centre(factor, shift, side):
    return factor, side / 2 * (1 - factor) + shift * side


def _warped(image, x, y):
    matrix = np.array([[x[0], 0, x[1] + (x[0] - 1) / 2], [0, y[0], y[1] + (y[0] - 1) / 2]])
    size = image.shape[1], image.shape[0]
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(FILL,) * 3)


def _coloured(image, *, hue, saturation, brightness):
    levels = np.arange(256, dtype=np.float64)
    table = np.stack(
        [
            (levels + hue * 180) % 180,
            np.clip(levels * saturation, 0, 255),
            np.clip(levels * brightness, 0, 255),
        ],
        axis=1,
    ).astype(np.uint8)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
