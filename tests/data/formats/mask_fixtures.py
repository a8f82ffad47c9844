"""Masks drawn by hand, and what was read of them as plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tilth.data import rle
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.label_maps import runs_of_values
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category, Geometry, ReviewState, Source, Split
from tilth.data.runs import runs_to_json

__all__ = ["labels_of", "mask_set", "save", "save_picture"]


def save(path: Path, pixels: Any, *, palette: np.ndarray | None = None) -> None:
    """A PNG by Pillow, so that no writer of ours stands behind a fixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.array(pixels))
    if palette is not None:
        picture.putpalette(palette.astype(np.uint8).tobytes())
    picture.save(path)


def save_picture(path: Path, width: int, height: int) -> None:
    """An even picture that masks belong to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 90, 90)).save(path)


def labels_of(dataset: Dataset, name: str) -> list[tuple[str, np.ndarray]]:
    """Class and mask (bool [h, w]) of each label of the picture whose uri ends with ``name``."""
    (row,) = [at for at, uri in enumerate(dataset.media.uri) if uri.endswith(name)]
    rows = dataset.rows_of(row)
    found = []
    for at in range(rows.start, rows.stop):
        counts, height, width = rle.from_json(dataset.annotations.segmentation[at] or b"")
        category = dataset.categories[dataset.annotations.category_index[at]]
        found.append((category.name, rle.decode(counts, height, width)))
    return found


def mask_set(
    shapes: list[tuple[int, np.ndarray]],
    names: list[str],
    *,
    uri: str = "/pictures/a.jpg",
    **columns: Any,
) -> Dataset:
    """One picture with masks: (row of the class, bool [h, w]) each."""
    height, width = shapes[0][1].shape
    count = len(shapes)
    runs = [runs_of_values(mask.astype(np.uint8))[1] for _, mask in shapes]
    given: dict[str, Any] = {
        "id": np.arange(1, count + 1),
        "media_index": np.zeros(count, np.int64),
        "category_index": np.array([row for row, _ in shapes], np.int64),
        "boxes_xyxy": np.array([each.box_xyxy(height) for each in runs]),
        "area": np.array([each.area for each in runs], np.float64),
        "is_crowd": np.zeros(count, np.bool_),
        "score": np.full(count, np.nan, np.float32),
        "source": np.full(count, Source.HUMAN, np.uint8),
        "review_state": np.full(count, ReviewState.UNREVIEWED, np.uint8),
        "geometry": np.full(count, Geometry.RLE, np.uint8),
        "segmentation": RaggedBytes.of([runs_to_json(each, height, width) for each in runs]),
        "attributes": RaggedBytes.empty(count),
    }
    return Dataset(
        categories=tuple(Category(name=name, origin_id=at) for at, name in enumerate(names)),
        media=MediaColumns(
            id=np.array([1]),
            uri=[uri],
            width=np.array([width], np.int32),
            height=np.array([height], np.int32),
            split=np.array([Split.NONE], np.int8),
            parent_id=np.array([-1]),
        ),
        annotations=AnnotationColumns(**{**given, **columns}),
    )
