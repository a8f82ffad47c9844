"""What a detector found, as columns; the counterpart of `Dataset` that is scored against it."""

from __future__ import annotations

from dataclasses import dataclass

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
