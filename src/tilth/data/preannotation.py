"""Labels that a model made, as labels to review."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilth.data.dataset import Dataset
from tilth.data.records import ReviewState, Source

__all__ = ["as_preannotations"]


def as_preannotations(dataset: Dataset) -> Dataset:
    """The same labels with source *model*, not reviewed; their scores are kept."""
    labels = dataset.annotations
    return replace(
        dataset,
        annotations=replace(
            labels,
            source=np.full(len(labels), Source.MODEL, dtype=np.uint8),
            review_state=np.full(len(labels), ReviewState.UNREVIEWED, dtype=np.uint8),
        ),
    )
