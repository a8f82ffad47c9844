"""The labelled set that `formats.py` is measured on: as large as COCO, made from a seed.

Boxes have two decimals and lie inside their picture; some pictures have none. A picture is a real
JPEG of its size, black, and one file for all pictures of a size (hard links), because some tools
open each picture, or decode it, to read or write labels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BOXES_A_PICTURE = 860_001 / 118_287  # COCO train2017
NUM_CLASSES = 80
NUM_SIZES = 64


@dataclass(frozen=True)
class LabelSet:
    """A set of pictures with boxes, as arrays.

    Attributes:
        pictures: folder of the pictures.
        names: file names, n.
        width, height: int64 [n].
        media_index: int64 [m], rising.
        category: int64 [m].
        boxes_xyxy: float64 [m, 4].
    """

    pictures: Path
    names: list[str]
    width: Any
    height: Any
    media_index: Any
    category: Any
    boxes_xyxy: Any

    @property
    def classes(self) -> list[str]:
        return [f"class_{at:02d}" for at in range(NUM_CLASSES)]

    @property
    def offsets(self) -> Any:
        """int64 [n + 1]: boxes of picture i are rows ``offsets[i]:offsets[i + 1]``."""
        counts = np.bincount(self.media_index, minlength=len(self.names))
        return np.concatenate([[0], np.cumsum(counts)])


def make_set(folder: Path, num_images: int, seed: int = 0) -> None:
    """Write the arrays and the pictures; one that is there already is left as it is."""
    if (folder / "arrays.npz").exists():
        return
    rng = np.random.default_rng(seed)
    num_boxes = round(num_images * BOXES_A_PICTURE)
    sizes = rng.integers(333, 641, size=(NUM_SIZES, 2))
    size_of = rng.integers(0, NUM_SIZES, num_images)
    owner = np.sort(rng.integers(0, num_images, num_boxes))
    space = sizes[size_of[owner]]
    extent = np.round(rng.uniform(2, space / 2), 2)
    corner = np.floor(100 * rng.uniform(0, space - extent)) / 100
    (folder / "pictures").mkdir(parents=True)
    names = [f"{key:012d}.jpg" for key in range(1, num_images + 1)]
    _make_pictures(folder / "pictures", names, sizes, size_of)
    np.savez(
        folder / "arrays.npz",
        names=np.array(names),
        sizes=sizes[size_of],
        media_index=owner,
        category=rng.integers(0, NUM_CLASSES, num_boxes),
        boxes_xyxy=np.concatenate([corner, np.round(corner + extent, 2)], axis=1),
    )


def _make_pictures(folder: Path, names: list[str], sizes: Any, size_of: Any) -> None:
    from PIL import Image

    first: dict[int, str] = {}
    for name, size in zip(names, size_of.tolist(), strict=True):
        if size in first:
            os.link(folder / first[size], folder / name)
        else:
            width, height = sizes[size].tolist()
            Image.new("L", (width, height)).save(folder / name, quality=20)
            first[size] = name


def load_set(folder: Path) -> LabelSet:
    """Read the arrays that `make_set` wrote."""
    with np.load(folder / "arrays.npz") as arrays:
        return LabelSet(
            pictures=folder / "pictures",
            names=arrays["names"].tolist(),
            width=arrays["sizes"][:, 0],
            height=arrays["sizes"][:, 1],
            media_index=arrays["media_index"],
            category=arrays["category"],
            boxes_xyxy=arrays["boxes_xyxy"],
        )
