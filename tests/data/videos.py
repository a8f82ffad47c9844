"""Videos for tests: every frame carries its number in its pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

__all__ = ["number_of", "write_video"]

_BITS = 8
_CELL = 16
_NOISE = np.random.default_rng(0).integers(0, 255, (2 * _CELL, _BITS * _CELL, 3), np.uint8)


def write_video(
    path: Path,
    num_frames: int,
    *,
    codec: str = "mpeg4",
    steps: list[int] | None = None,
    key_every: int = 12,
    b_frames: int = 0,
    first: int = 0,
    is_noisy: bool = False,
    options: dict[str, str] | None = None,
) -> None:
    """A video of 128 x 32 pixels; ``steps`` are the ticks (of 1/30 s) between frames.

    Args:
        first: tick of the first frame; what lies before 0 is cut away by an edit list.
        is_noisy: the pictures are noise that moves, so that every packet holds much.
        options: of the encoder.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height, stream.pix_fmt = _BITS * _CELL, 2 * _CELL, "yuv420p"
        stream.codec_context.gop_size = key_every
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.time_base = Fraction(1, 30)
        tick = first
        for number in range(num_frames):
            picture = np.roll(_NOISE, number, axis=1) if is_noisy else _picture(number)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 30)
            tick += 1 if steps is None else steps[number % len(steps)]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _picture(number: int) -> np.ndarray:
    """The number in binary: a white cell for each bit that is set."""
    bits = [(number >> bit) & 1 for bit in range(_BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, _CELL)
    return np.repeat(np.tile(row, (2 * _CELL, 1))[:, :, None], 3, axis=2)


def number_of(image: np.ndarray) -> int:
    """The number that a frame carries."""
    cells = image[_CELL // 2 : -_CELL // 2].mean(axis=(0, 2)).reshape(_BITS, _CELL)
    bits = cells[:, 4:-4].mean(axis=1) > 127
    return int(sum(1 << bit for bit, is_set in enumerate(bits) if is_set))
