"""Detections in the pictures of a catalogue, and the same as labels of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.detections import Detections
from tilth.data.project import Project
from tilth.data.records import Geometry, ReviewState, Source
from tilth.errors import MediaError, TilthError
from tilth.recipes.detector import find_objects
from tilth.recipes.detector_source import OpenedDetector

__all__ = ["as_labels", "detect_readable"]


def detect_readable(
    project: Project,
    opened: OpenedDetector,
    pictures: Dataset,
    *,
    score: float,
    iou: float,
    errors: list[TilthError],
) -> tuple[NDArray[np.int64], Detections]:
    """Detect in the pictures that can be read; the others go to ``errors``.

    Args:
        score, iou: the least confidence, and the overlap at which the weaker box is dropped.

    Returns:
        Rows of the pictures that were read, and the detections by their place among those.
    """

    def find(dataset: Dataset) -> Detections:
        paths: list[Path] = [project.media_path(uri) for uri in dataset.media.uri]
        return find_objects(
            opened.detector, paths, labelled=dataset, score_threshold=score, iou_threshold=iou
        )

    try:
        return np.arange(len(pictures.media)), find(pictures)
    except MediaError:
        pass  # one of them; which, is found by asking each
    kept: list[int] = []
    found: list[Detections] = []
    for row in range(len(pictures.media)):
        try:
            own = find(pictures.take(np.array([row])))
        except MediaError as error:
            errors.append(error)
            continue
        found.append(replace(own, media_index=own.media_index + len(kept)))
        kept.append(row)
    return np.array(kept, dtype=np.int64), Detections.joined(found)


def as_labels(dataset: Dataset, found: Detections, attributes: bytes) -> Dataset:
    """The pictures of a set with a model's boxes instead of its labels.

    Args:
        found: ``media_index`` counts the pictures of ``dataset``, classes are those of it.
        attributes: JSON of what every label says of its origin.
    """
    order = np.lexsort((-found.score, found.media_index))
    boxes, count = found.boxes_xyxy[order], len(order)
    return replace(
        dataset,
        annotations=AnnotationColumns(
            id=np.arange(count, dtype=np.int64),
            media_index=found.media_index[order],
            category_index=found.category_index[order],
            boxes_xyxy=boxes,
            area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
            is_crowd=np.zeros(count, dtype=np.bool_),
            score=found.score[order],
            source=np.full(count, Source.MODEL, dtype=np.uint8),
            review_state=np.full(count, ReviewState.UNREVIEWED, dtype=np.uint8),
            geometry=np.full(count, Geometry.BOX, dtype=np.uint8),
            segmentation=[None] * count,
            attributes=[attributes] * count,
        ),
    )
