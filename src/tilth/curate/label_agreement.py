"""The labels of a set against a detector's boxes: every finding with a score, the worst first.

What a label may be guilty of is `Finding`; how boxes are paired is `tilth.curate.box_pairs`, how
likely an error is `tilth.curate.box_error_scores`. Nothing here knows where labels or detections
come from: numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.curate.box_error_scores import (
    missed_score,
    moved_score,
    picture_scores,
    spurious_score,
    swapped_score,
)
from tilth.curate.box_pairs import (
    AgreementSettings,
    Finding,
    intersections,
    pair_boxes,
    pairwise_iou,
)
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.records import Geometry
from tilth.errors import DataError

__all__ = ["Agreement", "compare_labels"]

# COCO's small, medium and large, by the square root of the area in pixels: a detector that finds
# every large object and few small ones is silent about the small ones for no fault of theirs.
SIZE_EDGES = (32.0, 96.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """All findings of a set, the worst first.

    Attributes:
        finding: uint8 [f], codes of `Finding`, none of them AGREED.
        media_index: int64 [f], row of the picture.
        annotation_row: int64 [f], the label's row in the data set; -1 where none was drawn.
        detection_row: int64 [f], the detection that speaks against it; -1 where none does.
        error_score: float64 [f], 0 to 1, high where an error is likely.
        iou: float64 [f], overlap of the two; of a missed object with the nearest label.
        label_scores: float64 [m], of every label; 0 where it agrees, NaN where it was not compared
            (crowds, and classes of whole pictures).
        picture_scores: float64 [n], of every picture.
    """

    finding: NDArray[np.uint8]
    media_index: NDArray[np.int64]
    annotation_row: NDArray[np.int64]
    detection_row: NDArray[np.int64]
    error_score: NDArray[np.float64]
    iou: NDArray[np.float64]
    label_scores: NDArray[np.float64]
    picture_scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.finding)

    def counts(self) -> dict[str, int]:
        """How many of each kind, by its name in lower case."""
        kinds = [kind for kind in Finding if kind is not Finding.AGREED]
        return {kind.name.lower(): int((self.finding == kind).sum()) for kind in kinds}


def compare_labels(
    dataset: Dataset,
    detections: Detections,
    *,
    settings: AgreementSettings | None = None,
    advance: Callable[[int], object] | None = None,
) -> Agreement:
    """Compare every label of a set with a detector's boxes; the findings, worst first.

    Args:
        detections: of these pictures and classes, weak ones too: they are what speaks for a label.
        advance: called with the number of pictures after each.

    Raises:
        DataError: a detection in a picture or of a class that the set does not have.
    """
    settings = settings or AgreementSettings()
    _refuse_foreign(dataset, detections)
    labels = dataset.annotations
    compared = (labels.geometry != Geometry.LABEL) & ~labels.is_crowd
    kept = np.flatnonzero(detections.score >= settings.weak_score)
    kept = kept[np.argsort(detections.media_index[kept], kind="stable")]
    starts = np.searchsorted(detections.media_index[kept], np.arange(len(dataset.media) + 1))
    columns = _Columns.empty(len(labels), len(detections))
    for media_row in range(len(dataset.media)):
        own = np.arange(dataset.offsets[media_row], dataset.offsets[media_row + 1])
        found = kept[starts[media_row] : starts[media_row + 1]]
        if len(found):
            found = _outside_crowds(dataset, detections, own, found, settings)
        _compare_picture(columns, dataset, detections, own[compared[own]], found, settings)
        if advance is not None:
            advance(1)
    return _findings(columns, dataset, detections, compared, settings)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Columns:
    """What the pictures fill, row by row."""

    kind: NDArray[np.uint8]  # [m]
    partner: NDArray[np.int64]  # [m], row of the detection
    support: NDArray[np.float64]  # [m], the largest score * iou of any detection
    own_support: NDArray[np.float64]  # [m], of one of the label's class
    label_iou: NDArray[np.float64]  # [m], with the partner
    is_missed: NDArray[np.bool_]  # [k]
    detection_iou: NDArray[np.float64]  # [k], with the nearest label

    @classmethod
    def empty(cls, num_labels: int, num_detections: int) -> _Columns:
        return cls(
            kind=np.full(num_labels, Finding.SPURIOUS, dtype=np.uint8),
            partner=np.full(num_labels, -1, dtype=np.int64),
            support=np.zeros(num_labels),
            own_support=np.zeros(num_labels),
            label_iou=np.zeros(num_labels),
            is_missed=np.zeros(num_detections, dtype=np.bool_),
            detection_iou=np.zeros(num_detections),
        )


def _compare_picture(
    columns: _Columns,
    dataset: Dataset,
    detections: Detections,
    own: NDArray[np.int64],
    found: NDArray[np.int64],
    settings: AgreementSettings,
) -> None:
    """Fill the rows of one picture: ``own`` of its labels, ``found`` of its detections."""
    if not len(found):
        return
    labels = dataset.annotations
    score = detections.score[found].astype(np.float64)
    iou = pairwise_iou(labels.boxes_xyxy[own], detections.boxes_xyxy[found])
    same = labels.category_index[own][:, None] == detections.category_index[found][None]
    paired = pair_boxes(iou, same, score, settings)
    columns.is_missed[found] = paired.is_missed
    if not len(own):
        return
    strength = score * iou
    columns.kind[own] = paired.kind
    columns.support[own] = strength.max(axis=1)
    columns.own_support[own] = np.where(same, strength, 0).max(axis=1)
    columns.detection_iou[found] = iou.max(axis=0)
    rows = np.flatnonzero(paired.partner >= 0)
    columns.partner[own[rows]] = found[paired.partner[rows]]
    columns.label_iou[own[rows]] = iou[rows, paired.partner[rows]]


def _findings(
    columns: _Columns,
    dataset: Dataset,
    detections: Detections,
    compared: NDArray[np.bool_],
    settings: AgreementSettings,
) -> Agreement:
    label_scores = _label_scores(columns, dataset, detections, compared, settings)
    accused = np.flatnonzero(compared & (columns.kind != Finding.AGREED))
    missed = np.flatnonzero(columns.is_missed)
    of_missed = missed_score(
        detections.score[missed].astype(np.float64), columns.detection_iou[missed]
    )
    kind = np.concatenate([columns.kind[accused], np.full(len(missed), Finding.MISSED, np.uint8)])
    scores = np.concatenate([label_scores[accused], of_missed])
    media = [dataset.annotations.media_index[accused], detections.media_index[missed]]
    media_index = np.concatenate(media)
    boxes = np.flatnonzero(compared)
    order = _worst_first(scores, dataset, accused, detections, missed)
    return Agreement(
        finding=kind[order],
        media_index=media_index[order],
        annotation_row=np.concatenate([accused, np.full(len(missed), -1)])[order],
        detection_row=np.concatenate([columns.partner[accused], missed])[order],
        error_score=scores[order],
        iou=np.concatenate([columns.label_iou[accused], columns.detection_iou[missed]])[order],
        label_scores=label_scores,
        picture_scores=picture_scores(
            np.concatenate([dataset.annotations.media_index[boxes], media[1]]),
            np.concatenate([label_scores[boxes], of_missed]),
            len(dataset.media),
            temperature=settings.temperature,
        ),
    )


def _label_scores(
    columns: _Columns,
    dataset: Dataset,
    detections: Detections,
    compared: NDArray[np.bool_],
    settings: AgreementSettings,
) -> NDArray[np.float64]:
    kind, scores = columns.kind, np.zeros(len(columns.kind))
    confidence = np.zeros(len(kind))
    paired = columns.partner >= 0
    confidence[paired] = detections.score[columns.partner[paired]]
    miss_rate = _miss_rates(dataset, kind, compared)
    of_kind = {
        Finding.MOVED: moved_score(confidence, columns.label_iou),
        Finding.SWAPPED: swapped_score(confidence, columns.label_iou, columns.own_support),
        Finding.SPURIOUS: spurious_score(
            columns.support, miss_rate, error_rate=settings.error_rate
        ),
    }
    for found, values in of_kind.items():
        scores[kind == found] = values[kind == found]
    scores[~compared] = np.nan
    return scores


def _miss_rates(
    dataset: Dataset, kind: NDArray[np.uint8], compared: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """float64 [m]: the share of labels of the same class and size without any detection.

    One more that is found and one that is not are added to each group (Laplace's rule), so that a
    class with a single label does not accuse it with certainty.
    """
    labels = dataset.annotations
    sides = labels.boxes_xyxy[:, 2:] - labels.boxes_xyxy[:, :2]
    size = np.digitize(np.sqrt(np.maximum(sides.prod(axis=1), 0)), SIZE_EDGES)
    group = labels.category_index * (len(SIZE_EDGES) + 1) + size
    length = len(dataset.categories) * (len(SIZE_EDGES) + 1)
    all_labels = np.bincount(group[compared], minlength=length)
    missed = np.bincount(group[compared & (kind == Finding.SPURIOUS)], minlength=length)
    return ((missed + 1) / (all_labels + 2))[group]


def _worst_first(
    scores: NDArray[np.float64],
    dataset: Dataset,
    accused: NDArray[np.int64],
    detections: Detections,
    missed: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The order of the findings; of equal ones the larger box first, it is easier to judge."""
    boxes = np.concatenate(
        [dataset.annotations.boxes_xyxy[accused], detections.boxes_xyxy[missed]]
    ).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.lexsort((-areas, -scores))


def _outside_crowds(
    dataset: Dataset,
    detections: Detections,
    own: NDArray[np.int64],
    found: NDArray[np.int64],
    settings: AgreementSettings,
) -> NDArray[np.int64]:
    """The detections that do not lie in a crowd region of their class."""
    labels = dataset.annotations
    crowds = own[labels.is_crowd[own]]
    if not len(crowds):
        return found
    boxes = detections.boxes_xyxy[found]
    inside = intersections(labels.boxes_xyxy[crowds], boxes)
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), np.finfo(np.float64).tiny)
    same = labels.category_index[crowds][:, None] == detections.category_index[found][None]
    return found[~(same & (inside / area > settings.crowd_share)).any(axis=0)]


def _refuse_foreign(dataset: Dataset, detections: Detections) -> None:
    limits = {"media_index": len(dataset.media), "category_index": len(dataset.categories)}
    for name, limit in limits.items():
        values = getattr(detections, name)
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < limit:
            raise DataError(
                "a detection of another set",
                expected=f"{name} from 0 to {limit - 1}",
                got=f"{int(values.min())} to {int(values.max())}",
            )
