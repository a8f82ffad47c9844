"""From the classes that a detector knows to those of a task, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tilth.data.detections import Detections
from tilth.errors import SettingsError
from tilth.models.coco_classes import same_class

__all__ = ["ClassMapping", "map_classes"]


@dataclass(frozen=True, kw_only=True)
class ClassMapping:
    """Which class of the detector is which of the task.

    Attributes:
        rows: for each class of the detector its number in the task, -1 where it has none.
        names: detector's name -> the task's name, of those that have one.
        unknown: names of the detector that the task does not have.
    """

    rows: tuple[int, ...]
    names: dict[str, str]
    unknown: tuple[str, ...]

    def apply(self, detections: Detections) -> Detections:
        """The detections of classes that the task has, with the task's numbers."""
        rows = np.array(self.rows, dtype=np.int64)[detections.category_index]
        kept = np.flatnonzero(rows >= 0)
        return replace(detections.take(kept), category_index=rows[kept])


def map_classes(
    detector_names: Sequence[str], task_names: Sequence[str], given: Mapping[str, str]
) -> ClassMapping:
    """Match the names; what ``given`` says comes first. An empty target leaves a class out.

    Raises:
        SettingsError: ``given`` names a class that the detector or the task does not have.

    >>> map_classes(["cat", "person"], ["pedestrian"], {"person": "pedestrian"}).rows
    (-1, 0)
    """
    wanted = dict(given)
    by_name = {same_class(name): row for row, name in enumerate(task_names)}
    for source, target in given.items():
        _expect_known(source, detector_names, "the detector")
        if target:
            _expect_known(target, task_names, "the task")
    rows = [by_name.get(same_class(wanted.get(name, name)), -1) for name in detector_names]
    pairs = [(name, row) for name, row in zip(detector_names, rows, strict=True) if row >= 0]
    left = [name for name, row in zip(detector_names, rows, strict=True) if row < 0]
    return ClassMapping(
        rows=tuple(rows),
        names={name: task_names[row] for name, row in pairs},
        unknown=tuple(name for name in left if wanted.get(name) != ""),
    )


def _expect_known(name: str, names: Sequence[str], whose: str) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    raise SettingsError(
        f"{whose} has no class '{name}'",
        expected=", ".join(names) or "a class; there is none yet",
        fix=f"did you mean '{near[0]}'?" if near else None,
    )
