"""CVAT's tracks as labels of single frames, and back.

A track has the shapes of its key frames; in between its corners move in a straight line, and
*outside* ends it until the next key frame (docs.cvat.ai, "Track mode"). Each frame in which it can
be seen becomes a label with ``track_id``, and ``keyframe`` says whether somebody drew it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from tilth.data.formats._attribute_text import encoded_attributes
from tilth.data.formats._cvat_meta import Clip
from tilth.data.formats._cvat_records import (
    NOT_HELD,
    SHAPES,
    Label,
    Shape,
    element_label,
    read_shape,
    side,
)
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry
from tilth.data.tracks import Track, interpolate
from tilth.errors import DataError, LabelError

__all__ = ["FrameLabel", "track_labels"]

MAX_LABELS = 20_000_000
_RAW = dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class FrameLabel:
    """One object in one frame (its number in the video)."""

    frame: int
    label: Label
    shape: Shape
    line: int


@dataclass(frozen=True, slots=True)
class _Key:
    frame: int  # among those that were labelled
    outside: bool
    keyframe: bool
    label: Label
    shape: Shape
    line: int


def track_labels(element: Any, clip: Clip, report: LabelReport) -> list[FrameLabel]:
    """The labels of a ``<track>`` in all frames in which it can be seen.

    Raises:
        LabelError: more labels than a video has.
    """
    where = f"{report.where}:{element.sourceline}"
    track_id = side(element.get("id"))
    keys = _keys(element, clip, report)
    if not keys:
        return []
    if track_id is None:
        report.add("track without a number", "read as track 0", [where])
    track = _track(keys, clip, where, report)
    if track is None:
        seen = [(key, key.shape, key.frame, key.keyframe) for key in keys if not key.outside]
    else:
        frames = np.array([key.frame for key in keys])
        rows = np.searchsorted(frames, track.frames, side="right") - 1
        drawn = track.keyframe & np.array([key.keyframe for key in keys])[rows]
        seen = [
            (keys[row], _moved(keys[row].shape, corners), frame, is_key)
            for row, corners, frame, is_key in zip(
                rows.tolist(),
                track.shapes.tolist(),
                track.frames.tolist(),
                drawn.tolist(),
                strict=True,
            )
        ]
    name = element.get("label") or ""
    return [
        FrameLabel(
            clip.start + frame * clip.step,
            _frame_label(name, key.label, track_id or 0, is_key),
            shape,
            key.line,
        )
        for key, shape, frame, is_key in seen
    ]


def _keys(element: Any, clip: Clip, report: LabelReport) -> list[_Key]:
    """The shapes that stand in the file, in order of their frames."""
    found: dict[int, _Key] = {}
    for child in element.iterchildren("*"):
        where = f"{report.where}:{child.sourceline}"
        number = side(child.get("frame"))
        if child.tag not in SHAPES:
            kind = child.tag if child.tag in NOT_HELD else "element of a track that is not known"
            report.add(kind, "left out", [where])
            continue
        frame, beside = divmod((-1 if number is None else number) - clip.start, clip.step)
        if frame < 0 or beside or (clip.size and frame >= clip.size):
            # CVAT ends a track behind the last frame, too: that is no label.
            if child.get("outside") != "1":
                report.add("shape in a frame that was not labelled", "left out", [where])
            continue
        shape = read_shape(child, clip.width, clip.height, where, report)
        if shape is None:
            continue
        if frame in found:
            report.add("frame that a track has twice", "the first kept", [where])
            continue
        outside, drawn = child.get("outside") == "1", child.get("keyframe") != "0"
        found[frame] = _Key(frame, outside, drawn, element_label(child), shape, child.sourceline)
    return [found[frame] for frame in sorted(found)]


def _track(keys: list[_Key], clip: Clip, where: str, report: LabelReport) -> Track | None:
    """All frames between the keys; None where there is nothing to interpolate by."""
    if any(key.shape.geometry is Geometry.RLE for key in keys):
        report.add("track of masks", "kept in its key frames only", [where])
        return None
    shapes = [key.shape.corners for key in keys]
    if len({(key.shape.geometry, len(key.shape.corners)) for key in keys}) > 1:
        kind = "track whose shapes have different numbers of corners"
        report.add(kind, "kept in its key frames only", [where])
        return None
    last = keys[-1].frame + 1
    try:
        return interpolate(
            Track(
                frames=np.array([key.frame for key in keys], dtype=np.int64),
                shapes=np.array(shapes, dtype=np.float64),
                outside=np.array([key.outside for key in keys]),
                keyframe=np.array([key.keyframe for key in keys]),
            ),
            clip.size or last,
            holds=bool(clip.size),
        )
    except DataError as error:
        raise LabelError(error.message, where=where, got=error.got) from error


def _moved(shape: Shape, corners: list[float]) -> Shape:
    if shape.geometry is Geometry.BOX:
        return Shape(Geometry.BOX, corners)
    points = np.array(corners).reshape(-1, 2)
    x, y = points.T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2  # shoelace formula
    return Shape(Geometry.POLYGON, corners, msgspec.json.encode([corners]), area)


def _frame_label(name: str, label: Label, track_id: int, keyframe: bool) -> Label:
    fields: dict[str, Any] = msgspec.json.decode(label[1] or b"{}", type=_RAW)
    attributes = encoded_attributes({**fields, "track_id": track_id, "keyframe": keyframe})
    return name, attributes, label[2]
