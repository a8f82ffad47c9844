"""Pictures for the report: made small, with each arm's detections marked right, false or missed."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.metrics.matching import match
from tilth.recipes.experiment import ExamplePicture, PredictedBox, TruthBox

__all__ = ["MATCH_IOU", "example_picture"]

LONGEST_SIDE = 480  # pixels; twelve such pictures keep a report well under three megabytes
JPEG_QUALITY = 82
SCORE_THRESHOLD = 0.25  # below it a detector's guesses would cover the picture
MATCH_IOU = 0.5


def example_picture(
    name: str,
    image_rgb: NDArray[np.uint8],
    truth: Dataset,
    predictions: Mapping[str, Detections],
    *,
    score_threshold: float = SCORE_THRESHOLD,
) -> ExamplePicture:
    """One picture with the detections of every arm matched to its labels (`metrics.matching`).

    A detection that lies in a crowd is neither right nor false, and is not shown.

    Args:
        image_rgb: uint8 [h, w, 3], full size.
        truth: this picture alone, with its boxes in pixels of ``image_rgb``.
        predictions: arm name to the detections in this picture, ``media_index`` 0.
        score_threshold: detections below it are left out.
    """
    height, width = image_rgb.shape[:2]
    class_names = [category.name for category in truth.categories]
    found: dict[str, list[PredictedBox]] = {}
    missed: dict[str, list[int]] = {}
    for arm, detections in predictions.items():
        matches = match(truth, detections, iou_threshold=MATCH_IOU, score_threshold=score_threshold)
        shown = np.flatnonzero(matches.is_true_positive | matches.is_false_positive)
        found[arm] = [
            PredictedBox(
                box_xyxy=_rounded(detections.boxes_xyxy[row]),
                class_name=class_names[detections.category_index[row]],
                score=round(float(detections.score[row]), 4),
                state="true positive" if matches.is_true_positive[row] else "false positive",
            )
            for row in shown[np.argsort(-detections.score[shown], kind="stable")]
        ]
        missed[arm] = np.flatnonzero(matches.is_missed).tolist()
    annotations = truth.annotations
    return ExamplePicture(
        name=name,
        jpeg=_small_jpeg(image_rgb),
        width=width,
        height=height,
        truth=[
            TruthBox(box_xyxy=_rounded(box), class_name=class_names[category])
            for box, category in zip(
                annotations.boxes_xyxy, annotations.category_index, strict=True
            )
        ],
        predictions=found,
        missed=missed,
    )


def _small_jpeg(image_rgb: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(image_rgb))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return stream.getvalue()


def _rounded(box: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 1) for value in box]
