"""Labels that look as if they were meant in another way, found before anything is trained on them.

Nothing here is certain, so nothing is refused: each warning says what looks odd, how often, in
which picture first, and what it usually means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.records import Geometry

__all__ = ["LabelWarning", "label_warnings"]

_MOST = 0.5  # of the boxes: not a few odd ones, but the way in which all were written
_MANY = 0.1
_SOME = 0.01
_TINY_PIXELS = 2.0
_NEAR_PIXELS = 1.5  # rounding takes a box so far out of its picture
_WHOLE = 0.95
_SAME_PICTURES = 10


@dataclass(frozen=True, kw_only=True)
class LabelWarning:
    """Something odd about a data set's labels.

    Attributes:
        message: what looks odd, and what it usually means.
        count: boxes, or classes, that it is about.
        total: of how many.
        first: the first picture with one, or the names of the classes.
    """

    message: str
    count: int
    total: int
    first: str

    def __str__(self) -> str:
        return f"{self.message} ({self.count:,} of {self.total:,}; {self.first})"


def label_warnings(dataset: Dataset) -> tuple[LabelWarning, ...]:
    """What looks odd about the boxes and classes of ``dataset``; mostly nothing.

    Looked for are boxes in shares of the picture instead of pixels, corners taken for sizes and
    centres for corners, boxes without an inside, outside their picture, of a pixel, of the whole
    picture or the same everywhere, and classes that nothing is of, as when numbers count from 1.
    """
    chosen = np.flatnonzero(dataset.annotations.geometry != Geometry.LABEL)
    if not len(chosen):
        return ()
    boxes = _Boxes(dataset, chosen)
    found = [*_units(boxes), *_classes(dataset, chosen)]
    return tuple(found)


class _Boxes:
    """The boxes of a data set with the sizes of their pictures."""

    def __init__(self, dataset: Dataset, rows: NDArray[np.int64]) -> None:
        annotations, media = dataset.annotations, dataset.media
        self._uris = media.uri
        self._media = annotations.media_index[rows]
        self.xyxy = annotations.boxes_xyxy[rows]
        sizes = np.stack([media.width, media.height], axis=1)[self._media].astype(np.float64)
        self.has_size = np.all(sizes > 0, axis=1)
        self.sizes = np.where(self.has_size[:, None], sizes, np.inf)
        self.sides = self.xyxy[:, 2:] - self.xyxy[:, :2]

    def __len__(self) -> int:
        return len(self.xyxy)

    def num_pictures(self, which: NDArray[np.bool_]) -> int:
        return len(np.unique(self._media[which]))

    def warning(self, which: NDArray[np.bool_], message: str) -> LabelWarning:
        first = self._uris[int(self._media[int(np.flatnonzero(which)[0])])]
        return LabelWarning(
            message=message, count=int(which.sum()), total=len(self), first=f"first in {first}"
        )


def _units(boxes: _Boxes) -> Iterator[LabelWarning]:
    """The most telling oddity of the numbers themselves, and what is left beside it."""
    broken = ~np.all(np.isfinite(boxes.xyxy), axis=1)
    if broken.any():
        yield boxes.warning(broken, "boxes have a number that is not finite")
        return
    shares = np.all((boxes.xyxy >= 0) & (boxes.xyxy <= 1.001), axis=1)
    if shares.mean() > _MOST:
        yield boxes.warning(
            shares,
            "boxes lie within the first pixel of their picture: are they shares of its width and "
            "height, not pixels? Import them in a format that says so, for example yolo",
        )
        return
    yield from _inside_out(boxes)
    yield from _outside(boxes)
    tiny = np.all(boxes.sides > 0, axis=1) & np.any(boxes.sides < _TINY_PIXELS, axis=1)
    if tiny.mean() > _MANY:
        yield boxes.warning(
            tiny,
            "boxes are less than two pixels wide or high: no detector learns these. Were they made "
            "for a smaller copy of the pictures?",
        )
    yield from _everywhere(boxes)


def _inside_out(boxes: _Boxes) -> Iterator[LabelWarning]:
    turned = np.any(boxes.sides <= 0, axis=1)
    if turned.mean() > _MANY:
        yield boxes.warning(
            turned,
            "boxes end before they begin: are the last two numbers widths and heights, and not "
            "corners?",
        )
    elif turned.any():
        yield boxes.warning(turned, "boxes have no inside; they are left out")


def _outside(boxes: _Boxes) -> Iterator[LabelWarning]:
    """Boxes beyond their picture, and a reading of the same numbers that puts them inside."""
    beyond = np.any(boxes.xyxy[:, 2:] > boxes.sizes + _NEAR_PIXELS, axis=1)
    before = np.any(boxes.xyxy[:, :2] < -_NEAR_PIXELS, axis=1)
    outside = beyond | before
    if outside.mean() <= _SOME:
        return
    message = "boxes reach beyond their picture; they are cut at its border"
    if beyond.mean() > _MANY and before.mean() <= _SOME:
        corners = np.concatenate([boxes.xyxy[:, :2], boxes.sides], axis=1)
        half = np.tile(boxes.sides / 2, 2)
        if _fits(corners, boxes).mean() > 1 - _SOME:
            message = (
                "boxes reach beyond their picture to the right or below, and would not if their "
                "widths and heights were right and lower corners: were corners read as sizes?"
            )
        elif _fits(boxes.xyxy - half, boxes).mean() > 1 - _SOME:
            message = (
                "boxes reach beyond their picture to the right or below, and would not if their "
                "left and upper corners were centres: were centres read as corners?"
            )
    yield boxes.warning(outside, message)


def _fits(xyxy: NDArray[np.float64], boxes: _Boxes) -> NDArray[np.bool_]:
    has_inside = np.all(xyxy[:, 2:] > xyxy[:, :2], axis=1)
    starts = np.all(xyxy[:, :2] >= -_NEAR_PIXELS, axis=1)
    return has_inside & starts & np.all(xyxy[:, 2:] <= boxes.sizes + _NEAR_PIXELS, axis=1)


def _everywhere(boxes: _Boxes) -> Iterator[LabelWarning]:
    whole = boxes.has_size & np.all(boxes.sides >= _WHOLE * boxes.sizes, axis=1)
    if whole.mean() > _MOST:
        yield boxes.warning(
            whole,
            "boxes cover the whole picture: are these classes of pictures, or crops? A detector "
            "learns nothing about places from them",
        )
        return
    _, group, counts = np.unique(boxes.xyxy, axis=0, return_inverse=True, return_counts=True)
    same = group.reshape(-1) == counts.argmax()
    if same.mean() > _MANY and boxes.num_pictures(same) >= _SAME_PICTURES:
        yield boxes.warning(same, "boxes are exactly the same in many pictures: a placeholder?")


def _classes(dataset: Dataset, rows: NDArray[np.int64]) -> Iterator[LabelWarning]:
    names = [category.name for category in dataset.categories]
    counts = np.bincount(dataset.annotations.category_index[rows], minlength=len(names))
    empty = np.flatnonzero(counts == 0).tolist()
    if not empty or len(names) < 2:
        return
    message = "classes have no box at all: a detector cannot learn them"
    if empty == [0]:
        message = (
            "the first class has no box, and all others have: do the labels count classes from 1, "
            "or is it a background class? Then every name is one off, or it should go"
        )
    elif empty == [len(names) - 1]:
        message = (
            "the last class has no box, and all others have: do the labels count classes from 0, "
            "and the names from 1? Then every name is one off"
        )
    shown = ", ".join(names[row] for row in empty[:5]) + (", ..." if len(empty) > 5 else "")
    yield LabelWarning(message=message, count=len(empty), total=len(names), first=shown)
