"""Frames of a video by index and by time, exact at any order of asking.

A frame is a medium of its own, ``clips/a.mp4#frame=12`` (or ``#t=0.48``, seconds, as in the W3C's
Media Fragments): whatever works on pictures works on frames. The table of presentation times is
read from the packets, without decoding; a frame is found by going to the key frame before it and
decoding on. Rotation in the file's header is not applied, like EXIF's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.errors import DataError, MediaError
from tilth.lazy import require

__all__ = ["VIDEO_SUFFIXES", "Video", "frame_uri", "split_frame"]

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
_FRAGMENT = re.compile(r"#(frame|t)=([0-9]+(?:\.[0-9]+)?)$")
_MAX_PIXELS = 2**28


def frame_uri(video: str, index: int) -> str:
    """The uri of one frame.

    >>> frame_uri("clips/a.mp4", 12)
    'clips/a.mp4#frame=12'
    """
    return f"{video}#frame={index}"


def split_frame(uri: str) -> tuple[str, int | float | None]:
    """The video's uri, and the frame: its index as int, or its time in seconds as float.

    A uri that names no frame comes back with None; a ``#`` in a file's name is left alone.

    >>> split_frame("a.mp4#frame=12"), split_frame("a.mp4#t=0.5"), split_frame("a#1.jpg")
    (('a.mp4', 12), ('a.mp4', 0.5), ('a#1.jpg', None))

    Raises:
        DataError: a frame that is no whole number.
    """
    match = _FRAGMENT.search(uri)
    if match is None:
        return uri, None
    kind, number = match.groups()
    if kind == "t":
        return uri[: match.start()], float(number)
    if not number.isdecimal() or len(number) > 12:
        raise DataError("a frame is a whole number", where=uri, expected="#frame=12", got=number)
    return uri[: match.start()], int(number)


class Video:
    """An open video; use it as a context manager.

    Attributes:
        num_frames: as many as can be shown.
        width, height: pixels.
        fps: frames a second, on average.

    Raises:
        MediaError: missing, not a video, or without a picture track.
        MissingExtraError: PyAV (extra ``video``) is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._av = require("av", extra="video")
        self._container = self._opened()
        if not self._container.streams.video:
            self._container.close()
            raise MediaError("a file without a picture track", where=str(path), expected="a video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.width, self.height = self._stream.width, self._stream.height
        if self.width * self.height > _MAX_PIXELS:
            raise MediaError("frames beyond the size of all pictures", where=str(path))
        self._pts, self._key_pts = self._read_times()
        self.num_frames = len(self._pts)
        self.fps = Fraction(self._stream.average_rate or 0)
        self._decoder: Iterator[Any] | None = None
        self._next_index = 0

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._decoder = None
        self._container.close()

    def time_of(self, index: int) -> float:
        """Seconds from the first frame to this one."""
        self._refuse_outside(index)
        return float((int(self._pts[index]) - int(self._pts[0])) * self._stream.time_base)

    def index_at(self, seconds: float) -> int:
        """The frame that is shown at this time."""
        ticks = self._pts[0] + round(Fraction(seconds) / self._stream.time_base)
        return max(int(np.searchsorted(self._pts, ticks, side="right")) - 1, 0)

    def read_frame(self, index: int) -> NDArray[np.uint8]:
        """One frame, uint8 [h, w, 3], RGB.

        Raises:
            DataError: no such frame.
            MediaError: the video is broken there.
        """
        self._refuse_outside(index)
        if not self._can_go_on_to(index):
            self._seek(index)
        wanted = int(self._pts[index])
        for attempt in range(2):
            image = self._decode_to(wanted, index)
            if image is not None:
                return image
            if attempt == 0:  # a key frame that was none: from the start, then
                self._restart()
        raise MediaError(
            "a frame of the video cannot be decoded",
            where=f"{self.path}#frame={index}",
            fix="the file is damaged there: take the frame out of the labels, or repair the file",
        )

    def frames(self, indices: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """Several frames; in rising order each is decoded once."""
        for index in indices:
            yield self.read_frame(index)

    def _opened(self) -> Any:
        if not self.path.is_file():
            raise MediaError("the video is not there", where=str(self.path))
        try:
            return self._av.open(str(self.path), metadata_errors="ignore")
        except (self._av.error.FFmpegError, ValueError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> MediaError:
        return MediaError(
            "not a video that can be read", where=str(self.path), got=str(error)[:120]
        )

    def _read_times(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Presentation times of all frames and of the key frames, rising, without decoding."""
        times: list[int] = []
        keys: list[int] = []
        try:
            for packet in self._container.demux(self._stream):
                time = packet.dts if packet.pts is None else packet.pts
                if packet.size == 0 or time is None:
                    continue  # the end of the stream
                times.append(time)
                if packet.is_keyframe:
                    keys.append(time)
        except self._av.error.FFmpegError as error:
            if not times:
                raise self._broken(error) from error
        if not times:
            raise MediaError("a video without a frame", where=str(self.path))
        return np.unique(np.array(times, np.int64)), np.unique(
            np.array(keys or times[:1], np.int64)
        )

    def _can_go_on_to(self, index: int) -> bool:
        """Whether decoding on is less work than going to the key frame before ``index``."""
        if self._decoder is None or index < self._next_index:
            return False
        key = self._key_pts[np.searchsorted(self._key_pts, self._pts[index], side="right") - 1]
        return bool(key <= self._pts[min(self._next_index, self.num_frames - 1)])

    def _seek(self, index: int) -> None:
        try:
            self._container.seek(int(self._pts[index]), stream=self._stream, backward=True)
        except self._av.error.FFmpegError:
            self._restart()
            return
        self._decoder = self._container.decode(self._stream)

    def _restart(self) -> None:
        self._container.close()
        self._container = self._opened()
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._decoder = self._container.decode(self._stream)

    def _decode_to(self, wanted: int, index: int) -> NDArray[np.uint8] | None:
        """Decode on to the frame shown at ``wanted``; None where it was passed or is broken."""
        assert self._decoder is not None
        try:
            for frame in self._decoder:
                time = frame.dts if frame.pts is None else frame.pts
                if time is None or time < wanted:
                    continue
                self._next_index = index + 1
                if time > wanted:
                    self._decoder = None
                    return None
                image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
                return image
        except self._av.error.FFmpegError:
            self._decoder = None
            return None
        self._decoder = None
        return None

    def _refuse_outside(self, index: int) -> None:
        if not 0 <= index < self.num_frames:
            raise DataError(
                "a frame that the video does not have",
                where=str(self.path),
                expected=f"0 to {self.num_frames - 1}",
                got=str(index),
            )
