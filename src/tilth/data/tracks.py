"""Boxes of one object through the frames of a video, drawn in key frames only.

Between two key frames the four edges move in a straight line; a key frame that says *outside* ends
the object until the next key frame; after the last one the box stays where it is, to the end of
the video. (CVAT's definition, docs.cvat.ai, "Track mode"; Label Studio's `enabled` is the same.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tilth.errors import DataError

__all__ = ["Track", "interpolate", "keyframes_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """One object's shapes at some frames, in order.

    Attributes:
        frames: int64 [k], rising.
        shapes: float64 [k, d]: boxes x0 y0 x1 y1, or polygons of d / 2 corners.
        outside: bool [k]: not to be seen from this frame on.
        keyframe: bool [k]: drawn, or (where `interpolate` made the track) in between.
    """

    frames: NDArray[np.int64]
    shapes: NDArray[np.float64]
    outside: NDArray[np.bool_]
    keyframe: NDArray[np.bool_]


def interpolate(track: Track, num_frames: int, *, holds: bool = True) -> Track:
    """The object in every frame in which it can be seen, from its key frames.

    Args:
        track: its key frames.
        num_frames: of the video; frames from there on are left out.
        holds: whether the object stays after its last key frame, or ends there.

    Returns:
        A track without gaps but those that *outside* makes; ``outside`` is false throughout.

    Raises:
        DataError: frames that do not rise, or shapes that are not finite.
    """
    _refuse_unusable(track)
    if not len(track.frames):
        return track
    last = num_frames if holds else min(num_frames, int(track.frames[-1]) + 1)
    frames = np.arange(track.frames[0], max(last, track.frames[0]), dtype=np.int64)
    frames = frames[frames < num_frames]
    before = np.searchsorted(track.frames, frames, side="right") - 1
    after = np.minimum(before + 1, len(track.frames) - 1)
    seen = ~track.outside[before]
    frames, before, after = frames[seen], before[seen], after[seen]
    # Towards a key frame that is outside the shape stays: that one's place means nothing.
    after = np.where(track.outside[after], before, after)
    span = np.maximum(track.frames[after] - track.frames[before], 1)
    share = ((frames - track.frames[before]) / span)[:, None]
    shapes = track.shapes[before] * (1 - share) + track.shapes[after] * share
    return Track(
        frames=frames,
        shapes=shapes,
        outside=np.zeros(len(frames), dtype=np.bool_),
        keyframe=frames == track.frames[before],
    )


def keyframes_of(
    track: Track, *, tolerance_px: float = 1e-6, num_frames: int | None = None
) -> Track:
    """Few key frames from which `interpolate` gives the track back.

    Goes forward and keeps the longest straight stretch each time: as few as possible for a
    tolerance of 0, nearly so otherwise. Frames that were key frames stay.

    Args:
        track: the object in every frame in which it can be seen.
        tolerance_px: how far an edge may be off in between.
        num_frames: of the video, which the last box then fills: an object that is seen to the end
            needs no *outside* behind it.
    """
    _refuse_unusable(track)
    count = len(track.frames)
    if not count:
        return track
    rows: list[int] = []
    ends: list[int] = []
    for first, stop in _runs(track.frames):
        kept = _stretches(track, first, stop, tolerance_px)
        rows += kept
        if num_frames is None or track.frames[stop - 1] + 1 < num_frames:
            ends.append(stop - 1)
    frames = np.concatenate([track.frames[rows], track.frames[ends] + 1])
    shapes = np.concatenate([track.shapes[rows], track.shapes[ends]])
    outside = np.concatenate([np.zeros(len(rows), np.bool_), np.ones(len(ends), np.bool_)])
    order = np.argsort(frames, kind="stable")
    return Track(
        frames=frames[order],
        shapes=shapes[order],
        outside=outside[order],
        keyframe=np.ones(len(frames), dtype=np.bool_),
    )


def _runs(frames: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Stretches of frames without a gap, as first row and the one after the last."""
    breaks = np.flatnonzero(np.diff(frames) > 1) + 1
    bounds = [0, *breaks.tolist(), len(frames)]
    return list(pairwise(bounds))


def _stretches(track: Track, first: int, stop: int, tolerance_px: float) -> list[int]:
    """Rows to keep between ``first`` and ``stop``, both ends among them where they are needed."""
    kept, at = [first], first
    while at < stop - 1:
        end = at + 1
        while (
            end + 1 < stop
            and not track.keyframe[end]
            and _is_straight(track, at, end + 1, tolerance_px)
        ):
            end += 1
        kept.append(end)
        at = end
    return kept


def _is_straight(track: Track, start: int, end: int, tolerance_px: float) -> bool:
    frames, shapes = track.frames, track.shapes
    share = ((frames[start : end + 1] - frames[start]) / (frames[end] - frames[start]))[:, None]
    between = shapes[start] * (1 - share) + shapes[end] * share
    return bool((np.abs(between - shapes[start : end + 1]) <= tolerance_px).all())


def _refuse_unusable(track: Track) -> None:
    if (np.diff(track.frames) <= 0).any() or (track.frames < 0).any():
        raise DataError(
            "the frames of a track do not rise",
            expected="numbers from 0 on, each larger than the one before",
            got=_shortened(track.frames.tolist()),
        )
    if not np.isfinite(track.shapes[~track.outside]).all():
        raise DataError("a track with a number that is not finite")


def _shortened(values: Sequence[object]) -> str:
    return f"{list(values[:8])}{'...' if len(values) > 8 else ''}"
