"""Object masks of other tools: what the number of a pixel says of class and object.

- "values" (Penn-Fudan and many more): the number of the object; all are of one class.
- "kitti": ``class * 256 + object``, 16 bits; object 0 is a group of its class. (KITTI semantic
  instance segmentation benchmark, 2018, and its development kit.)
- "cityscapes": ``class * 1000 + object``; below 1000 the class alone, as for what has no objects,
  or a group that could not be told apart. (cityscapesScripts, `createTrainIdInstanceImgs` and
  `evalInstanceLevelSemanticLabeling`.)

KITTI uses the class numbers of Cityscapes (cityscapesScripts, `helpers/labels.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.records import Category

__all__ = ["CITYSCAPES", "Dialect", "Meaning", "meaning"]

Dialect = Literal["values", "kitti", "cityscapes"]

_CITYSCAPES_NAMES = (
    *("ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground"),
    *("road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail"),
    *("bridge", "tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "caravan", "trailer", "train"),
    *("motorcycle", "bicycle"),
)
_FIRST_OF_GROUP = {
    **{1: "void", 7: "flat", 11: "construction", 17: "object", 21: "nature"},
    **{23: "sky", 24: "human", 26: "vehicle"},
}
_FIRST_WITH_OBJECTS = 24


def _groups() -> list[str]:
    firsts = sorted(_FIRST_OF_GROUP, reverse=True)
    ids = range(1, len(_CITYSCAPES_NAMES) + 1)
    return [next(_FIRST_OF_GROUP[first] for first in firsts if first <= key) for key in ids]


CITYSCAPES = tuple(
    Category(name=name, origin_id=key, supercategory=group)
    for key, (name, group) in enumerate(zip(_CITYSCAPES_NAMES, _groups(), strict=True), start=1)
)
"""The classes 1 to 33; 0 is "unlabeled"."""


@dataclass(frozen=True)
class Meaning:
    """What numbers say: int64 [k] the row of the class (-1: no such class) and bool [k] crowds."""

    rows: NDArray[np.int64]
    class_id: NDArray[np.int64]
    crowd: NDArray[np.bool_]


def meaning(values: NDArray[np.int64], dialect: Dialect, categories: Sequence[Category]) -> Meaning:
    """Class and crowd flag of each number of object masks.

    Of Cityscapes' own classes, only those that have objects can be a group of some.
    """
    if dialect == "values":
        zeros = np.zeros(len(values), dtype=np.int64)
        return Meaning(zeros, zeros, np.zeros(len(values), dtype=np.bool_))
    if dialect == "kitti":
        class_id, alone = values // 256, values % 256 == 0
    else:
        alone = values < 1000
        class_id = np.where(alone, values, values // 1000)
    row_of = {category.origin_id: row for row, category in enumerate(categories)}
    rows = np.array([row_of.get(key, -1) for key in class_id.tolist()], dtype=np.int64)
    has_objects = np.ones(len(values), dtype=np.bool_)
    if tuple(categories) == CITYSCAPES:
        has_objects = class_id >= _FIRST_WITH_OBJECTS
    return Meaning(rows, class_id, alone & has_objects)
