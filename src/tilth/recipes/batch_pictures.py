"""The first batches as the network sees them, with their boxes: the shortest look at an error.

Wrong boxes, swapped classes and too much augmentation are seen here before an hour is spent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.data.detections import Detections
from tilth.recipes.drawn_detections import draw_detections
from tilth.train.augment_on_device import rendered

__all__ = ["batch_picture"]

MOST_PICTURES = 16
SIDE = 320  # of a picture in the sheet, pixels, at most
IGNORED = (128, 128, 128)


def batch_picture(batch: Mapping[str, Any], class_names: Sequence[str]) -> NDArray[np.uint8]:
    """A sheet of the pictures of one batch, uint8 [h, w, 3] RGB.

    The number at a box is its weight: 1, or less where two pictures shine through each other. Grey
    frames are regions where nothing is punished.

    Args:
        batch: of `tilth.train.loading.DetectionBatches`.
    """
    images = rendered(batch)["images"][:MOST_PICTURES]
    size = images.shape[-1]
    side = min(size, SIDE)
    columns = math.ceil(math.sqrt(len(images)))
    sheet = np.full((-(-len(images) // columns) * side, columns * side, 3), 255, dtype=np.uint8)
    for number, image in enumerate(images):
        pixels = (image.permute(1, 2, 0).numpy() * 255).round().clip(0, 255).astype(np.uint8)
        small = cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=cv2.INTER_AREA)
        drawn = _labelled(small.astype(np.uint8), batch, number, side / size, class_names)
        y, x = (part * side for part in divmod(number, columns))
        sheet[y : y + side, x : x + side] = drawn
    return sheet


def _labelled(
    image_rgb: NDArray[np.uint8],
    batch: Mapping[str, Any],
    number: int,
    scale: float,
    class_names: Sequence[str],
) -> NDArray[np.uint8]:
    for box in _of(batch, "ignore_boxes_xyxy", "ignore_image_index", number):
        x0, y0, x1, y1 = (round(edge) for edge in (box * scale).tolist())
        cv2.rectangle(image_rgb, (x0, y0), (x1, y1), IGNORED, 1)
    boxes = _of(batch, "boxes_xyxy", "image_index", number)
    labels = Detections(
        media_index=np.zeros(len(boxes), dtype=np.int64),
        category_index=_of(batch, "class_index", "image_index", number),
        boxes_xyxy=boxes.astype(np.float64) * scale,
        score=_of(batch, "box_weights", "image_index", number),
    )
    return draw_detections(image_rgb, labels, class_names)


def _of(batch: Mapping[str, Any], name: str, index: str, number: int) -> NDArray[Any]:
    return batch[name][batch[index] == number].numpy()
