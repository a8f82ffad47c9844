"""Labels that a model made, as labels to review; and the labels that somebody has answered for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.records import ReviewState, Source

__all__ = ["as_preannotations", "awaits_review", "is_trusted", "trusted"]


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


def awaits_review(dataset: Dataset) -> NDArray[np.bool_]:
    """bool [m]: labels that a model made and nobody has looked at."""
    labels = dataset.annotations
    made = labels.source == Source.MODEL
    return made & (labels.review_state == ReviewState.UNREVIEWED)


def is_trusted(dataset: Dataset) -> NDArray[np.bool_]:
    """bool [m]: labels that somebody has answered for: neither waiting for review nor rejected."""
    return ~awaits_review(dataset) & (dataset.annotations.review_state != ReviewState.REJECTED)


def trusted(dataset: Dataset) -> Dataset:
    """The labels that a run may learn from and be scored on.

    What a model proposed counts once it is reviewed; what a review rejected does not count. A
    picture that has nothing but proposals is left out: that it holds no object is not known.
    """
    labels = dataset.annotations
    waiting, is_kept = awaits_review(dataset), is_trusted(dataset)
    if is_kept.all():
        return dataset
    answered = np.bincount(labels.media_index[~waiting], minlength=len(dataset.media)) > 0
    proposed = np.bincount(labels.media_index[waiting], minlength=len(dataset.media)) > 0
    kept = dataset.keep_annotations(is_kept)
    return kept.take(np.flatnonzero(answered | ~proposed))
