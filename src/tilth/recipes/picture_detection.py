"""A detector on decoded pictures: into the network's square, through it, and back to their pixels.

Pictures that are much larger than the network's input are decoded at a half, a quarter or an
eighth; nobody would see the difference, and a picture of 12,000 pixels a side costs megabytes
instead of gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tilth.data.detections import Detections
from tilth.data.images import read_at_least
from tilth.models.detection_network import detect
from tilth.ops.letterbox import Placement, from_letterbox, letterbox, stretch
from tilth.ops.nms import Suppression
from tilth.recipes.usable_detector import Detector

__all__ = ["LoadedPicture", "detect_in", "load_picture", "placed"]

DEFAULT = Suppression()


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedPicture:
    """A decoded picture, maybe made smaller.

    Attributes:
        image_rgb: uint8 [h, w, 3].
        width, height: of the picture as it is stored, whose pixels boxes are counted in.
        pixel: width and height of a pixel of ``image_rgb`` in stored pixels.
    """

    image_rgb: NDArray[np.uint8]
    width: int
    height: int
    pixel: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, image_rgb: NDArray[np.uint8]) -> LoadedPicture:
        """A picture in its own size."""
        height, width = image_rgb.shape[:2]
        return cls(image_rgb=image_rgb, width=width, height=height)


def load_picture(detector: Detector, path: Path) -> LoadedPicture:
    """The picture, at twice the network's size or more where it is stored larger.

    Raises:
        MediaError: missing, broken, or too large.
    """
    side = detector.settings.size

    def least(width: int, height: int) -> tuple[int, int]:
        if detector.settings.resize == "stretch":
            return side, side
        ratio = side / max(width, height)
        return max(1, round(width * ratio)), max(1, round(height * ratio))

    image_rgb, (width, height), factor = read_at_least(path, least)
    pixel = (float(factor), float(factor))
    return LoadedPicture(image_rgb=image_rgb, width=width, height=height, pixel=pixel)


def placed(detector: Detector, image_rgb: NDArray[np.uint8]) -> tuple[torch.Tensor, Placement]:
    """The network's square, uint8 [3, s, s], and where the picture lies in it."""
    channels_first = torch.from_numpy(image_rgb).permute(2, 0, 1)
    if detector.settings.resize == "stretch":
        return stretch(channels_first, detector.settings.size)
    return letterbox(channels_first, detector.settings.size)


def detect_in(
    detector: Detector,
    pictures: Sequence[LoadedPicture],
    *,
    score_threshold: float = 0.001,
    suppression: Suppression = DEFAULT,
) -> Detections:
    """Detect in a batch of pictures; ``media_index`` counts them.

    Boxes are in the pixels of the stored picture and inside it; those that lie wholly in the
    padding around it are left out.
    """
    if not pictures:
        return Detections.joined([])
    device = next(detector.model.parameters()).device
    squares, placements = zip(
        *[placed(detector, picture.image_rgb) for picture in pictures], strict=True
    )
    images = torch.stack(squares).to(device).float().div_(255)
    found = detect(detector.model, images, score_threshold=score_threshold, **asdict(suppression))
    parts = []
    for row, (boxes, scores, classes) in enumerate(found):
        picture = pictures[row]
        inside = from_letterbox(boxes.cpu().double(), placements[row]).numpy()
        inside = inside * (picture.pixel * 2)
        inside = inside.clip(0, [picture.width, picture.height] * 2)
        of_picture = Detections(
            media_index=np.full(len(inside), row, dtype=np.int64),
            category_index=classes.cpu().numpy(),
            boxes_xyxy=inside,
            score=scores.cpu().numpy(),
        )
        has_area = (inside[:, 2:] > inside[:, :2]).all(axis=1)
        parts.append(of_picture.take(np.flatnonzero(has_area)))
    return Detections.joined(parts)
