"""Average precision of a detector, over all objects, by class, by size and by group of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.records import Geometry
from tilth.errors import DataError
from tilth.metrics.coco_protocol import MAX_DETECTIONS, Evaluation, accumulate, evaluate
from tilth.metrics.matching import match
from tilth.seeding import generator

__all__ = ["AveragePrecision", "average_precision"]

RECALLS = np.linspace(0.0, 1.0, 101)
IOU_50, IOU_75 = 0, 5  # of the thresholds 0.50, 0.55, ..., 0.95
INTERVAL = (2.5, 97.5)  # percentiles

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePrecision:
    """The COCO numbers of one detector on one set, fractions in 0..1.

    None stands where there is no truth to find. A class without truth is left out of every mean.

    Attributes:
        ap: mean over IoU thresholds 0.50 to 0.95 and classes.
        ap50, ap75: at one threshold.
        ap_small, ap_medium, ap_large: ap of objects below 32 x 32 pixels, up to 96 x 96, and above.
        ar: recall of the best 100 detections a picture and class, mean over thresholds and classes.
        per_class, per_class_ap50: ap and ap50 by category name.
        per_group: ap50 by group; empty where no groups were given.
        classes_without_truth: names.
        recall, precision: float64 [101], the curve at IoU 0.50 with classes averaged; precision is
            the best that is reached at that recall or a higher one.
        ap_interval, ap50_interval: 95 % bootstrap intervals over pictures, where asked for.
        num_pictures, num_truths, num_detections: what was scored; crowds are not counted.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar: float | None
    per_class: dict[str, float | None]
    per_class_ap50: dict[str, float | None]
    per_group: dict[int, float | None]
    classes_without_truth: tuple[str, ...]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    ap_interval: Interval | None
    ap50_interval: Interval | None
    num_pictures: int
    num_truths: int
    num_detections: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; group numbers become strings."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name, value in plain.items():
            if isinstance(value, np.ndarray):
                plain[name] = value.tolist()
            elif isinstance(value, tuple):
                plain[name] = list(value)
        plain["precision"] = [value if np.isfinite(value) else None for value in self.precision]
        plain["per_group"] = {str(group): ap for group, ap in self.per_group.items()}
        return plain


def average_precision(
    truth: Dataset,
    detections: Detections,
    *,
    groups: NDArray[np.int64] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> AveragePrecision:
    """Score detections by the COCO protocol (101 recalls, IoU 0.50 to 0.95, crowds respected).

    Group AP50 asks how well the objects of one group (say, one cluster) are found. Detections are
    matched once, with all truths. For a group, detections that were matched to truths of other
    groups are left out; those that were matched to nothing are false positives of every group, as
    nobody can say which group they were meant for. So a group's AP50 is comparable between
    detectors; between groups it also depends on how many truths share the false positives. Classes
    that have truths in the group are averaged.

    Args:
        truth: annotations without a box are left out.
        detections: ``media_index`` and ``category_index`` are rows of ``truth``.
        groups: int64 [m], the group of each annotation of ``truth``; negative for none. For groups
            of pictures, score ``truth.take(rows)`` instead: false positives can then be told apart.
        bootstrap: resamplings of the pictures (with replacement) for the intervals; 0 for none.
        seed: of the resampling.

    Raises:
        EmptyDatasetError: no pictures or no categories.
        DataError: detections or groups that do not belong to the truth, or are not numbers.
        MissingExtraError: faster-coco-eval is not installed.
    """
    _refuse_groups(truth, groups)
    has_box = truth.annotations.geometry != Geometry.LABEL
    truth = truth.keep_annotations(has_box)
    groups = None if groups is None else groups[has_box]
    evaluation = evaluate(truth, detections)
    whole = accumulate(evaluation)
    everywhere = whole.precision[..., 0]
    names = [category.name for category in truth.categories]
    is_single = ~truth.annotations.is_crowd
    truths = np.bincount(truth.annotations.category_index[is_single], minlength=len(names))
    ap_interval, ap50_interval = _bootstrap(evaluation, bootstrap, seed)
    return AveragePrecision(
        ap=_mean(everywhere),
        ap50=_mean(everywhere[IOU_50]),
        ap75=_mean(everywhere[IOU_75]),
        ap_small=_mean(whole.precision[..., 1]),
        ap_medium=_mean(whole.precision[..., 2]),
        ap_large=_mean(whole.precision[..., 3]),
        ar=_mean(whole.recall[..., 0]),
        per_class={name: _mean(everywhere[:, :, row]) for row, name in enumerate(names)},
        per_class_ap50={name: _mean(everywhere[IOU_50, :, row]) for row, name in enumerate(names)},
        per_group={} if groups is None else _group_ap50(truth, detections, groups),
        classes_without_truth=tuple(names[row] for row in np.flatnonzero(truths == 0)),
        recall=RECALLS.copy(),
        precision=_class_mean_curve(everywhere[IOU_50]),
        ap_interval=ap_interval,
        ap50_interval=ap50_interval,
        num_pictures=len(truth.media),
        num_truths=int(is_single.sum()),
        num_detections=len(detections),
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of what could be measured; the protocol writes -1 where nothing could."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else None


def _class_mean_curve(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [101] from [101, classes]; NaN where no class has truth."""
    measured = precision[:, precision[0] > -1]
    return measured.mean(axis=1) if measured.size else np.full(len(precision), np.nan)


def _bootstrap(
    evaluation: Evaluation, resamplings: int, seed: int
) -> tuple[Interval | None, Interval | None]:
    """Percentile intervals of AP and AP50; the pictures' matches are used again and again."""
    draws = generator(seed, "bootstrap")
    samples = []
    for _ in range(resamplings):
        pictures = draws.integers(0, evaluation.num_pictures, evaluation.num_pictures)
        precision = accumulate(evaluation, pictures, all_areas=False).precision[..., 0]
        values = (_mean(precision), _mean(precision[IOU_50]))
        if None not in values:  # a draw of pictures without a single truth
            samples.append(values)
    if not samples:
        return None, None
    low, high = np.percentile(np.array(samples, dtype=np.float64), INTERVAL, axis=0)
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def _group_ap50(
    truth: Dataset, detections: Detections, groups: NDArray[np.int64]
) -> dict[int, float | None]:
    matches = match(truth, detections, iou_threshold=0.5, max_detections=MAX_DETECTIONS)
    wanted_groups = np.unique(groups[groups >= 0]).tolist()
    if not wanted_groups:
        return {}
    order = _protocol_order(detections)
    category = detections.category_index[order]
    matched_to = matches.annotation_row[order]
    is_false = matched_to < 0
    is_true = matches.is_true_positive[order]
    group_of = np.where(is_true, groups[matched_to], -1)
    is_single = ~truth.annotations.is_crowd
    result: dict[int, float | None] = {}
    for group in wanted_groups:
        wanted = is_single & (groups == group)
        counts = np.bincount(
            truth.annotations.category_index[wanted], minlength=len(truth.categories)
        )
        counted = is_false | (group_of == group)
        per_class = [
            _interpolated_ap(is_true[counted & (category == row)], int(counts[row]))
            for row in np.flatnonzero(counts)
        ]
        result[group] = float(np.mean(per_class)) if per_class else None
    return result


def _protocol_order(detections: Detections) -> NDArray[np.int64]:
    """Rows by falling score, ties in picture order, the best 100 of each picture and class."""
    by_score = np.argsort(-detections.score, kind="stable")
    pictures = detections.media_index[by_score]
    category = detections.category_index[by_score]
    grouped = np.lexsort((pictures, category))  # stable: score falls inside each
    pair_starts = np.ones(len(grouped), dtype=bool)
    pair_starts[1:] = (np.diff(pictures[grouped]) != 0) | (np.diff(category[grouped]) != 0)
    starts = np.flatnonzero(pair_starts)
    rank = np.arange(len(grouped)) - np.repeat(starts, np.diff(np.append(starts, len(grouped))))
    rows = by_score[grouped[rank < MAX_DETECTIONS]]
    return rows[np.lexsort((detections.media_index[rows], -detections.score[rows]))]


def _interpolated_ap(is_true: NDArray[np.bool_], num_truths: int) -> float:
    """AP at 101 recalls of detections in falling order of score, as pycocotools interpolates."""
    true, false = np.cumsum(is_true), np.cumsum(~is_true)
    recall = true / num_truths
    precision = true / np.maximum(true + false, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALLS, side="left")
    reached = place < len(recall)
    return float(np.where(reached, np.append(envelope, 0.0)[place], 0.0).mean())


def _refuse_groups(truth: Dataset, groups: NDArray[np.int64] | None) -> None:
    if groups is not None and len(groups) != len(truth.annotations):
        raise DataError(
            "the groups do not belong to the truth",
            expected=f"one group an annotation: {len(truth.annotations)}",
            got=str(len(groups)),
            fix="spread groups of pictures with groups[truth.annotations.media_index]",
        )
