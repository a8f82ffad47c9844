"""Small labelled sets for the tests of this room."""

from __future__ import annotations

import numpy as np

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.records import Category, Geometry

__all__ = ["small_dataset"]

CATEGORIES = (
    Category(name="person", origin_id=1, supercategory="being"),
    Category(name="traffic light", origin_id=10),
    Category(name="dog", origin_id=3),
)


def small_dataset(num_media: int = 4, labels_each: int = 3, *, prefix: str = "") -> Dataset:
    """Pictures of 100 x 80 pixels with boxes, polygons and masks; the last has no label."""
    labelled = num_media - 1
    count = labelled * labels_each
    index = np.repeat(np.arange(labelled), labels_each)
    corner = np.stack([np.arange(count) % 50 + 0.25, np.arange(count) % 40 + 0.5], axis=1)
    geometry = np.array([Geometry.BOX, Geometry.POLYGON, Geometry.RLE], dtype=np.uint8)
    shapes = [None, b"[[1.5,2,10,2,10.25,12]]", b'{"size":[80,100],"counts":[10,20,7970]}']
    return Dataset(
        categories=CATEGORIES,
        media=MediaColumns(
            id=np.arange(num_media, dtype=np.int64) * 10 + 100,
            uri=[f"{prefix}pictures/{i:03d}.jpg" for i in range(num_media)],
            width=np.full(num_media, 100, dtype=np.int32),
            height=np.full(num_media, 80, dtype=np.int32),
            split=np.full(num_media, -1, dtype=np.int8),
            parent_id=np.full(num_media, -1, dtype=np.int64),
        ),
        annotations=AnnotationColumns(
            id=np.arange(count, dtype=np.int64) * 7 + 1,
            media_index=index,
            category_index=np.arange(count) % len(CATEGORIES),
            boxes_xyxy=np.concatenate([corner, corner + np.array([20.125, 30.0])], axis=1),
            area=np.full(count, 603.75),
            is_crowd=np.arange(count) % 3 == 2,
            score=np.where(np.arange(count) % 2, np.nan, 0.5).astype(np.float32),
            source=np.zeros(count, dtype=np.uint8),
            review_state=np.zeros(count, dtype=np.uint8),
            geometry=geometry[np.arange(count) % 3],
            segmentation=[shapes[i % 3] for i in range(count)],
            attributes=[b'{"occluded":true}' if i % 4 == 0 else None for i in range(count)],
        ),
    )
