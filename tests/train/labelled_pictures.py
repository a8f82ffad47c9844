"""Small labelled sets for tests of what training is fed with."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.records import Category, Geometry

CATEGORIES = (Category(name="dog", origin_id=1), Category(name="cat", origin_id=2))


def labelled(sizes, boxes, *, attributes=None, polygons=None):
    """A data set in memory.

    Args:
        sizes: (width, height) a medium.
        boxes: (medium, class, box, is crowd, geometry).
        attributes: a dict or None for each box.
        polygons: parts of an outline or None for each box.
    """
    m, n = len(boxes), len(sizes)
    media = MediaColumns(
        id=np.arange(n),
        uri=[f"{i}.png" for i in range(n)],
        width=np.array([w for w, _ in sizes], dtype=np.int32),
        height=np.array([h for _, h in sizes], dtype=np.int32),
        split=np.zeros(n, dtype=np.int8),
        parent_id=np.full(n, -1),
    )
    annotations = AnnotationColumns(
        id=np.arange(m),
        media_index=np.array([row[0] for row in boxes], dtype=np.int64),
        category_index=np.array([row[1] for row in boxes], dtype=np.int64),
        boxes_xyxy=np.array([row[2] for row in boxes], dtype=np.float64).reshape(m, 4),
        area=np.ones(m),
        is_crowd=np.array([row[3] for row in boxes], dtype=bool),
        score=np.full(m, np.nan, dtype=np.float32),
        source=np.zeros(m, dtype=np.uint8),
        review_state=np.zeros(m, dtype=np.uint8),
        geometry=np.array([row[4] for row in boxes], dtype=np.uint8),
        segmentation=[_json(row) for row in polygons or [None] * m],
        attributes=[_json(row) for row in attributes or [None] * m],
    )
    return Dataset(categories=CATEGORIES, media=media, annotations=annotations)


def smooth_pictures(folder, sizes, *, seed=0, boxes_each=2):
    """Paths of smooth coloured PNGs, in which a shift of a pixel is a few grey levels, and labels.

    Every picture has boxes of a third of its sides, at random places.
    """
    random = np.random.default_rng(seed)
    paths, boxes = [], []
    for row, (width, height) in enumerate(sizes):
        coarse = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        paths.append(folder / f"{row}.png")
        image.save(paths[-1])
        for number in range(boxes_each):
            x, y = random.uniform(0, 2 / 3, 2) * (width, height)
            box = (x, y, x + width / 3, y + height / 3)
            boxes.append((row, number % 2, box, False, Geometry.BOX))
    return paths, labelled(sizes, boxes)


def _json(value):
    return None if value is None else json.dumps(value).encode()
