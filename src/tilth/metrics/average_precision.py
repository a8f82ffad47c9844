"""Average precision of a detector, over all objects, by class, by size and by group of objects.

In one of three modes, which every result names, as their numbers differ by points:

    "coco"    COCO's protocol: matching by `coco_protocol`, precision at 101 recalls
    "voc07"   Pascal VOC until 2009: matching by `voc_protocol`, precision at 11 recalls
    "area"    Pascal VOC from 2010, Darknet: the same matching, the area under the curve

`ap50` is the number of the latter two; over several thresholds they are averaged as COCO's is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.records import Geometry
from tilth.errors import DataError, SettingsError
from tilth.metrics import coco_protocol, voc_protocol
from tilth.metrics.accumulation import RECALLS, Accumulated, Evaluation, Interpolation, accumulate
from tilth.metrics.matching import match
from tilth.seeding import generator

__all__ = ["MODES", "AveragePrecision", "average_precision"]

MODES: tuple[Interpolation, ...] = ("coco", "voc07", "area")
IOU_50, IOU_75 = 0, 5  # of the thresholds 0.50, 0.55, ..., 0.95
INTERVAL = (2.5, 97.5)  # percentiles

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePrecision:
    """The numbers of one detector on one set, fractions in 0..1.

    None stands where there is no truth to find. A class without truth is left out of every mean.

    Attributes:
        mode: the protocol, see `MODES`.
        ap: mean over IoU thresholds 0.50 to 0.95 and classes.
        ap50, ap75: at one threshold.
        ap_small, ap_medium, ap_large: ap of objects below 32 x 32 pixels, up to 96 x 96, and above.
        ar_1, ar_10, ar: recall of the best 1, 10 and 100 detections a picture and class (modes of
            VOC: of all), mean over thresholds and classes.
        ar_small, ar_medium, ar_large: ar of objects of a size.
        per_class, per_class_ap50, per_class_ar: ap, ap50 and ar by category name.
        per_class_truths: objects by category name, crowds not counted.
        per_group: ap50 by group; empty where no groups were given.
        classes_without_truth: names.
        recall, precision: float64 [101], the curve at IoU 0.50 with classes averaged; precision is
            the best that is reached at that recall or a higher one.
        ap_interval, ap50_interval: 95 % bootstrap intervals over pictures, where asked for.
        num_pictures, num_truths, num_detections: what was scored; crowds are not counted.
    """

    mode: Interpolation
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar_1: float | None
    ar_10: float | None
    ar: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: dict[str, float | None]
    per_class_ap50: dict[str, float | None]
    per_class_ar: dict[str, float | None]
    per_class_truths: dict[str, int]
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
    mode: Interpolation = "coco",
    groups: NDArray[np.int64] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> AveragePrecision:
    """Score detections by one of the protocols in `MODES`, at IoU 0.50 to 0.95.

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
        SettingsError: no such mode.
    """
    _refuse_mode(mode)
    _refuse_groups(truth, groups)
    has_box = truth.annotations.geometry != Geometry.LABEL
    truth = truth.keep_annotations(has_box)
    groups = None if groups is None else groups[has_box]
    protocol = coco_protocol if mode == "coco" else voc_protocol
    evaluation = protocol.evaluate(truth, detections)
    whole = accumulate(evaluation, interpolation=mode)
    curve = whole.precision[IOU_50, ..., 0]
    if mode != "coco":
        curve = accumulate(evaluation, all_areas=False).precision[IOU_50, ..., 0]
    is_single = ~truth.annotations.is_crowd
    ap_interval, ap50_interval = _bootstrap(evaluation, mode, bootstrap, seed)
    return AveragePrecision(
        mode=mode,
        **_overall(whole),
        **_by_class(truth, whole),
        per_group={} if groups is None else _group_ap50(truth, detections, groups, mode),
        recall=RECALLS.copy(),
        precision=_class_mean_curve(curve),
        ap_interval=ap_interval,
        ap50_interval=ap50_interval,
        num_pictures=len(truth.media),
        num_truths=int(is_single.sum()),
        num_detections=len(detections),
    )


def _overall(whole: Accumulated) -> dict[str, Any]:
    precision, recall = whole.precision, whole.recall
    return {
        "ap": _mean(precision[..., 0]),
        "ap50": _mean(precision[IOU_50, ..., 0]),
        "ap75": _mean(precision[IOU_75, ..., 0]),
        "ap_small": _mean(precision[..., 1]),
        "ap_medium": _mean(precision[..., 2]),
        "ap_large": _mean(precision[..., 3]),
        "ar_1": _mean(recall[..., 0, 0]),
        "ar_10": _mean(recall[..., 0, 1]),
        "ar": _mean(recall[..., 0, -1]),
        "ar_small": _mean(recall[..., 1, -1]),
        "ar_medium": _mean(recall[..., 2, -1]),
        "ar_large": _mean(recall[..., 3, -1]),
    }


def _by_class(truth: Dataset, whole: Accumulated) -> dict[str, Any]:
    names = [category.name for category in truth.categories]
    is_single = ~truth.annotations.is_crowd
    truths = np.bincount(truth.annotations.category_index[is_single], minlength=len(names))
    precision, recall = whole.precision[..., 0], whole.recall[..., 0, -1]
    rows = list(enumerate(names))
    return {
        "per_class": {name: _mean(precision[:, :, row]) for row, name in rows},
        "per_class_ap50": {name: _mean(precision[IOU_50, :, row]) for row, name in rows},
        "per_class_ar": {name: _mean(recall[:, row]) for row, name in rows},
        "per_class_truths": {name: int(truths[row]) for row, name in rows},
        "classes_without_truth": tuple(names[row] for row in np.flatnonzero(truths == 0)),
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of what could be measured; the protocol writes -1 where nothing could."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else None


def _class_mean_curve(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [101] from [101, classes]; NaN where no class has truth."""
    measured = precision[:, precision[0] > -1]
    return measured.mean(axis=1) if measured.size else np.full(len(precision), np.nan)


def _bootstrap(
    evaluation: Evaluation, mode: Interpolation, resamplings: int, seed: int
) -> tuple[Interval | None, Interval | None]:
    """Percentile intervals of AP and AP50; the pictures' matches are used again and again."""
    draws = generator(seed, "bootstrap")
    samples = []
    for _ in range(resamplings):
        pictures = draws.integers(0, evaluation.num_pictures, evaluation.num_pictures)
        drawn = accumulate(evaluation, pictures, interpolation=mode, all_areas=False)
        precision = drawn.precision[..., 0]
        values = (_mean(precision), _mean(precision[IOU_50]))
        if None not in values:  # a draw of pictures without a single truth
            samples.append(values)
    if not samples:
        return None, None
    low, high = np.percentile(np.array(samples, dtype=np.float64), INTERVAL, axis=0)
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def _group_ap50(
    truth: Dataset, detections: Detections, groups: NDArray[np.int64], mode: Interpolation
) -> dict[int, float | None]:
    """AP50 of each group: its own right detections, and the wrong ones of all."""
    limit = coco_protocol.MAX_DETECTIONS if mode == "coco" else max(1, len(detections))
    matches = match(truth, detections, mode=mode, max_detections=limit)
    turn = coco_protocol.turns(detections)
    rows = coco_protocol.in_protocol_order(detections, turn)
    rows = rows[turn[rows] < limit]
    kept, matched_to = detections.take(rows), matches.annotation_row[rows]
    num_classes = len(truth.categories)
    result: dict[int, float | None] = {}
    for group in np.unique(groups[groups >= 0]).tolist():
        is_own = groups == group
        evaluation = Evaluation(
            class_starts=np.searchsorted(kept.category_index, np.arange(num_classes + 1)),
            media_index=kept.media_index,
            turn=turn[rows],
            is_right=(matches.is_true_positive[rows] & np.append(is_own, False)[matched_to])[
                None, None
            ],
            is_wrong=matches.is_false_positive[rows][None, None],
            num_truths=coco_protocol.count_truths(truth, ~(is_own & matches.is_counted)[None]),
        )
        result[group] = _mean(accumulate(evaluation, interpolation=mode).precision)
    return result


def _refuse_mode(mode: str) -> None:
    if mode not in MODES:
        raise SettingsError("no such way to score", expected=", ".join(MODES), got=repr(mode))


def _refuse_groups(truth: Dataset, groups: NDArray[np.int64] | None) -> None:
    if groups is not None and len(groups) != len(truth.annotations):
        raise DataError(
            "the groups do not belong to the truth",
            expected=f"one group an annotation: {len(truth.annotations)}",
            got=str(len(groups)),
            fix="spread groups of pictures with groups[truth.annotations.media_index]",
        )
