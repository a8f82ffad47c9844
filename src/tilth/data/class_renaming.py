"""Labels under other names of classes: renamed, joined, or left out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tilth.data.dataset import Dataset
from tilth.errors import DataError

__all__ = ["rename_classes"]


def rename_classes(dataset: Dataset, names: Mapping[str, str]) -> Dataset:
    """The same labels with their classes renamed; two that get one name become one class.

    Args:
        names: old name -> new name; "" leaves the labels of a class out, and the class with them.

    Raises:
        DataError: a class that the labels do not have.
    """
    known = [category.name for category in dataset.categories]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise DataError(
                f"the labels have no class '{name}'",
                expected=", ".join(known) or "a class",
                fix=f"did you mean '{near[0]}'?" if near else None,
            )
    renamed = [names.get(name, name) for name in known]
    kept = list(dict.fromkeys(name for name in renamed if name))
    place = np.array([kept.index(name) if name else -1 for name in renamed], dtype=np.int64)
    first = {name: row for row, name in reversed(list(enumerate(renamed)))}
    rows = dataset.annotations.category_index
    moved = replace(
        dataset,
        categories=tuple(replace(dataset.categories[first[name]], name=name) for name in kept),
        annotations=replace(
            dataset.annotations,
            category_index=place[rows] if len(place) else rows,
        ),
    )
    return moved.keep_annotations(moved.annotations.category_index >= 0)
