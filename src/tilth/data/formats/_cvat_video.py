"""Labels of the frames of one video as CVAT's tracks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.formats._columns import report_rows
from tilth.data.formats._cvat_text import CORNERS, element_text, points_text
from tilth.data.formats._xml_files import escaped, plain_numbers
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry, Split
from tilth.data.tracks import Track, keyframes_of

__all__ = ["FrameSet", "frame_set", "track_texts", "with_keyframes"]

_FRAME = re.compile(r"^(.+)#frame=(\d{1,9})$", re.ASCII)
_Fields = dict[str, msgspec.Raw]


@dataclass(frozen=True)
class FrameSet:
    """Frames of one video, at equal steps, and the rows of each track in their order.

    Attributes:
        uri: of the video.
        number: int64 [n], of each medium among the frames.
        tracks: (number, class) -> rows of labels.
    """

    uri: str
    start: int
    step: int
    number: NDArray[np.int64]
    tracks: dict[int, list[int]]


def frame_set(dataset: Dataset) -> FrameSet | str:
    """The frames as CVAT has them; or, in words, why they are not."""
    matches = [_FRAME.match(uri) for uri in dataset.media.uri]
    if not matches or not all(matches):
        return "not all media are frames of a video"
    if len({match[1] for match in matches if match}) > 1:
        return "the frames are of several videos"
    frames = np.array([int(match[2]) for match in matches if match], dtype=np.int64)
    numbers = np.unique(frames)
    steps = np.unique(np.diff(numbers))
    if len(numbers) < len(frames) or len(steps) > 1:
        return "the frames are not at equal steps"
    if (dataset.media.split != Split.NONE).any():
        return "frames are in splits"
    if len(np.unique(np.stack([dataset.media.width, dataset.media.height]), axis=1).T) > 1:
        return "the frames are of several sizes"
    step = int(steps[0]) if len(steps) else 1
    number = (frames - numbers[0]) // step
    tracks = _tracks(dataset, number)
    if isinstance(tracks, str):
        return tracks
    uri = matches[0][1] if matches[0] else ""
    return FrameSet(uri, int(numbers[0]), step, number, tracks)


def _tracks(dataset: Dataset, number: NDArray[np.int64]) -> dict[int, list[int]] | str:
    labels = dataset.annotations
    if not np.isin(labels.geometry, (Geometry.BOX, Geometry.POLYGON)).all():
        return "a track has boxes or polygons only"
    tracks: dict[int, list[int]] = {}
    kind: dict[int, tuple[int, int, int]] = {}
    frame = number[labels.media_index]
    for row in np.argsort(frame, kind="stable").tolist():
        track = _fields(labels.attributes[row]).get("track_id")
        value = msgspec.json.decode(track) if track is not None else None
        if type(value) is not int or value < 0:
            return "a label has no track_id"
        rows = tracks.setdefault(value, [])
        if rows and frame[rows[-1]] == frame[row]:
            return "a track is twice in one frame"
        category, geometry = int(labels.category_index[row]), int(labels.geometry[row])
        this = category, geometry, len(_corners(dataset, row))
        if kind.setdefault(value, this) != this:
            return "a track changes its class, or the number of its corners"
        rows.append(row)
    return tracks


def _fields(attributes: bytes | None) -> _Fields:
    return msgspec.json.decode(attributes, type=_Fields) if attributes else {}


def _corners(dataset: Dataset, row: int) -> list[float]:
    labels = dataset.annotations
    if labels.geometry[row] == Geometry.BOX:
        return labels.boxes_xyxy[row].tolist()
    return msgspec.json.decode(labels.segmentation[row] or b"[[]]")[0]


def with_keyframes(dataset: Dataset, frames: FrameSet, report: LabelReport) -> Dataset:
    """Every label with ``keyframe``: true where the file will have a shape."""
    labels = dataset.annotations
    texts = list(labels.attributes)
    added = np.zeros(len(texts), dtype=np.bool_)
    for rows in frames.tracks.values():
        keys = set(_keys(dataset, frames, rows).frames.tolist())
        for row in rows:
            fields = _fields(texts[row])
            is_key = int(frames.number[labels.media_index[row]]) in keys
            added[row] = is_key and bytes(fields.get("keyframe", b"")) != b"true"
            fields["keyframe"] = msgspec.Raw(b"true" if is_key else b"false")
            texts[row] = msgspec.json.encode(fields)

    def place(row: int) -> str:
        return f"label {labels.id[row]}"

    kind, action = "label that does not lie between key frames", "becomes a key frame"
    report_rows(report, kind, action, added, place)
    return replace(dataset, annotations=replace(labels, attributes=RaggedBytes.of(texts)))


def _keys(dataset: Dataset, frames: FrameSet, rows: list[int]) -> Track:
    """The key frames of a track: those that were, and where its line or its attributes change."""
    labels = dataset.annotations
    drawn, before = [], None
    for row in rows:
        fields = {name: bytes(value) for name, value in _fields(labels.attributes[row]).items()}
        is_key = fields.pop("keyframe", b"") == b"true"
        state = fields, int(labels.source[row])
        drawn.append(is_key or state != before)
        before = state
    track = Track(
        frames=frames.number[labels.media_index[rows]],
        shapes=np.array([_corners(dataset, row) for row in rows], dtype=np.float64),
        outside=np.zeros(len(rows), dtype=np.bool_),
        keyframe=np.array(drawn),
    )
    return keyframes_of(track, num_frames=len(dataset.media))


def track_texts(dataset: Dataset, frames: FrameSet) -> Iterator[str]:
    """Each track with the shapes of its key frames."""
    labels = dataset.annotations
    for track_id, rows in sorted(frames.tracks.items()):
        name = escaped(dataset.categories[labels.category_index[rows[0]]].name)
        keys = _keys(dataset, frames, rows)
        numbers = frames.number[labels.media_index[rows]]
        at = np.searchsorted(numbers, keys.frames, side="right") - 1
        yield f'  <track id="{track_id}" label="{name}" source="manual">\n'
        for frame, outside, corners, place in zip(
            keys.frames.tolist(), keys.outside.tolist(), keys.shapes, at.tolist(), strict=True
        ):
            row = rows[place]
            state = (
                f' frame="{frames.start + frame * frames.step}" outside="{outside:d}" keyframe="1"'
            )
            yield _shape_text(labels.geometry[row], corners, labels, row, state)
        yield "  </track>\n"


def _shape_text(
    geometry: int, corners: NDArray[np.float64], labels: Any, row: int, state: str
) -> str:
    fields = _fields(labels.attributes[row])
    for name in ("track_id", "keyframe"):
        fields.pop(name, None)
    attributes = msgspec.json.encode(fields) if fields else None
    source = int(labels.source[row])
    if geometry == Geometry.BOX:
        place = CORNERS % tuple(plain_numbers(corners))
        return element_text("box", "", source, attributes, state=state) % place
    place = f' points="{points_text(corners.tolist())}"'
    return element_text("polygon", "", source, attributes, state=state) % place
