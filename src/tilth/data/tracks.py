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

_MAX_FRAMES = 10_000_000  # four days at 30 a second


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
        DataError: frames that do not rise, shapes that are not finite, or more frames than a video
            has.
    """
    _refuse_unusable(track)
    if num_frames > _MAX_FRAMES:  # a number in a label file that would fill the memory
        raise DataError(
            "a video of too many frames", expected=f"at most {_MAX_FRAMES:,}", got=str(num_frames)
        )
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

    Goes forward and takes the longest straight stretch that begins at the last key frame: few, not
    always the fewest. Frames that were key frames stay.

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
    drawn = np.flatnonzero(track.keyframe[first:stop]) + first
    kept, at = [first], first
    while at < stop - 1:
        later = drawn[np.searchsorted(drawn, at, side="right") :]
        at = _straight_end(track, at, int(later[0]) if len(later) else stop - 1, tolerance_px)
        kept.append(at)
    return kept


def _straight_end(track: Track, start: int, last: int, tolerance_px: float) -> int:
    """The row up to which one straight way from ``start`` passes all others within the tolerance.

    Each row allows the slopes between two bounds; the way goes on for as long as the slope to its
    end lies within those of all rows before. Looks twice as far each time: linear in all.
    """
    reach = 16
    while True:
        end = min(start + reach, last)
        time = (track.frames[start + 1 : end + 1] - track.frames[start])[:, None]
        moved = track.shapes[start + 1 : end + 1] - track.shapes[start]
        slope = moved / time
        least = np.maximum.accumulate((moved - tolerance_px) / time)
        most = np.minimum.accumulate((moved + tolerance_px) / time)
        fits = ((least[:-1] <= slope[1:]) & (slope[1:] <= most[:-1])).all(axis=1)
        if not fits.all():
            return start + 1 + int(np.argmin(fits))
        if end == last:
            return last
        reach *= 2


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
