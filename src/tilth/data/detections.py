"""What a detector found, as columns; the counterpart of `Dataset` that is scored against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Detections"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """One row a detection, in no particular order.

    Attributes:
        media_index: int64 [k], row of the medium in the `Dataset` that was predicted.
        category_index: int64 [k], row in ``Dataset.categories``.
        boxes_xyxy: float64 [k, 4], absolute pixel-edge corners in the stored picture.
        score: float32 [k], 0 to 1.
    """

    media_index: NDArray[np.int64]
    category_index: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.score)

    def take(self, rows: NDArray[np.int64]) -> Detections:
        """The detections of these rows, in this order."""
        return Detections(
            media_index=self.media_index[rows],
            category_index=self.category_index[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            score=self.score[rows],
        )

    def of_medium(self, media_index: int) -> Detections:
        """The detections in one medium, the surest first; ``media_index`` stays."""
        rows = np.flatnonzero(self.media_index == media_index)
        return self.take(rows[np.argsort(-self.score[rows], kind="stable")])

    def moved_to(self, media_index: int) -> Detections:
        """The same detections, all of them in one medium."""
        return replace(self, media_index=np.full(len(self), media_index, dtype=np.int64))

    @staticmethod
    def joined(parts: Sequence[Detections]) -> Detections:
        """All detections of ``parts``, in their order; of no parts, none."""
        if not parts:
            return Detections(
                media_index=np.zeros(0, dtype=np.int64),
                category_index=np.zeros(0, dtype=np.int64),
                boxes_xyxy=np.zeros((0, 4), dtype=np.float64),
                score=np.zeros(0, dtype=np.float32),
            )
        return Detections(
            media_index=np.concatenate([part.media_index for part in parts]),
            category_index=np.concatenate([part.category_index for part in parts]),
            boxes_xyxy=np.concatenate([part.boxes_xyxy for part in parts]),
            score=np.concatenate([part.score for part in parts]),
        )
