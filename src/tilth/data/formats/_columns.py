"""Columns from what a format's parser found: checked, reported, sorted by picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilth.data.dataset import AnnotationColumns, MediaColumns
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes, take_bytes
from tilth.data.records import Geometry, ReviewState, Source, Split

__all__ = ["annotation_columns", "media_columns", "report_rows"]

OUTSIDE_TOLERANCE_PX = 0.011  # what rounding to two decimals may put beyond the border


def media_columns(
    uris: Sequence[str],
    *,
    width: ArrayLike | None = None,
    height: ArrayLike | None = None,
    split: ArrayLike | None = None,
    attributes: Sequence[bytes | None] = (),
) -> MediaColumns:
    """Originals, numbered from 1 in the given order; a size that is not known is 0."""
    count = len(uris)
    return MediaColumns(
        id=np.arange(1, count + 1, dtype=np.int64),
        uri=list(uris),
        width=np.zeros(count, np.int32) if width is None else np.asarray(width, np.int32),
        height=np.zeros(count, np.int32) if height is None else np.asarray(height, np.int32),
        split=np.full(count, Split.NONE, np.int8) if split is None else np.asarray(split, np.int8),
        parent_id=np.full(count, -1, dtype=np.int64),
        attributes=attributes,
    )


def annotation_columns(
    media: MediaColumns,
    *,
    media_index: ArrayLike,
    category_index: ArrayLike,
    boxes_xyxy: ArrayLike | None,
    report: LabelReport,
    place: Callable[[int], str],
    geometry: ArrayLike | None = None,
    segmentation: Sequence[bytes | None] | None = None,
    area: ArrayLike | None = None,
    is_crowd: ArrayLike | None = None,
    score: ArrayLike | None = None,
    attributes: Sequence[bytes | None] | None = None,
    source: ArrayLike | None = None,
    review_state: ArrayLike | None = None,
) -> AnnotationColumns:
    """The labels that can be used, by picture and numbered from 1; the others are reported.

    A box without area or with a number that is not finite is left out; one that reaches outside its
    picture is kept and reported. A label of a whole picture has that picture as its box.

    Args:
        media_index, category_index: int [m], rows; none may be negative.
        boxes_xyxy: float [m, 4], or None where all labels are of whole pictures.
        place: the place of row i in the label file, as in ``train/0004.txt:3``.
        geometry: uint8 [m], `Geometry`; all boxes (or all labels) when left out.
        area: float [m]; that of the box where it is NaN or left out.
    """
    rows_media = np.asarray(media_index, dtype=np.int64)
    count = len(rows_media)
    default = Geometry.LABEL if boxes_xyxy is None else Geometry.BOX
    kinds = (
        np.full(count, default, np.uint8) if geometry is None else np.asarray(geometry, np.uint8)
    )
    boxes = np.zeros((count, 4)) if boxes_xyxy is None else np.array(boxes_xyxy, np.float64)
    boxes = boxes.reshape(count, 4)
    whole = kinds == Geometry.LABEL
    boxes[whole, :2] = 0
    boxes[whole, 2] = media.width[rows_media[whole]]
    boxes[whole, 3] = media.height[rows_media[whole]]
    keep = _usable(boxes, whole, report, place)
    _report_outside(media, rows_media, boxes, keep, report, place)
    order = np.flatnonzero(keep)
    order = order[np.argsort(rows_media[order], kind="stable")]
    sizes = boxes[order, 2:] - boxes[order, :2]
    areas = np.full(count, np.nan) if area is None else np.asarray(area, np.float64)
    areas = areas[order]
    return AnnotationColumns(
        id=np.arange(1, len(order) + 1, dtype=np.int64),
        media_index=rows_media[order],
        category_index=np.asarray(category_index, np.int64)[order],
        boxes_xyxy=boxes[order],
        area=np.where(np.isnan(areas), sizes[:, 0] * sizes[:, 1], areas),
        is_crowd=_column(is_crowd, False, np.bool_, order),
        score=_column(score, np.nan, np.float32, order),
        source=_column(source, Source.HUMAN, np.uint8, order),
        review_state=_column(review_state, ReviewState.UNREVIEWED, np.uint8, order),
        geometry=kinds[order],
        segmentation=_texts(segmentation, order),
        attributes=_texts(attributes, order),
    )


def _column(values: ArrayLike | None, default: float, dtype: type, rows: NDArray[np.int64]):  # type: ignore[no-untyped-def]
    if values is None:
        return np.full(len(rows), default, dtype)
    return np.asarray(values, dtype)[rows]


def _texts(texts: Sequence[bytes | None] | None, rows: NDArray[np.int64]) -> Sequence[bytes | None]:
    if texts is None:
        return RaggedBytes.empty(len(rows))
    return take_bytes(RaggedBytes.of(texts), rows)


def _usable(
    boxes: NDArray[np.float64],
    whole: NDArray[np.bool_],
    report: LabelReport,
    place: Callable[[int], str],
) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):
        sizes = boxes[:, 2:] - boxes[:, :2]
        finite = np.isfinite(boxes).all(axis=1) & np.isfinite(sizes[:, 0] * sizes[:, 1])
        empty = ~(sizes > 0).all(axis=1)
    report_rows(report, "box with a number that is not finite", "left out", ~finite, place)
    bad = finite & empty & ~whole
    report_rows(report, "box without area", "left out", bad, place)
    return finite & ~bad


def _report_outside(
    media: MediaColumns,
    media_index: NDArray[np.int64],
    boxes: NDArray[np.float64],
    keep: NDArray[np.bool_],
    report: LabelReport,
    place: Callable[[int], str],
) -> None:
    width, height = media.width[media_index], media.height[media_index]
    with np.errstate(invalid="ignore"):
        outside = (boxes[:, :2] < -OUTSIDE_TOLERANCE_PX).any(axis=1)
        outside |= (width > 0) & (boxes[:, 2] > width + OUTSIDE_TOLERANCE_PX)
        outside |= (height > 0) & (boxes[:, 3] > height + OUTSIDE_TOLERANCE_PX)
    kind = "box that reaches outside its picture"
    report_rows(report, kind, "kept as it is", outside & keep, place)


def report_rows(
    report: LabelReport,
    kind: str,
    action: str,
    bad: NDArray[np.bool_],
    place: Callable[[int], str],
) -> None:
    """Report the rows where ``bad`` (bool [m]) is true, by their places."""
    rows = np.flatnonzero(bad)
    shown = rows if report.max_examples is None else rows[: report.max_examples]
    report.add(kind, action, [place(row) for row in shown.tolist()], count=len(rows))
