"""What a project is made of: media, categories, annotations, and where each came from.

One convention inside the house: a box is absolute pixel-edge ``x0 y0 x1 y1`` in float64, origin at
the top left of the stored picture (EXIF rotation is not applied, as in COCO). Other conventions
live in `tilth.data.formats` and nowhere else.

The enumerations are small integers because they are columns: the same number stands in the
catalogue, in a `Dataset` array and in a version's digest. Never renumber one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

__all__ = [
    "Category",
    "Geometry",
    "MediaKind",
    "ReviewState",
    "Source",
    "Split",
    "TaskKind",
    "Transform",
]


class MediaKind(IntEnum):
    """What a medium is; only pictures are read so far."""

    IMAGE = 0
    VIDEO = 1
    VOLUME = 2
    TEXT = 3


class Geometry(IntEnum):
    """What an annotation's ``segmentation`` holds."""

    LABEL = 0  # the class alone, for the whole medium
    BOX = 1  # the box alone
    POLYGON = 2  # JSON [[x0, y0, x1, y1, ...], ...]: parts of one object
    RLE = 3  # JSON {"size": [h, w], "counts": ...}: column-major runs, COCO's definition


class Source(IntEnum):
    """Who made an annotation."""

    HUMAN = 0
    MODEL = 1
    SYNTHETIC = 2  # carried over from a parent by a transform


class ReviewState(IntEnum):
    """How far review has come."""

    UNREVIEWED = 0
    ACCEPTED = 1
    CORRECTED = 2
    REJECTED = 3


class Split(IntEnum):
    """The part of an experiment that a medium belongs to."""

    NONE = -1
    TRAIN = 0
    VAL = 1
    TEST = 2


class TaskKind(IntEnum):
    """The kinds of labelling task, in the words that annotation services share."""

    CLASSIFICATION = 0
    OBJECT_DETECTION = 1
    SEGMENTATION = 2
    INSTANCE_SEGMENTATION = 3


@dataclass(frozen=True, kw_only=True)
class Category:
    """A class of objects. ``origin_id`` is the number that the label file used, kept for export."""

    name: str
    origin_id: int
    supercategory: str = ""


@dataclass(frozen=True, kw_only=True)
class Transform:
    """How a derived medium was made from its parent: enough to replay it on the parent's pixels."""

    name: str
    seed: int
    parameters: dict[str, Any] = field(default_factory=dict)
