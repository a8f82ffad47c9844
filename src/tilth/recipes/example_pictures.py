"""Pictures for the report: made small, with each arm's detections marked right, false or missed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from tilth.recipes.experiment import ExamplePicture, PredictedBox, TruthBox

__all__ = ["example_picture"]

LONGEST_SIDE = 480  # pixels; twelve such pictures keep a report well under three megabytes
JPEG_QUALITY = 82
SCORE_THRESHOLD = 0.25  # below it a detector's guesses would cover the picture
MATCH_IOU = 0.5


def example_picture(
    name: str,
    image_rgb: NDArray[np.uint8],
    truth_boxes_xyxy: ArrayLike,
    truth_categories: Sequence[int],
    predictions: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    class_names: Sequence[str],
    *,
    score_threshold: float = SCORE_THRESHOLD,
) -> ExamplePicture:
    """One picture with the detections of every arm matched to its labels.

    Detections are taken from the highest score down; each claims the free label of its class with
    the highest IoU if that is at least 0.5, as in the COCO evaluation.

    Args:
        image_rgb: uint8 [h, w, 3], full size.
        truth_boxes_xyxy: float [m, 4] in pixels of ``image_rgb``.
        truth_categories: [m] indices into ``class_names``.
        predictions: arm name to (boxes float [k, 4], scores float [k], categories int [k]).
        score_threshold: detections below it are left out.
    """
    height, width = image_rgb.shape[:2]
    truth_boxes = np.asarray(truth_boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    truth_classes = np.asarray(truth_categories, dtype=np.int64)
    found: dict[str, list[PredictedBox]] = {}
    missed: dict[str, list[int]] = {}
    for arm, (boxes_xyxy, scores, categories) in predictions.items():
        boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
        score = np.asarray(scores, dtype=np.float64)
        classes = np.asarray(categories, dtype=np.int64)
        kept = np.flatnonzero(score >= score_threshold)
        order = kept[np.argsort(-score[kept], kind="stable")]
        claims = _match(boxes[order], classes[order], truth_boxes, truth_classes)
        found[arm] = [
            PredictedBox(
                box_xyxy=_rounded(boxes[row]),
                class_name=class_names[classes[row]],
                score=round(float(score[row]), 4),
                state="true positive" if claim >= 0 else "false positive",
            )
            for row, claim in zip(order, claims, strict=True)
        ]
        missed[arm] = sorted(set(range(len(truth_boxes))) - set(claims))
    truth = [
        TruthBox(box_xyxy=_rounded(box), class_name=class_names[category])
        for box, category in zip(truth_boxes, truth_classes, strict=True)
    ]
    return ExamplePicture(
        name=name,
        jpeg=_small_jpeg(image_rgb),
        width=width,
        height=height,
        truth=truth,
        predictions=found,
        missed=missed,
    )


def _match(
    boxes: NDArray[Any], classes: NDArray[Any], truth: NDArray[Any], truth_classes: NDArray[Any]
) -> list[int]:
    """The label that each detection claims, -1 for none; detections come best first."""
    iou = _iou(boxes, truth)
    iou[classes[:, None] != truth_classes[None, :]] = 0.0
    claims: list[int] = []
    for row in iou:
        best = int(row.argmax()) if row.size else -1
        if best < 0 or row[best] < MATCH_IOU:
            claims.append(-1)
            continue
        claims.append(best)
        iou[:, best] = 0.0  # a label is claimed once; rows are views, so later ones see it
    return claims


def _iou(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    corner = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    corner = (corner - np.maximum(boxes[:, None, :2], others[None, :, :2])).clip(min=0.0)
    shared = corner.prod(axis=-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _small_jpeg(image_rgb: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(image_rgb))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return stream.getvalue()


def _rounded(box: NDArray[Any]) -> list[float]:
    return [round(float(value), 1) for value in box]
