"""How long one picture takes, from the file to the boxes, and what of it each part is."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tilth.errors import EmptyDatasetError
from tilth.models.detection_network import suppressed
from tilth.ops.nms import Suppression, strongest_boxes
from tilth.recipes.picture_detection import load_picture, placed
from tilth.recipes.usable_detector import Detector

__all__ = ["latency"]

WARM_UP = 3
PARTS = ("reading", "network", "suppression")


@torch.no_grad()
def latency(
    detector: Detector,
    images: Sequence[Path],
    suppression: Suppression | None = None,
    *,
    score_threshold: float = 0.25,
) -> dict[str, Any]:
    """Median milliseconds a picture at batch one, wall clock, after a few to warm up.

    Reading is decoding and resizing; the network includes the decoding of its boxes; candidates
    are cut off at ``score_threshold``, as in use, since the thousands of weak boxes that an
    evaluation looks at would make suppression seem dearer than it is.

    Raises:
        EmptyDatasetError: no picture.
    """
    if not images:
        raise EmptyDatasetError("no picture to time the detector on")
    device = next(detector.model.parameters()).device
    suppression = suppression or Suppression()

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    times = []
    for path in [images[0]] * WARM_UP + list(images):
        marks = [now()]
        square, _ = placed(detector, load_picture(detector, path).image_rgb)
        marks.append(now())
        batch = square[None].to(device).float().div_(255)
        boxes, scores = detector.model.decode(detector.model(batch))  # type: ignore[operator]
        marks.append(now())
        strong = strongest_boxes(boxes[0], scores[0], score_threshold=score_threshold)
        suppressed(detector.model, *strong, suppression)
        marks.append(now())
        times.append(np.diff(marks))
    measured = 1000 * np.array(times[WARM_UP:])
    medians = dict(zip(PARTS, np.median(measured, axis=0).round(3).tolist(), strict=True))
    whole = measured.sum(axis=1)
    return {
        "pictures": len(images),
        "median_ms": medians | {"all": round(float(np.median(whole)), 3)},
        "slowest_ms": round(float(whole.max()), 3),
        "batch": 1,
        "size": detector.settings.size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    return platform.processor() or platform.machine()
