"""What a detector is asked for in each picture, and where it is asked for nothing.

Single objects are targets. A crowd is not one object, and an object marked as difficult may be
beyond anybody: to learn either as background would be as wrong as to learn it as a box. Both
become regions in which nothing is punished (``ignore``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.records import Geometry
from tilth.errors import DataError
from tilth.train.augment_geometry import Rectangle, seen_boxes, warped_boxes

__all__ = ["TargetTable", "Targets", "joined_targets", "uncovered"]


class Targets(NamedTuple):
    """The boxes of one picture or sample.

    Attributes:
        boxes_xyxy: float64 [n, 4], pixels.
        class_index: int64 [n].
        weights: float64 [n].
        ignore_xyxy: float64 [m, 4].
    """

    boxes_xyxy: NDArray[np.float64]
    class_index: NDArray[np.int64]
    weights: NDArray[np.float64]
    ignore_xyxy: NDArray[np.float64]

    def take(self, kept: NDArray[np.bool_]) -> Targets:
        """The targets where ``kept`` [n] is true, and all ignored regions."""
        return Targets(
            self.boxes_xyxy[kept], self.class_index[kept], self.weights[kept], self.ignore_xyxy
        )

    def weighted(self, share: float) -> Targets:
        """All weights times ``share``."""
        return self._replace(weights=self.weights * share)

    def inside(self, size: tuple[int, int]) -> Targets:
        """Cut at the border of a picture of this width and height; none is left out, so that rows
        stay what they are."""
        return self._replace(
            boxes_xyxy=self.boxes_xyxy.clip(0.0, size * 2),
            ignore_xyxy=self.ignore_xyxy.clip(0.0, size * 2),
        )

    def moved(
        self,
        matrix: NDArray[np.float64],
        tile: Rectangle,
        bound: Rectangle,
        *,
        min_visible: float,
        min_side: float,
    ) -> Targets:
        """Carried along with their picture into its tile; what is hardly seen there is dropped.

        What is ignored stays ignored however little of it is seen, down to a pixel.
        """
        boxes, kept = seen_boxes(
            warped_boxes(self.boxes_xyxy, matrix),
            tile,
            bound,
            min_visible=min_visible,
            min_side=min_side,
        )
        ignored = self.ignore_xyxy
        if len(ignored):
            ignored, some = seen_boxes(
                warped_boxes(ignored, matrix), tile, tile, min_visible=0.0, min_side=1.0
            )
            ignored = ignored[some]
        return Targets(boxes[kept], self.class_index[kept], self.weights[kept], ignored)


class TargetTable:
    """The targets of all pictures of a data set, cut at the borders of their pictures.

    Class labels without a box are no targets. What is less than a pixel wide or high inside its
    picture is dropped.

    Args:
        weights: float [m], how much each annotation of ``dataset`` counts; None for 1 each.
        include_difficult: objects marked as difficult are targets like any other.

    Raises:
        DataError: not one weight an annotation, or one that is negative or not finite.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        weights: NDArray[np.floating[Any]] | None = None,
        include_difficult: bool = False,
    ) -> None:
        annotations, media = dataset.annotations, dataset.media
        counted = _checked_weights(weights, len(annotations))
        ignored = annotations.is_crowd.copy()
        if not include_difficult:
            ignored |= _is_difficult(annotations.attributes)
        sides = np.stack([media.width, media.height] * 2, axis=1).astype(np.float64)
        sides[sides == 0] = np.inf  # the label file does not say
        boxes = annotations.boxes_xyxy.clip(0.0, sides[annotations.media_index])
        has_box = (annotations.geometry != Geometry.LABEL) & _has_a_pixel(boxes)
        self._table = _Columns(dataset, has_box & ~ignored, boxes, counted)
        self._ignored = _Columns(dataset, has_box & ignored, boxes, counted)

    def of(self, row: int) -> Targets:
        """The targets of the picture in ``dataset.media[row]``, in its own pixels."""
        one, region = self._table.slice_of(row), self._ignored.slice_of(row)
        return Targets(
            self._table.boxes[one],
            self._table.classes[one],
            self._table.weights[one],
            self._ignored.boxes[region],
        )

    def annotations_of(self, row: int) -> NDArray[np.int64]:
        """int64 [n]: the rows in ``dataset.annotations`` of the boxes of `of`."""
        return self._table.rows[self._table.slice_of(row)]

    def update(self, digest: hashlib._Hash) -> None:
        """Feed everything that is asked for into ``digest``."""
        for table in (self._table, self._ignored):
            for column in (table.offsets, table.classes, table.boxes, table.weights):
                digest.update(np.ascontiguousarray(column).data)


class _Columns:
    """Some annotations, by picture."""

    def __init__(
        self,
        dataset: Dataset,
        chosen: NDArray[np.bool_],
        boxes: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:
        self.rows = np.flatnonzero(chosen)
        media = dataset.annotations.media_index[self.rows]
        self.boxes = boxes[self.rows]
        self.classes = dataset.annotations.category_index[self.rows]
        self.weights = weights[self.rows]
        self.offsets = np.searchsorted(media, np.arange(len(dataset.media) + 1))

    def slice_of(self, row: int) -> slice:
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))


def joined_targets(parts: Sequence[Targets]) -> Targets:
    """The targets of several pictures, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Targets(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def uncovered(
    boxes_xyxy: NDArray[np.float64], covers: Sequence[Rectangle], min_visible: float
) -> NDArray[np.bool_]:
    """bool [n]: of which boxes enough is left when each of the rectangles hides what is under it.

    >>> uncovered(np.array([[0.0, 0, 10, 10]]), [(0, 0, 10, 9)], 0.2).tolist()
    [False]
    """
    left = np.ones(len(boxes_xyxy))
    area = np.maximum((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1), 1e-9)
    for cover in covers:
        inside = boxes_xyxy.clip(cover[:2] * 2, cover[2:] * 2)
        left -= (inside[:, 2:] - inside[:, :2]).prod(axis=1) / area
    # Rectangles that lie over each other are counted twice: rather a box less than a wrong one.
    return np.greater_equal(left, max(min_visible, 1e-6))


def _has_a_pixel(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.all(boxes[:, 2:] - boxes[:, :2] >= 1.0, axis=1)


def _checked_weights(weights: NDArray[np.floating[Any]] | None, count: int) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(count)
    checked = np.asarray(weights, dtype=np.float64)
    if checked.shape != (count,) or not (np.isfinite(checked) & (checked >= 0)).all():
        raise DataError(
            "the weights of the annotations cannot be used",
            expected=f"{count} finite numbers, 0 or more",
            got=f"shape {list(checked.shape)}",
        )
    return checked


def _is_difficult(attributes: Sequence[bytes | None]) -> NDArray[np.bool_]:
    marked = np.zeros(len(attributes), dtype=bool)
    for row, text in enumerate(attributes):
        if text and b'"difficult"' in text:
            value = msgspec.json.decode(text).get("difficult")
            marked[row] = str(value).lower() in ("1", "true", "yes")
    return marked
