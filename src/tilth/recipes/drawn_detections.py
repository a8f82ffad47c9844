"""Copies of pictures with what was found drawn in, one file each, never over the originals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.data.detections import Detections
from tilth.errors import SettingsError
from tilth.recipes.picture_sources import PictureSource

__all__ = ["draw_detections", "drawing_targets"]

# Okabe and Ito's colours, which the colour-blind tell apart; black is left out.
COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)


def draw_detections(
    image_rgb: NDArray[np.uint8], found: Detections, class_names: Sequence[str]
) -> NDArray[np.uint8]:
    """A copy with boxes, classes and scores; the surest lies on top.

    Args:
        found: of this picture, the surest first.
    """
    drawn = image_rgb.copy()
    thickness = max(1, round(max(drawn.shape[:2]) / 300))
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thickness
    for row in reversed(range(len(found))):
        category = int(found.category_index[row])
        colour = COLOURS[category % len(COLOURS)]
        ink = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
        x0, y0, x1, y1 = (round(edge) for edge in found.boxes_xyxy[row].tolist())
        cv2.rectangle(drawn, (x0, y0), (x1, y1), colour, thickness)
        text = f"{class_names[category]} {found.score[row]:.2f}"
        (width, height), _ = cv2.getTextSize(text, font, size, thickness)
        top = max(y0, height + 4)
        cv2.rectangle(drawn, (x0, top - height - 4), (x0 + width, top), colour, -1)
        cv2.putText(drawn, text, (x0, top - 3), font, size, ink, thickness)
    return drawn


def drawing_targets(sources: Sequence[PictureSource], folder: Path) -> list[Path]:
    """One file each in ``folder``; same-named pictures of different folders do not collide.

    Raises:
        SettingsError: a copy would replace one of the pictures.
    """
    originals = {source.path.resolve() for source in sources}
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    targets = []
    for source in sources:
        name, number = source.stem, 1
        while name in taken:
            number += 1
            name = f"{source.stem}-{number}"
        taken.add(name)
        targets.append(folder / f"{name}.jpg")
        if targets[-1].resolve() in originals:
            raise SettingsError(
                "the copies would replace the pictures themselves",
                where=str(targets[-1]),
                expected="a folder for the copies alone",
            )
    return targets
