"""Labelled sets for the tests of this room: in memory, or drawn and put into a project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.detections import Detections
from tilth.data.images import write_jpeg
from tilth.data.project import Project
from tilth.data.records import Category, Geometry, Split

__all__ = ["CLASSES", "SIDE", "detected", "draw_pictures", "drawn_project", "labelled"]

CLASSES = ("bright", "dark")
SIDE = 64


def labelled(
    boxes: Sequence[Any],
    classes: Sequence[Sequence[int]],
    *,
    class_names: Sequence[str] = CLASSES,
    side: int = SIDE,
) -> Dataset:
    """A set of square pictures; for each, its boxes [m, 4] and their classes [m]."""
    counts = [len(own) for own in classes]
    n, m = len(counts), sum(counts)
    corners = np.concatenate([np.asarray(own, float).reshape(-1, 4) for own in boxes])
    return Dataset(
        categories=tuple(Category(name=name, origin_id=i) for i, name in enumerate(class_names)),
        media=MediaColumns(
            id=np.arange(n),
            uri=[f"pictures/{row:02}.jpg" for row in range(n)],
            width=np.full(n, side, np.int32),
            height=np.full(n, side, np.int32),
            split=np.full(n, Split.NONE, np.int8),
            parent_id=np.full(n, -1),
        ),
        annotations=AnnotationColumns(
            id=np.arange(m),
            media_index=np.repeat(np.arange(n), counts),
            category_index=np.concatenate([np.asarray(own, np.int64) for own in classes]),
            boxes_xyxy=corners,
            area=(corners[:, 2:] - corners[:, :2]).prod(axis=1),
            is_crowd=np.zeros(m, bool),
            score=np.full(m, np.nan, np.float32),
            source=np.zeros(m, np.uint8),
            review_state=np.zeros(m, np.uint8),
            geometry=np.full(m, Geometry.BOX, np.uint8),
            segmentation=[None] * m,
            attributes=[None] * m,
        ),
    )


def detected(boxes: Any, scores: Any, classes: Any, media: Any = 0) -> Detections:
    """Detections of one picture, or of those that ``media`` names for each."""
    count = len(scores)
    return Detections(
        media_index=np.broadcast_to(np.asarray(media, np.int64), count),
        category_index=np.asarray(classes, np.int64).reshape(count),
        boxes_xyxy=np.asarray(boxes, np.float64).reshape(-1, 4),
        score=np.asarray(scores, np.float32),
    )


def draw_pictures(
    folder: Path, count: int, *, seed: int = 0, classes: Sequence[int] = (0, 1)
) -> tuple[Dataset, list[Path]]:
    """Grey noise with one or two squares, bright or dark, large or small; labels and files."""
    boxes, kinds, paths = [], [], []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        image = rng.normal(128, 8, (SIDE, SIDE, 3))
        own_boxes, own_kinds = [], []
        for left in (0, SIDE // 2)[: 1 + number % 2]:
            size = int(rng.integers(18, 30) if number % 3 else rng.integers(9, 14))
            x0 = left + int(rng.integers(0, SIDE // 2 - size + 1))
            y0 = int(rng.integers(0, SIDE - size + 1))
            kind = int(rng.choice(classes))
            image[y0 : y0 + size, x0 : x0 + size] += 95 if kind == 0 else -95
            own_boxes.append((x0, y0, x0 + size, y0 + size))
            own_kinds.append(kind)
        boxes.append(own_boxes)
        kinds.append(own_kinds)
        paths.append(folder / "pictures" / f"{number:02}.jpg")
        write_jpeg(paths[-1], image.clip(0, 255).astype(np.uint8))
    return labelled(boxes, kinds), paths


def drawn_project(
    root: Path, *, train: int = 10, test: int = 5, classes: Sequence[int] = (0, 1)
) -> Project:
    """A project of drawn pictures, the first ``train`` to train on, the rest held out."""
    project = Project.init(root)
    dataset, _ = draw_pictures(project.root, train + test, classes=classes)
    project.import_dataset(dataset)
    media = project.catalogue.read().media
    order = np.argsort(media.uri)
    splits = np.where(np.arange(train + test) < train, Split.TRAIN, Split.TEST).astype(np.int8)
    project.catalogue.set_splits(media.id[order], splits)
    return project
