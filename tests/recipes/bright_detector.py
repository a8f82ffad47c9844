"""A detector that needs no training: it finds what is bright, each patch for itself."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from tilth.recipes.detector import Detector
from tilth.recipes.model_settings import ModelSettings

__all__ = ["bright_detector", "picture_with"]

MOST = 64


class BrightPatches(nn.Module):
    """The bounding boxes of bright patches, of class 1 where they are red."""

    num_classes = 2
    suppresses = True

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(0.6))
        self.largest_batch = 0

    def forward(self, images: Tensor) -> Tensor:
        """The pictures themselves."""
        self.largest_batch = max(self.largest_batch, len(images))
        return images

    def decode(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and scores; a patch's score is its brightness."""
        boxes = torch.zeros(len(outputs), MOST, 4)
        scores = torch.zeros(len(outputs), MOST, 2)
        for row, image in enumerate(outputs):
            red = image[0].numpy()
            bright = (red > float(self.threshold)).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
            for place, (x, y, width, height, _) in enumerate(stats[1 : MOST + 1]):
                boxes[row, place] = torch.tensor([x, y, x + width, y + height]).float()
                middle = image[:, y + height // 2, x + width // 2]
                is_red = int(middle[1] < 0.5)
                scores[row, place, is_red] = middle[0]
        return boxes, scores


def bright_detector(
    size: int = 64, resize: Literal["letterbox", "stretch"] = "letterbox"
) -> Detector:
    """Of the classes "white" and "red"."""
    return Detector(
        model=BrightPatches().eval(),
        settings=ModelSettings(size=size, resize=resize),
        class_names=("white", "red"),
    )


def picture_with(
    boxes: list[tuple[int, int, int, int]], *, width: int = 64, height: int = 64, red: bool = False
) -> np.ndarray:
    """A dark picture with bright patches."""
    image = np.full((height, width, 3), 20, np.uint8)
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = (240, 10, 10) if red else 240
    return image
