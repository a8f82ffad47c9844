"""Small objects in large pictures: overlapping tiles at full resolution, and the whole once.

A picture of 12,000 pixels a side shrinks thirty times on its way into a network; what is small in
it is gone. Tiles keep it. Each object is seen whole in some tile if it is no larger than the
overlap; what is larger than a tile is found in the whole picture. A box that ends at an inner edge
of its tile is the cut piece of an object, and is dropped where a fuller box covers it.

Source: Akyon, Altinuc, Temizel, 2022, Slicing Aided Hyper Inference and Fine-tuning for Small
    Object Detection, arXiv 2202.06934v5.
Follows: section 3 (slicing aided hyper inference) -> `detect_tiled`; the slices -> `tile_corners`.
Symbols: tile = slice side M x N; overlap = o, as a share of the tile's side.
Differs: tiles are merged by the suppression that the detector uses anyway, after cut pieces that
    lie inside a box of the same class have been dropped.
Checked by: `test_tiles_cover_every_pixel_and_overlap`, `test_an_object_on_a_seam_is_found_once`
"""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tilth.data.detections import Detections
from tilth.errors import SettingsError
from tilth.ops.nms import Suppression, non_maximum_suppression
from tilth.recipes.picture_detection import LoadedPicture, detect_in
from tilth.recipes.usable_detector import Detector

__all__ = ["detect_tiled", "tile_corners"]

AT_EDGE = 2.0  # pixels, of the picture or of the network, whichever are larger
INSIDE = 0.7  # share of a cut piece that a fuller box must cover


def tile_corners(side: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along a side: evenly spread, with at least this overlap.

    >>> tile_corners(1000, 400, 0.25)
    [0, 300, 600]
    >>> tile_corners(300, 400, 0.25)
    [0]
    """
    if side <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(side - tile) // step) + 1
    return [round(number * (side - tile) / (count - 1)) for number in range(count)]


def detect_tiled(
    detector: Detector,
    image_rgb: NDArray[np.uint8],
    *,
    tile: int,
    overlap: float = 0.2,
    score_threshold: float = 0.25,
    suppression: Suppression | None = None,
    batch_size: int = 8,
) -> Detections:
    """Detect in one picture by tiles; ``media_index`` is 0, boxes are pixels of the picture.

    Memory is that of the picture and of ``batch_size`` tiles.

    Args:
        tile: side of a tile in pixels of the picture; what the network makes of it is
            ``model.size`` pixels.
        overlap: of neighbours, as a share of ``tile``.

    Raises:
        SettingsError: a tile or overlap that covers nothing.
    """
    if tile < 32 or not 0 <= overlap < 1:
        raise SettingsError(
            "tiles that cover nothing",
            expected="a side of 32 pixels or more, an overlap of 0 to below 1",
            got=f"{tile} pixels, overlap {overlap:g}",
        )
    suppression = suppression or Suppression()
    look = functools.partial(
        detect_in, detector, score_threshold=score_threshold, suppression=suppression
    )
    height, width = image_rgb.shape[:2]
    if max(height, width) <= tile:
        return look([LoadedPicture.of(image_rgb)])
    parts: list[Detections] = []
    cut: list[NDArray[np.bool_]] = []
    corners = list(product(tile_corners(height, tile, overlap), tile_corners(width, tile, overlap)))
    for start in range(0, len(corners), batch_size):
        own = corners[start : start + batch_size]
        tiles = [
            LoadedPicture.of(np.ascontiguousarray(image_rgb[y : y + tile, x : x + tile]))
            for y, x in own
        ]
        found = look(tiles)
        offsets = np.array([(x, y, x, y) for y, x in own], dtype=np.float64)[found.media_index]
        ends = np.array([(t.width, t.height) for t in tiles], dtype=np.float64)[found.media_index]
        margin = max(AT_EDGE, AT_EDGE * tile / detector.settings.size)
        cut.append(_ends_at_a_seam(found.boxes_xyxy, offsets[:, :2], ends, (width, height), margin))
        parts.append(replace(found, boxes_xyxy=found.boxes_xyxy + offsets).moved_to(0))
    whole = look([_smaller(image_rgb, 2 * detector.settings.size)])
    # What is no larger than the overlap lies whole in a tile, which has the finer box.
    longer_side = (whole.boxes_xyxy[:, 2:] - whole.boxes_xyxy[:, :2]).max(axis=1, initial=0.0)
    parts.append(whole.take(np.flatnonzero(longer_side > tile * overlap)))
    cut.append(np.zeros(len(parts[-1]), dtype=bool))
    merged = Detections.joined(parts)
    merged = merged.take(np.flatnonzero(~_covered_pieces(merged, np.concatenate(cut))))
    return _suppressed(merged, suppression, len(parts))


def _smaller(image_rgb: NDArray[np.uint8], least: int) -> LoadedPicture:
    """The picture, averaged down to about ``least`` pixels where it is more than twice as large."""
    height, width = image_rgb.shape[:2]
    factor = max(height, width) // least
    if factor < 2:
        return LoadedPicture.of(image_rgb)
    size = (-(-width // factor), -(-height // factor))
    small = cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA)
    pixel = (width / size[0], height / size[1])
    return LoadedPicture(
        image_rgb=small,  # type: ignore[arg-type]
        width=width,
        height=height,
        pixel=pixel,
    )


def _ends_at_a_seam(
    boxes: NDArray[np.float64],
    offset: NDArray[np.float64],
    ends: NDArray[np.float64],
    size: tuple[int, int],
    margin: float,
) -> NDArray[np.bool_]:
    """bool [k]: boxes, in pixels of their tile, that end at a side which is none of the picture."""
    low = (boxes[:, :2] <= margin) & (offset > 0)
    high = (boxes[:, 2:] >= ends - margin) & (offset + ends < size)
    return np.asarray((low | high).any(axis=1))


def _covered_pieces(found: Detections, is_cut: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool [k]: cut pieces of which most lies in a box of their class that is not cut."""
    covered = np.zeros(len(found), dtype=bool)
    full = np.flatnonzero(~is_cut)
    boxes, classes = found.boxes_xyxy, found.category_index
    for row in np.flatnonzero(is_cut):
        rivals = boxes[full[classes[full] == classes[row]]]
        sides = np.minimum(boxes[row, 2:], rivals[:, 2:]) - np.maximum(
            boxes[row, :2], rivals[:, :2]
        )
        shared = sides.clip(min=0).prod(axis=1)
        covered[row] = bool((shared >= INSIDE * (boxes[row, 2:] - boxes[row, :2]).prod()).any())
    return covered


def _suppressed(found: Detections, suppression: Suppression, num_batches: int) -> Detections:
    kept = non_maximum_suppression(
        torch.from_numpy(found.boxes_xyxy),
        torch.from_numpy(found.score),
        torch.from_numpy(found.category_index),
        iou_threshold=suppression.iou_threshold,
        max_kept=suppression.max_detections * num_batches,
        kind=suppression.kind,
        beta=suppression.beta,
        class_agnostic=suppression.class_agnostic,
    )
    return found.take(kept.numpy())
