"""Which pictures a run learns from: the training originals, and what the named plans made of them.

Every rebalancing and every experiment leaves derived pictures in the catalogue. A run that took
them all would mix their draws; so it takes none but those of the plans that it is told to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilth.curate.rebalance import pictures_of
from tilth.data.dataset import Dataset
from tilth.data.preannotation import trusted
from tilth.data.records import Split
from tilth.errors import DataError, EmptyDatasetError

__all__ = ["originals", "training_pictures"]


def originals(dataset: Dataset) -> Dataset:
    """Media that were not derived from others, with the annotations that are `trusted`."""
    known = trusted(dataset)
    return known.take(np.flatnonzero(known.media.parent_id < 0))


def training_pictures(dataset: Dataset, plans: Sequence[str] = ()) -> Dataset:
    """Originals of the training split and the pictures of ``plans``, with their annotations.

    What a model proposed is not learned from before it is reviewed (`tilth.data.preannotation`).

    Raises:
        DataError: a plan that has made no picture for training.
        EmptyDatasetError: no labelled picture among them.
    """
    training = trusted(dataset.of_split(Split.TRAIN))
    chosen = training.media.parent_id < 0
    for plan in plans:
        own = pictures_of(training, plan)
        if not own.any():
            raise DataError(
                f"there is no training picture of a plan '{plan}'",
                expected=", ".join(_plans(training)) or "a plan that was run",
                fix=f"tilth rebalance --name {plan}",
            )
        chosen = chosen | own
    found = training.take(np.flatnonzero(chosen))
    if not len(found.annotations):
        raise EmptyDatasetError("no labelled picture in the train split", fix="tilth split")
    return found


def _plans(dataset: Dataset) -> list[str]:
    """Plans that have made pictures of this data set, by the folders that these lie in."""
    derived = np.flatnonzero(dataset.media.parent_id >= 0)
    folders = {dataset.media.uri[row].rsplit("/", 2)[-2] for row in derived.tolist()}
    return sorted(plan for plan in folders if pictures_of(dataset, plan).any())
