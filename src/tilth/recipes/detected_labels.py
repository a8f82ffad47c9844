"""Detections as a labelled set of their own, for any label format to write."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.detections import Detections
from tilth.data.records import Category, Geometry, ReviewState, Source, Split

__all__ = ["detected_labels"]


def detected_labels(
    names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    found: Sequence[Detections],
    class_names: Sequence[str],
) -> Dataset:
    """The pictures with what was found in each as labels of source *model*, scores kept.

    Args:
        names: n paths or URLs.
        sizes: n pairs of width and height.
        found: n sets of detections, ``media_index`` of no importance.
        class_names: in the order of ``category_index``.
    """
    count = len(names)
    sides = np.array(sizes, dtype=np.int32).reshape(count, 2)
    labels = Detections.joined([own.moved_to(row) for row, own in enumerate(found)])
    return Dataset(
        categories=tuple(Category(name=name, origin_id=i) for i, name in enumerate(class_names)),
        media=MediaColumns(
            id=np.arange(1, count + 1),
            uri=list(names),
            width=sides[:, 0],
            height=sides[:, 1],
            split=np.full(count, Split.NONE, dtype=np.int8),
            parent_id=np.full(count, -1, dtype=np.int64),
        ),
        annotations=_annotations(labels),
    )


def _annotations(labels: Detections) -> AnnotationColumns:
    count, boxes = len(labels), labels.boxes_xyxy
    return AnnotationColumns(
        id=np.arange(1, count + 1),
        media_index=labels.media_index,
        category_index=labels.category_index,
        boxes_xyxy=boxes,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        is_crowd=np.zeros(count, dtype=np.bool_),
        score=labels.score,
        source=np.full(count, Source.MODEL, dtype=np.uint8),
        review_state=np.full(count, ReviewState.UNREVIEWED, dtype=np.uint8),
        geometry=np.full(count, Geometry.BOX, dtype=np.uint8),
        segmentation=[None] * count,
        attributes=[None] * count,
    )
