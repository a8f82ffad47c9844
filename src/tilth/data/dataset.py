"""A labelled set as columns: what formats read and write, and what every later room works on.

A `Dataset` holds arrays, not an object per box, so that a million boxes load, filter and hash at
the speed of memory. It is immutable: `take` and `of_split` give a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tilth.data.ragged import take_bytes
from tilth.data.records import Category, Split

__all__ = ["AnnotationColumns", "Dataset", "MediaColumns"]


@dataclass(frozen=True, kw_only=True, eq=False)
class MediaColumns:
    """One row a medium, in the order of ``id``.

    Attributes:
        id: int64 [n], the catalogue's id (straight out of a label file: the file's id).
        uri: n strings: a path relative to the project, an absolute path, or a URL.
        width, height: int32 [n], pixels; 0 where the label file does not say.
        split: int8 [n], `Split` codes.
        parent_id: int64 [n], the medium that this one was derived from, -1 for an original.
        attributes: n entries of JSON bytes, or None: what the origin said beyond these columns
            (licence, address); may be left out, which is None for all.
    """

    id: NDArray[np.int64]
    uri: Sequence[str]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    split: NDArray[np.int8]
    parent_id: NDArray[np.int64]
    attributes: Sequence[bytes | None] = ()

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotationColumns:
    """One row an annotation, sorted by ``media_index`` (stable).

    Attributes:
        id: int64 [m].
        media_index: int64 [m], row of the medium in `MediaColumns`.
        category_index: int64 [m], row of the category in ``Dataset.categories``.
        boxes_xyxy: float64 [m, 4], absolute pixel-edge corners.
        area: float64 [m], pixels; of the mask where there is one.
        is_crowd: bool [m], the annotation covers a group and is never counted as a miss.
        score: float32 [m], a model's confidence, NaN where there is none.
        source, review_state, geometry: uint8 [m], codes of `Source`, `ReviewState`, `Geometry`.
        segmentation: m entries of JSON bytes, or None (see `Geometry`).
        attributes: m entries of JSON bytes, or None: what the origin said beyond these columns.
    """

    id: NDArray[np.int64]
    media_index: NDArray[np.int64]
    category_index: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    area: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    score: NDArray[np.float32]
    source: NDArray[np.uint8]
    review_state: NDArray[np.uint8]
    geometry: NDArray[np.uint8]
    segmentation: Sequence[bytes | None]
    attributes: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Media, categories and annotations of one task."""

    categories: tuple[Category, ...]
    media: MediaColumns
    annotations: AnnotationColumns

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """int64 [n + 1]: annotations of medium i are rows ``offsets[i]:offsets[i + 1]``."""
        counts = np.bincount(self.annotations.media_index, minlength=len(self.media))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def rows_of(self, media_index: int) -> slice:
        """The rows of the annotations of one medium."""
        return slice(int(self.offsets[media_index]), int(self.offsets[media_index + 1]))

    def take(self, media_rows: NDArray[np.int64]) -> Dataset:
        """The media of these rows, in this order, with their annotations.

        Args:
            media_rows: int64 [k] row numbers; a row may be repeated.
        """
        media_rows = np.asarray(media_rows, dtype=np.int64)
        starts, ends = self.offsets[media_rows], self.offsets[media_rows + 1]
        counts = ends - starts
        new_starts = np.cumsum(counts) - counts
        rows = np.arange(int(counts.sum()), dtype=np.int64)
        rows += np.repeat(starts - new_starts, counts)
        return Dataset(
            categories=self.categories,
            media=_take_media(self.media, media_rows),
            annotations=_take_annotations(
                self.annotations, rows, np.repeat(np.arange(len(media_rows)), counts)
            ),
        )

    def of_split(self, split: Split) -> Dataset:
        """The media of one split with their annotations."""
        return self.take(np.flatnonzero(self.media.split == split))

    def keep_annotations(self, keep: NDArray[np.bool_]) -> Dataset:
        """All media, and only the annotations where ``keep`` (bool [m]) is true."""
        rows = np.flatnonzero(keep)
        kept = _take_annotations(self.annotations, rows, self.annotations.media_index[rows])
        return Dataset(categories=self.categories, media=self.media, annotations=kept)


def _take_media(media: MediaColumns, rows: NDArray[np.int64]) -> MediaColumns:
    return MediaColumns(
        id=media.id[rows],
        uri=[media.uri[row] for row in rows],
        width=media.width[rows],
        height=media.height[rows],
        split=media.split[rows],
        parent_id=media.parent_id[rows],
        attributes=take_bytes(media.attributes, rows) if len(media.attributes) else (),
    )


def _take_annotations(
    annotations: AnnotationColumns, rows: NDArray[np.int64], media_index: NDArray[np.int64]
) -> AnnotationColumns:
    return AnnotationColumns(
        id=annotations.id[rows],
        media_index=media_index.astype(np.int64),
        category_index=annotations.category_index[rows],
        boxes_xyxy=annotations.boxes_xyxy[rows],
        area=annotations.area[rows],
        is_crowd=annotations.is_crowd[rows],
        score=annotations.score[rows],
        source=annotations.source[rows],
        review_state=annotations.review_state[rows],
        geometry=annotations.geometry[rows],
        segmentation=take_bytes(annotations.segmentation, rows),
        attributes=take_bytes(annotations.attributes, rows),
    )
