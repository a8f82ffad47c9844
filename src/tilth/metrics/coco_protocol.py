"""The COCO protocol for boxes, run by faster-coco-eval on our columns.

The only file that knows the library. It gives the accumulated arrays of an evaluation, the same
arrays for any resampling of the pictures without matching anything again, and the pairs of
detection and truth that were matched.

Source: Lin et al., 2014, Microsoft COCO: Common Objects in Context, arXiv 1405.0312v3; the protocol
    itself is the program pycocotools (cocoeval.py) that its authors publish.
Follows: COCOeval.evaluate -> `evaluate`; COCOeval.accumulate -> `accumulate`.
Symbols: precision = [thresholds 10, recall 101, classes, areas 4], -1 where a class has no truth;
    recall = [thresholds 10, classes, areas 4], likewise; max_detections = maxDets.
Differs: only the greatest of the three limits on detections a picture, 100, is evaluated.
Checked by: `test_equals_pycocotools_on_random_sets`, `test_resampling_equals_evaluating_copies`
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.errors import DataError, EmptyDatasetError
from tilth.lazy import require

__all__ = [
    "MAX_DETECTIONS",
    "Accumulated",
    "Evaluation",
    "accumulate",
    "evaluate",
    "matched_pairs",
]

MAX_DETECTIONS = 100  # a picture and class


@dataclass(frozen=True, kw_only=True, eq=False)
class Accumulated:
    """Precision at 101 recalls, and the final recall.

    Attributes:
        precision: float64 [t, 101, c, a] for IoU thresholds, recalls, classes, area ranges (all,
            small, medium, large); -1 where there is no truth.
        recall: float64 [t, c, a]; -1 where there is no truth.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The matches of every picture, class and area range, kept for `accumulate`."""

    parameters: Any
    matches: NDArray[np.object_]  # [classes, areas, pictures] of the library's records
    num_pictures: int


def evaluate(truth: Dataset, detections: Detections) -> Evaluation:
    """Match all detections with the truth at IoU 0.50, 0.55, ..., 0.95.

    Raises:
        EmptyDatasetError: no pictures or no categories.
        DataError: detections of pictures or categories that the truth does not have.
        MissingExtraError: faster-coco-eval is not installed.
    """
    evaluator = _evaluator(truth, detections)
    evaluator.separate_eval = True
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.evaluate()
    shape = (len(truth.categories), len(evaluator.params.areaRng), len(truth.media))
    matches = np.empty(len(evaluator._evalImgs_cpp), dtype=object)
    matches[:] = evaluator._evalImgs_cpp
    return Evaluation(
        parameters=evaluator._paramsEval,
        matches=matches.reshape(shape),
        num_pictures=len(truth.media),
    )


def accumulate(
    evaluation: Evaluation, pictures: NDArray[np.int64] | None = None, *, all_areas: bool = True
) -> Accumulated:
    """Precision and recall over all pictures, or over a choice of them.

    Args:
        pictures: int64 [k], rows of ``truth.media``, repeats allowed; all of them by default.
        all_areas: False leaves the size ranges out, for speed.
    """
    library = require("faster_coco_eval.faster_eval_api_cpp", extra="train")
    rows = np.arange(evaluation.num_pictures) if pictures is None else pictures
    areas = slice(None) if all_areas else slice(0, 1)
    parameters = copy.copy(evaluation.parameters)
    parameters.areaRng = parameters.areaRng[areas]
    parameters.imgIds = list(range(len(rows)))
    matches = evaluation.matches[:, areas][:, :, rows].ravel().tolist()
    result = library.COCOevalAccumulate(parameters, matches)
    return Accumulated(
        precision=np.asarray(result["precision"])[..., -1],
        recall=np.asarray(result["recall"])[..., -1],
    )


def matched_pairs(
    truth: Dataset, detections: Detections, *, iou_threshold: float, max_detections: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of matched detections, and the rows of ``truth.annotations`` that they were matched to.

    Crowds are matched too, and may be matched more than once.
    """
    evaluator = _evaluator(truth, detections)
    evaluator.params.maxDets = [max_detections]
    evaluator.params.iouThrs = np.array([iou_threshold])
    evaluator.params.areaRng = evaluator.params.areaRng[:1]
    evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]
    evaluator.evaluate()
    pairs = [pair.split("_") for pair in evaluator.eval["matched"]]
    numbers = np.array(pairs, dtype=np.int64).reshape(-1, 2) - 1
    numbers = numbers[np.argsort(numbers[:, 0])]
    return numbers[:, 0], numbers[:, 1]


def _evaluator(truth: Dataset, detections: Detections) -> Any:
    _refuse_unusable(truth, detections)
    library = require("faster_coco_eval", extra="train")
    # Numbers in the library are rows + 1: it takes 0 for "not matched".
    media = [{"id": row + 1} for row in range(len(truth.media))]
    categories = [
        {"id": row + 1, "name": category.name} for row, category in enumerate(truth.categories)
    ]
    shared = {"images": media, "categories": categories}
    return library.COCOeval_faster(
        library.COCO(shared | {"annotations": _truth_annotations(truth)}),
        library.COCO(shared | {"annotations": _detection_annotations(detections)}),
        "bbox",
    )


def _truth_annotations(truth: Dataset) -> list[dict[str, Any]]:
    annotations = truth.annotations
    return [
        {"id": row + 1, "image_id": picture + 1, "category_id": category + 1, "bbox": box}
        | {"area": area, "iscrowd": int(crowd)}
        for row, (picture, category, box, area, crowd) in enumerate(
            zip(
                annotations.media_index.tolist(),
                annotations.category_index.tolist(),
                _xywh(annotations.boxes_xyxy),
                annotations.area.tolist(),
                annotations.is_crowd.tolist(),
                strict=True,
            )
        )
    ]


def _detection_annotations(detections: Detections) -> list[dict[str, Any]]:
    return [
        {"id": row + 1, "image_id": picture + 1, "category_id": category + 1, "bbox": box}
        | {"area": box[2] * box[3], "iscrowd": 0, "score": score}
        for row, (picture, category, box, score) in enumerate(
            zip(
                detections.media_index.tolist(),
                detections.category_index.tolist(),
                _xywh(detections.boxes_xyxy),
                detections.score.tolist(),
                strict=True,
            )
        )
    ]


def _xywh(boxes_xyxy: NDArray[np.float64]) -> list[list[float]]:
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()


def _refuse_unusable(truth: Dataset, detections: Detections) -> None:
    if not len(truth.media) or not truth.categories:
        raise EmptyDatasetError(
            "there is nothing to score detections against",
            expected="pictures and categories",
            got=f"{len(truth.media)} pictures, {len(truth.categories)} categories",
        )
    for name, index, limit in (
        ("picture", detections.media_index, len(truth.media)),
        ("category", detections.category_index, len(truth.categories)),
    ):
        outside = (index < 0) | (index >= limit)
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise DataError(
                f"a detection is of a {name} that the truth does not have",
                expected=f"rows 0 to {limit - 1}",
                got=str(int(index[row])),
                where=f"detection {row}",
                fix="score detections against the set that they were made on",
            )
    broken = ~(np.isfinite(detections.boxes_xyxy).all(axis=-1) & np.isfinite(detections.score))
    if broken.any():
        raise DataError(
            "a detection's box or score is not a number",
            where=f"detection {int(np.flatnonzero(broken)[0])}",
            fix="look for a network whose training has diverged",
        )
