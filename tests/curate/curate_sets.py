"""Small labelled sets for the tests of this room: columns in memory, or a project on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.images import write_jpeg
from tilth.data.project import Project
from tilth.data.records import Category, Geometry, Source, Split

WIDTH, HEIGHT = 96, 72


def photograph(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth coloured noise: the statistics of a photograph without a photograph."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = gaussian_filter(noise, sigma=(height / 12, width / 12, 0.3))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)


def dataset_of(objects_per_medium: Sequence[int], *, split: Split = Split.NONE) -> Dataset:
    """A set with this many boxes a picture, all inside the middle of the picture."""
    n, m = len(objects_per_medium), sum(objects_per_medium)
    rng = np.random.default_rng(0)
    start = rng.uniform([30, 20], [45, 32], size=(m, 2))
    boxes = np.concatenate([start, start + rng.uniform(12, 20, size=(m, 2))], axis=1)
    return Dataset(
        categories=(Category(name="person", origin_id=1),),
        media=MediaColumns(
            id=np.arange(1, n + 1),
            uri=[f"pictures/{i:03}.jpg" for i in range(n)],
            width=np.full(n, WIDTH, dtype=np.int32),
            height=np.full(n, HEIGHT, dtype=np.int32),
            split=np.full(n, split, dtype=np.int8),
            parent_id=np.full(n, -1),
        ),
        annotations=AnnotationColumns(
            id=np.arange(1, m + 1),
            media_index=np.repeat(np.arange(n), objects_per_medium),
            category_index=np.zeros(m, dtype=np.int64),
            boxes_xyxy=boxes,
            area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
            is_crowd=np.zeros(m, dtype=bool),
            score=np.full(m, np.nan, dtype=np.float32),
            source=np.zeros(m, dtype=np.uint8),
            review_state=np.zeros(m, dtype=np.uint8),
            geometry=np.full(m, Geometry.BOX, dtype=np.uint8),
            segmentation=[None] * m,
            attributes=[None] * m,
        ),
    )


def project_of(
    root: Path, objects_per_medium: Sequence[int], *, split: Split = Split.NONE
) -> Project:
    """A project whose pictures are on disk and whose labels are in the catalogue."""
    project = Project.init(root)
    dataset = dataset_of(objects_per_medium, split=split)
    for row, uri in enumerate(dataset.media.uri):
        write_jpeg(root / uri, photograph(row))
    project.catalogue.import_dataset(dataset)
    return project


def propose(project: Project, objects_per_medium: Sequence[int]) -> np.ndarray:
    """Give pictures boxes of a model beside the labels by hand, which they overlap; their ids."""
    dataset = project.catalogue.read()
    made = dataset_of(objects_per_medium).annotations
    project.catalogue.write_model_labels(
        replace(dataset, annotations=replace(made, boxes_xyxy=made.boxes_xyxy + 6.0)),
        origin="model:first",
        identity="aa",
    )
    labels = project.catalogue.read().annotations
    return labels.id[labels.source == Source.MODEL]
