"""What a label format can carry; the columns of the table that `tilth formats` prints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

__all__ = ["STANDARD_ATTRIBUTES", "Holds"]

STANDARD_ATTRIBUTES = {
    "truncated": "reaches beyond the picture: true or false, or a share from 0 to 1",
    "occluded": "hidden by others: true or false, or 0 (visible) to 3 (unknown), as in KITTI",
    "difficult": "hard to recognise; evaluation may leave it out (Pascal VOC)",
    "depiction": "a drawing or picture of the object (Open Images)",
    "inside": "a picture taken from inside the object (Open Images)",
    "pose": "the side that is seen (Pascal VOC)",
    "track_id": "the same object in the frames of one video",
    "keyframe": "drawn by somebody, not interpolated",
    "group_id": "parts of one object",
}
"""Attributes that several formats know; each of them is read and written under this name."""


@dataclass(frozen=True, kw_only=True)
class Holds:
    """What survives being written in a format.

    Attributes:
        labels: classes of whole pictures.
        boxes, polygons, masks: shapes of objects; a polygon may have several parts.
        scores: a model's confidence.
        attributes: "all", or the names of the attributes of an annotation that have a place.
        crowd: the flag of a region that covers a group.
        frames: frames of a video, as ``clip.mp4#frame=12``.
        empty_media: pictures without any label are still there.
        class_order: the list of classes, in order, the unused ones too.
        class_ids: arbitrary class numbers; otherwise classes are counted from 0.
        supercategories: the class above a class.
        splits: train, val and test.
        provenance: source and review state of a label.
    """

    labels: bool = False
    boxes: bool = False
    polygons: bool = False
    masks: bool = False
    scores: bool = False
    attributes: frozenset[str] | Literal["all"] = frozenset()
    crowd: bool = False
    frames: bool = False
    empty_media: bool = True
    class_order: bool = True
    class_ids: bool = False
    supercategories: bool = False
    splits: bool = False
    provenance: bool = False

    def row(self) -> dict[str, str]:
        """The columns as words: "yes", "-", or the names of attributes."""
        return {field.name: _word(getattr(self, field.name)) for field in fields(self)}


def _word(value: bool | frozenset[str] | str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    if isinstance(value, str):
        return value
    return ", ".join(sorted(value)) or "-"
