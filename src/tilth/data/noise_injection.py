"""Noise into labelled things as they lie on a disk: tables, classes of pictures, boxes.

Each function gives the noisy labels, what was done in words and numbers, and a plain row for every
label that was changed, which is the truth of the experiment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilth.data.box_noise import inject_box_noise
from tilth.data.box_noise_record import BoxNoiseSettings
from tilth.data.dataset import Dataset
from tilth.data.label_column import LabelColumn
from tilth.data.label_noise import inject_label_noise
from tilth.data.records import Geometry, Split
from tilth.errors import EmptyDatasetError

__all__ = [
    "Injected",
    "boxes_with_noise",
    "classes_with_noise",
    "column_with_noise",
]


@dataclass(frozen=True, kw_only=True)
class Injected:
    """What was done, in plain values.

    Attributes:
        noise: the kind, its definition, rates asked for and realised, the seed, the matrix.
        changes: a row for each label that was changed.
    """

    noise: dict[str, Any]
    changes: list[dict[str, Any]]


def column_with_noise(column: LabelColumn, **noise: Any) -> tuple[NDArray[np.int64], Injected]:
    """The labels of a table's column, int64 [n], with noise; rows without a label keep none.

    Args:
        noise: the keywords of `inject_label_noise`; features have a row for each row with a label.
    """
    present = np.flatnonzero(column.labels >= 0)
    labels = column.labels.copy()
    labels[present], record = inject_label_noise(
        column.labels[present], len(column.class_names), **noise
    )
    names = column.class_names
    changes = [
        {"row": row, "old_class": names[column.labels[row]], "new_class": names[labels[row]]}
        for row in present[record.changed].tolist()
    ]
    return labels, Injected(noise=record.document(names), changes=changes)


def classes_with_noise(
    dataset: Dataset, *, split: Split | None = None, **noise: Any
) -> tuple[Dataset, Injected]:
    """A data set with noise in the classes of its whole pictures.

    Args:
        split: only the pictures of this part change.
        noise: the keywords of `inject_label_noise`; features have a row for each label that may
            change, in the order of the pictures.

    Raises:
        EmptyDatasetError: no picture of the part has a class.
    """
    labels = dataset.annotations
    rows = np.flatnonzero((labels.geometry == Geometry.LABEL) & _of_part(dataset, split))
    if not len(rows):
        raise EmptyDatasetError(
            "no picture has a class of its own",
            expected="labels of whole pictures",
            fix="boxes have noise of their own: --kind missed, spurious, moved or swapped"
            if len(labels)
            else None,
        )
    category = labels.category_index.copy()
    category[rows], record = inject_label_noise(
        labels.category_index[rows], len(dataset.categories), **noise
    )
    names = [one.name for one in dataset.categories]
    changes = [
        {
            "picture": dataset.media.uri[labels.media_index[row]],
            "label": int(labels.id[row]),
            "old_class": names[labels.category_index[row]],
            "new_class": names[category[row]],
        }
        for row in rows[record.changed].tolist()
    ]
    noisy = replace(dataset, annotations=replace(labels, category_index=category))
    return noisy, Injected(noise=record.document(names), changes=changes)


def boxes_with_noise(
    dataset: Dataset,
    settings: BoxNoiseSettings,
    *,
    split: Split | None = None,
    seed: int = 0,
    swap_matrix: ArrayLike | None = None,
) -> tuple[Dataset, Injected]:
    """A data set with faults in its boxes; see `inject_box_noise`.

    Args:
        split: only the pictures of this part change.
    """
    among = None if split is None else dataset.media.split == split
    noisy, record = inject_box_noise(
        dataset, settings, seed=seed, among=among, swap_matrix=swap_matrix
    )
    return noisy, Injected(noise=record.document(), changes=record.rows(dataset))


def _of_part(dataset: Dataset, split: Split | None) -> NDArray[np.bool_]:
    """bool [m]: annotations of the pictures of one part."""
    if split is None:
        return np.ones(len(dataset.annotations), dtype=np.bool_)
    return (dataset.media.split == split)[dataset.annotations.media_index]
