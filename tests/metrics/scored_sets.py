"""Truths and detections of them, by hand or drawn from a seed, for the tests of the metrics."""

from __future__ import annotations

import numpy as np

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.detections import Detections
from tilth.data.records import Category, Geometry


def make_truth(
    media_index, category_index, boxes, *, num_media, num_classes, crowd=None, area=None
):
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(boxes)
    order = np.argsort(media_index, kind="stable")
    own_area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return Dataset(
        categories=tuple(
            Category(name=f"class {row}", origin_id=row) for row in range(num_classes)
        ),
        media=MediaColumns(
            id=np.arange(num_media) + 1000,
            uri=[f"{row}.jpg" for row in range(num_media)],
            width=np.full(num_media, 640, np.int32),
            height=np.full(num_media, 480, np.int32),
            split=np.zeros(num_media, np.int8),
            parent_id=np.full(num_media, -1),
        ),
        annotations=AnnotationColumns(
            id=np.arange(count) + 5000,
            media_index=np.asarray(media_index, dtype=np.int64)[order],
            category_index=np.asarray(category_index, dtype=np.int64)[order],
            boxes_xyxy=boxes[order],
            area=(own_area if area is None else np.asarray(area))[order],
            is_crowd=(np.zeros(count, bool) if crowd is None else np.asarray(crowd))[order],
            score=np.full(count, np.nan, np.float32),
            source=np.zeros(count, np.uint8),
            review_state=np.zeros(count, np.uint8),
            geometry=np.full(count, Geometry.BOX, np.uint8),
            segmentation=[None] * count,
            attributes=[None] * count,
        ),
    )


def make_detections(media_index, category_index, boxes, score):
    return Detections(
        media_index=np.asarray(media_index, dtype=np.int64),
        category_index=np.asarray(category_index, dtype=np.int64),
        boxes_xyxy=np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        score=np.asarray(score, dtype=np.float32),
    )


NO_DETECTIONS = make_detections([], [], [], [])


def random_boxes(rng, count):
    corner = rng.uniform(0, 400, (count, 2))
    # Sides from 4 to 250 pixels, evenly in their logarithm: small, medium and large objects.
    return np.hstack([corner, corner + np.exp(rng.uniform(1.4, 5.5, (count, 2)))])


def random_set(seed, *, num_media=12, num_classes=3, truths=60, false=80, crowd_share=0.1):
    """Truths with crowds and mask areas; detections near them, doubled, displaced and invented."""
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, truths)
    media, category = rng.integers(0, num_media, truths), rng.integers(0, num_classes, truths)
    own_area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    truth = make_truth(
        media,
        category,
        boxes,
        num_media=num_media,
        num_classes=num_classes,
        crowd=rng.random(truths) < crowd_share,
        area=own_area * rng.uniform(0.4, 1.0, truths),
    )
    found = rng.integers(0, truths, int(1.5 * truths)) if truths else np.zeros(0, np.int64)
    size = np.tile(boxes[found, 2:] - boxes[found, :2], 2)
    near = boxes[found] + rng.normal(0, 0.08, (len(found), 4)) * size
    wrong = rng.random(len(found)) < 0.1
    guessed = np.where(wrong, rng.integers(0, num_classes, len(found)), category[found])
    return truth, make_detections(
        np.concatenate([media[found], rng.integers(0, num_media, false)]),
        np.concatenate([guessed, rng.integers(0, num_classes, false)]),
        np.vstack([near, random_boxes(rng, false)]),
        rng.integers(1, 60, len(found) + false) / 60,  # few distinct scores: many ties
    )
