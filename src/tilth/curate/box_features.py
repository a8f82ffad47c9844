"""Numbers that describe one labelled box: its colours, its information, its size and its place.

The first six are the feature vector of the workflow that Tilth answers (NVIDIA's post "Data-centric
AI with TAO and Innotescus": red, green and blue means, grey standard deviation, grey entropy,
relative area); k-means runs on them. The others say where the box lies and what is beside it.

Pixels of a box are those whose centre it covers, at least one; a box that lies outside its picture
takes the nearest pixel, so that every number is defined. Its areas still count what is inside.

``max_overlap`` alone depends on other boxes. When one is moved, added or measured for the first
time, all boxes of its picture are measured again; when one is deleted, its former neighbours keep
the overlap they had with it until something else in the picture changes.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.curate.grey_histogram import grey_counts, grey_entropy, grey_moments, to_grey
from tilth.errors import DataError

__all__ = ["BOX_FEATURES", "BOX_FEATURE_NAMES", "CLUSTER_FEATURE_NAMES", "box_features"]

BOX_FEATURES: dict[str, str] = {
    "red_mean": "levels, 0 to 255",
    "green_mean": "levels, 0 to 255",
    "blue_mean": "levels, 0 to 255",
    "grey_std": "levels, of the BT.601 grey picture",
    "grey_entropy": "bits, 0 to 8, of the histogram of grey levels",
    "relative_area": "0 to 1, visible area over the picture's",
    "aspect_ratio": "width over height, as labelled; 1 for a box without area",
    "centre_x": "0 to 1 across the picture, outside it where the centre is",
    "centre_y": "0 to 1 down the picture",
    "border_sides": "0 to 4, sides within one pixel of the picture's border or beyond it",
    "outside_share": "0 to 1, share of the box's area beyond the picture",
    "max_overlap": "0 to 1, largest IoU with another box of the picture",
}
BOX_FEATURE_NAMES: tuple[str, ...] = tuple(BOX_FEATURES)
CLUSTER_FEATURE_NAMES: tuple[str, ...] = BOX_FEATURE_NAMES[:6]

BORDER_PIXELS = 1.0  # labellers rarely hit the last pixel row of a picture exactly


def box_features(
    image_rgb: NDArray[np.uint8], boxes_xyxy: NDArray[np.float64]
) -> NDArray[np.float64]:
    """All numbers of `BOX_FEATURE_NAMES` for the boxes of one decoded picture.

    Args:
        image_rgb: uint8 [h, w, 3].
        boxes_xyxy: float64 [m, 4] absolute pixel-edge corners; may reach outside the picture.

    Returns:
        float64 [m, 12], units in `BOX_FEATURES`, never NaN.

    Raises:
        DataError: a corner is NaN or infinite, or a box's end lies before its start.

    >>> box_features(np.full((4, 8, 3), 9, np.uint8), np.array([[0.0, 0, 4, 4]]))[0, :6].tolist()
    [9.0, 9.0, 9.0, 0.0, 0.0, 0.5]
    """
    boxes_xyxy = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    _require_boxes(boxes_xyxy)
    height, width = image_rgb.shape[:2]
    return np.concatenate(
        [_pixel_features(image_rgb, boxes_xyxy), _place_features(boxes_xyxy, width, height)], axis=1
    )


def _require_boxes(boxes_xyxy: NDArray[np.float64]) -> None:
    ordered = np.isfinite(boxes_xyxy).all(axis=1)
    ordered &= (boxes_xyxy[:, 2:] >= boxes_xyxy[:, :2]).all(axis=1)
    if not ordered.all():
        row = int(np.argmin(ordered))
        raise DataError(
            "a box cannot be measured",
            where=f"box {row} of its picture",
            expected="finite x0 <= x1 and y0 <= y1",
            got=str(boxes_xyxy[row].tolist()),
        )


def _pixel_features(
    image_rgb: NDArray[np.uint8], boxes_xyxy: NDArray[np.float64]
) -> NDArray[np.float64]:
    grey = to_grey(image_rgb)
    values = np.empty((len(boxes_xyxy), 5))
    spans = _pixel_spans(boxes_xyxy, image_rgb.shape[1], image_rgb.shape[0]).tolist()
    for row, (x0, y0, x1, y1) in enumerate(spans):
        total = (x1 - x0) * (y1 - y0)
        sums = cv2.sumElems(image_rgb[y0:y1, x0:x1])
        counts = grey_counts(grey[y0:y1, x0:x1])
        std = grey_moments(counts, total)[1]
        values[row] = (*(part / total for part in sums[:3]), std, grey_entropy(counts, total))
    return values


def _pixel_spans(boxes_xyxy: NDArray[np.float64], width: int, height: int) -> NDArray[np.int64]:
    """Columns and rows [x0, x1) x [y0, y1) whose pixel centres a box covers, at least one each."""
    limit = np.array([width, height])
    covered = np.ceil(np.clip(boxes_xyxy, -1.0, np.tile(limit, 2) + 1.0) - 0.5).astype(np.int64)
    start = np.clip(covered[:, :2], 0, limit - 1)
    end = np.clip(covered[:, 2:], start + 1, limit)
    return np.concatenate([start, end], axis=1)


def _place_features(
    boxes_xyxy: NDArray[np.float64], width: int, height: int
) -> NDArray[np.float64]:
    limit = np.array([width, height], dtype=np.float64)
    start, end = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    sides = end - start
    area = sides.prod(axis=1)
    visible = (np.clip(end, 0, limit) - np.clip(start, 0, limit)).prod(axis=1)
    centre = (start + end) / 2 / limit
    at_border = (start <= BORDER_PIXELS).sum(axis=1) + (end >= limit - BORDER_PIXELS).sum(axis=1)
    has_area = area > 0
    safe_height = np.where(has_area, sides[:, 1], 1.0)
    columns = [
        visible / limit.prod(),
        np.where(has_area, sides[:, 0] / safe_height, 1.0),
        centre[:, 0],
        centre[:, 1],
        at_border,
        np.where(has_area, 1.0 - visible / np.where(has_area, area, 1.0), 0.0),
        _max_overlap(boxes_xyxy),
    ]
    return np.stack(columns, axis=1)


def _max_overlap(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest intersection over union with any other row; 0 for a box alone or without area."""
    if len(boxes_xyxy) < 2:
        return np.zeros(len(boxes_xyxy))
    start, end = boxes_xyxy[:, None, :2], boxes_xyxy[:, None, 2:]
    sides = np.minimum(end, end.swapaxes(0, 1)) - np.maximum(start, start.swapaxes(0, 1))
    shared = np.maximum(sides, 0.0).prod(axis=2)
    area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    union = area[:, None] + area[None, :] - shared
    overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    np.fill_diagonal(overlap, 0.0)
    return overlap.max(axis=1)
