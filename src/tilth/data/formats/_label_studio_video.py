"""Label Studio's boxes in videos: key frames in percent, to a box in every frame.

Frames are counted from 1 there and from 0 here. A key frame with ``enabled: false`` is the last in
which the object is seen, until the next key frame; the last enabled one holds to the end.
"""

from __future__ import annotations

import numpy as np

from tilth.data.formats._label_studio_records import Keyframe, Value
from tilth.data.tracks import Track, interpolate
from tilth.errors import DataError

__all__ = ["track_of"]

_MOST_FRAMES = 1_000_000  # of one video: nine hours at thirty a second


def track_of(value: Value, size: tuple[int, int], num_frames: int) -> Track:
    """The object in every frame in which it is seen; boxes in pixels.

    Args:
        size: width and height of the video, pixels.
        num_frames: of the video where it is known, else 0: then the result may say.

    Raises:
        DataError: no key frames, or no such video.
    """
    if not value.sequence:
        raise DataError("box of a video without key frames")
    if not all(size):
        raise DataError("box in percent of a video of unknown size")
    keys = sorted({key.frame: key for key in value.sequence}.values(), key=lambda key: key.frame)
    count = num_frames or value.framesCount or keys[-1].frame
    if not 0 < count <= _MOST_FRAMES:
        raise DataError("video with more frames than there are", got=str(count))
    if any(key.rotation % 360 for key in keys):
        raise DataError("turned box in a video")
    rows = [
        row for key, after in zip(keys, [*keys[1:], None], strict=True) for row in _rows(key, after)
    ]
    scale = np.array([*size, *size]) / 100
    boxes = np.array([_corners(key) for _, key, _ in rows]) * scale
    return interpolate(
        Track(
            frames=np.array([frame for frame, _, _ in rows], np.int64),
            shapes=np.round(boxes, 9),
            outside=np.array([outside for _, _, outside in rows], np.bool_),
            keyframe=np.ones(len(rows), np.bool_),
        ),
        count,
    )


def _rows(key: Keyframe, after: Keyframe | None) -> list[tuple[int, Keyframe, bool]]:
    """Frame, place, and whether the object is outside from there on."""
    shown = [(key.frame - 1, key, False)]
    ends = not key.enabled and (after is None or after.frame > key.frame + 1)
    return [*shown, (key.frame, key, True)] if ends else shown


def _corners(key: Keyframe) -> tuple[float, float, float, float]:
    return key.x, key.y, key.x + key.width, key.y + key.height
