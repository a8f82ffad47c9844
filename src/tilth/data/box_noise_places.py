"""Where wrong boxes lie: those that were moved, and those that are of nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.records import Geometry
from tilth.errors import SettingsError

__all__ = ["SpuriousBoxes", "moved_boxes", "overlaps", "spurious_boxes"]

_TRIES = 50
_LEAST_SIDE_PX = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SpuriousBoxes:
    """Boxes of nothing.

    Attributes:
        media_index, category_index: int64 [s].
        boxes_xyxy: float64 [s, 4].
        overlap: float64 [s], IoU with the nearest object.
    """

    media_index: NDArray[np.int64]
    category_index: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    overlap: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.media_index)


def overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [n]: IoU of the boxes of the same row; 0 where neither has an inside."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros(len(a)), where=union > 0)


def moved_boxes(
    boxes_xyxy: NDArray[np.float64],
    sizes: NDArray[np.float64],
    *,
    shift: float,
    scale: float,
    draw: np.random.Generator,
) -> NDArray[np.float64]:
    """float64 [k, 4]: boxes shifted and scaled, each side by its own draw, inside their pictures.

    A draw is half of the setting or more, to either side. What would leave the picture goes the
    other way, so that also a box at the border moves; what has no room either way stops there.
    A side below a pixel grows, one that would outgrow the picture shrinks.

    Args:
        sizes: float64 [k, 2], width and height of the pictures; infinite where not known.
        shift, scale: see `tilth.data.box_noise.BoxNoiseSettings`.
    """
    shape = (len(boxes_xyxy), 2)
    by, to = draw.uniform(0.5, 1, shape), draw.choice([-1.0, 1.0], shape)
    grown = (1 + scale) ** (draw.uniform(0.5, 1, shape) * draw.choice([-1.0, 1.0], shape))
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    grown = np.where(sides * grown < _LEAST_SIDE_PX, np.maximum(grown, 1 / grown), grown)
    grown = np.where(sides * grown > sizes, np.minimum(grown, 1 / grown), grown)
    new_sides = sides * grown
    middle = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 - new_sides / 2
    low = middle + to * by * shift * sides
    leaves = (low < 0) | (low + new_sides > sizes)
    low = np.where(leaves, middle - to * by * shift * sides, low)
    low = np.clip(low, 0, np.maximum(sizes - new_sides, 0))
    return np.concatenate([low, np.minimum(low + new_sides, sizes)], axis=1)


def spurious_boxes(
    dataset: Dataset,
    like: NDArray[np.int64],
    media_rows: NDArray[np.int64],
    count: int,
    *,
    largest_overlap: float,
    draw: np.random.Generator,
) -> SpuriousBoxes:
    """Boxes in places where nothing is, of the class, width and height of others.

    A place is drawn again while it overlaps an object too much; after some tries the best is taken.

    Args:
        like: int64 [m], rows of the annotations that give class and sides.
        media_rows: int64 [p], pictures that may get one; of these, each of known size alike often.
        largest_overlap: IoU with any object of the picture, or share inside a crowd.

    Raises:
        SettingsError: no picture whose size is known.
    """
    media, labels = dataset.media, dataset.annotations
    known = media_rows[(media.width[media_rows] > 0) & (media.height[media_rows] > 0)]
    if count and not len(known):
        raise SettingsError(
            "spurious boxes need a place inside a picture",
            expected="pictures whose width and height are known",
            fix="read the labels with their pictures: --images FOLDER",
        )
    best = SpuriousBoxes(
        media_index=np.zeros(count, np.int64),
        category_index=np.zeros(count, np.int64),
        boxes_xyxy=np.zeros((count, 4)),
        overlap=np.full(count, np.inf),
    )
    waiting = np.arange(count)
    for _ in range(_TRIES):
        if not len(waiting):
            break
        picture = draw.choice(known, len(waiting))
        model = draw.choice(like, len(waiting))
        size = np.stack([media.width[picture], media.height[picture]], axis=1).astype(np.float64)
        given = labels.boxes_xyxy[model]
        sides = np.minimum(given[:, 2:] - given[:, :2], size)
        low = draw.random((len(waiting), 2)) * (size - sides)
        boxes = np.concatenate([low, np.minimum(low + sides, size)], axis=1)
        overlap = _nearest(dataset, picture, boxes)
        better = overlap < best.overlap[waiting]
        at = waiting[better]
        best.media_index[at], best.boxes_xyxy[at] = picture[better], boxes[better]
        best.category_index[at] = labels.category_index[model[better]]
        best.overlap[at] = overlap[better]
        waiting = waiting[best.overlap[waiting] > largest_overlap]
    return best


def _nearest(
    dataset: Dataset, picture: NDArray[np.int64], boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """float64 [k]: the largest overlap of each box with an object of its picture."""
    labels = dataset.annotations
    starts, ends = dataset.offsets[picture], dataset.offsets[picture + 1]
    counts = ends - starts
    of_box = np.repeat(np.arange(len(boxes)), counts)
    row = np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
    placed = labels.geometry[row] != Geometry.LABEL
    of_box, row = of_box[placed], row[placed]
    own, other = boxes[of_box], labels.boxes_xyxy[row]
    low, high = np.maximum(own[:, :2], other[:, :2]), np.minimum(own[:, 2:], other[:, 2:])
    inside = np.maximum(high - low, 0).prod(axis=1)
    area = (own[:, 2:] - own[:, :2]).prod(axis=1)
    share = np.divide(inside, area, out=np.zeros(len(area)), where=area > 0)
    value = np.where(labels.is_crowd[row], share, overlaps(own, other))
    nearest = np.zeros(len(boxes))
    np.maximum.at(nearest, of_box, value)
    return nearest
