"""Frames of a video by index and by time, exact at any order of asking.

A frame is a medium of its own, ``clips/a.mp4#frame=12`` (or ``#t=0.48``, seconds, as in the W3C's
Media Fragments): whatever works on pictures works on frames. The table of presentation times is
read from the packets, without decoding; a frame is found by going to the key frame before it and
decoding on. Containers without an index (MPEG program streams) guess the times behind a jump: every
packet is held against the table, and where one disagrees the file is decoded from its start
instead. What an edit list cuts away is not counted. Rotation in the header is not applied, like
EXIF's.

Decoders patch damaged frames from their neighbours. Those that say so, and what follows up to the
next key frame, are refused; H.264 does not say it of the frames shown just before, nor VP9 at all.
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

from tilth.data.images import MAX_PIXELS
from tilth.errors import DataError, MediaError
from tilth.lazy import require

__all__ = ["VIDEO_SUFFIXES", "Video", "frame_uri", "split_frame"]

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
_FRAGMENT = re.compile(r"#(frame|t)=([0-9]+(?:\.[0-9]+)?)$")
_ROUNDING_S = 0.0005  # times are written with three digits
# Demuxers of files that hold their pictures themselves: a playlist (HLS, ffconcat) by the name of
# clip.mp4 would make the library open whatever other files it lists.
_DEMUXERS = "mov,matroska,avi,mpeg,mpegts,flv,asf,ogg,mxf,dv,ivf"


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
        self._stream = self._picture_track()
        self.width, self.height = self._stream.width, self._stream.height
        if self.width * self.height > MAX_PIXELS:
            self._container.close()
            raise MediaError(
                "the frames of the video are too large",
                where=str(path),
                expected=f"at most {MAX_PIXELS:,} pixels",
                got=f"{self.width} x {self.height}",
            )
        self._packets: set[tuple[int | None, int]] = set()
        self._pts, self._key_pts = self._read_times()
        self.num_frames = len(self._pts)
        self.fps = Fraction(self._stream.average_rate or 0)
        self._decoder: Iterator[tuple[Any, bool]] | None = None
        self._next_index = 0
        self._can_jump = True

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
        self.expect_frame(index)
        return float((int(self._pts[index]) - int(self._pts[0])) * self._stream.time_base)

    def index_at(self, seconds: float) -> int:
        """The frame that is shown at this time, counted from the first frame.

        A time just short of a frame's is taken for it, because times are written rounded.
        """
        rounding_s = min(_ROUNDING_S, self.time_of(self.num_frames - 1) / self.num_frames / 4)
        ticks = (Fraction(seconds) + Fraction(rounding_s)) / self._stream.time_base
        shown = np.searchsorted(self._pts - self._pts[0], float(ticks), side="right")
        return max(int(shown) - 1, 0)

    def read_frame(self, index: int) -> NDArray[np.uint8]:
        """One frame, uint8 [h, w, 3], RGB.

        Raises:
            MediaError: no such frame, or the video is damaged there.
        """
        self.expect_frame(index)
        # The cheapest way first; the file's start is the one that never misses.
        for is_ready in (self._can_go_on_to, self._jump_before, self._restart):
            if is_ready(index):
                image = self._decode_to(index)
                if image is not None:
                    return image
        raise MediaError(
            "a frame of the video cannot be decoded",
            where=f"{self.path}#frame={index}",
            fix="the file is damaged there: take the frame out of the labels, or repair the file",
        )

    def frames(self, indices: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """Several frames; in rising order each is decoded once."""
        for index in indices:
            yield self.read_frame(index)

    def expect_frame(self, index: int) -> None:
        """Refuse an index that no frame has.

        Raises:
            MediaError: as `read_frame`.
        """
        if not 0 <= index < self.num_frames:
            raise MediaError(
                "a frame that the video does not have",
                where=f"{self.path}#frame={index}",
                expected=f"0 to {self.num_frames - 1}",
                got=str(index),
            )

    def _opened(self) -> Any:
        if not self.path.is_file():
            raise MediaError("the video is not there", where=str(self.path))
        options = {"format_whitelist": _DEMUXERS}
        try:
            # An absolute path is never taken for a protocol ("concat:a|b").
            return self._av.open(
                str(self.path.absolute()), options=options, metadata_errors="ignore"
            )
        except (self._av.error.FFmpegError, ValueError) as error:
            raise self._broken(error) from error

    def _picture_track(self) -> Any:
        tracks = self._container.streams
        if not tracks.video:
            self._container.close()
            raise MediaError(
                "a file without a picture track", where=str(self.path), expected="a video"
            )
        track = tracks.best("video")  # not the picture on a record's cover
        track.thread_type = "AUTO"
        return track

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
                if packet.size == 0:
                    continue  # the end of the stream
                time = _time_of(packet)
                self._packets.add((time, packet.size))
                if time is None:
                    continue
                if not packet.is_discard:  # decoded for others' sake, never shown
                    times.append(time)
                if packet.is_keyframe:
                    keys.append(time)
        except self._av.error.FFmpegError as error:
            if not times:
                raise self._broken(error) from error
        if not times:
            raise MediaError(
                "a video without a frame that has a time",
                where=str(self.path),
                fix="put a bare stream into a container: ffmpeg -i IN -c copy OUT.mp4",
            )
        return np.unique(np.array(times, np.int64)), np.unique(
            np.array(keys or times[:1], np.int64)
        )

    def _key_before(self, index: int) -> int:
        row = int(np.searchsorted(self._key_pts, self._pts[index], side="right")) - 1
        return int(self._key_pts[max(row, 0)])

    def _can_go_on_to(self, index: int) -> bool:
        """Whether decoding on is less work than going to the key frame before ``index``."""
        if self._decoder is None or index < self._next_index:
            return False
        return self._key_before(index) <= int(self._pts[self._next_index])

    def _jump_before(self, index: int) -> bool:
        """Go to the key frame before ``index``, where the container can."""
        if not self._can_jump:
            return False
        try:
            # To the key frame's own time: from a frame's, some containers go to the key frame
            # that is stored before it and shown after it.
            self._container.seek(self._key_before(index), stream=self._stream, backward=True)
        except self._av.error.FFmpegError:
            return False
        self._decoder = self._decoded(is_jump=True)
        return True

    def _restart(self, _: int) -> bool:
        self._container.close()
        self._container = self._opened()
        self._stream = self._picture_track()
        self._decoder = self._decoded(is_jump=False)
        return True

    def _decoded(self, *, is_jump: bool) -> Iterator[tuple[Any, bool]]:
        """Frames as they are shown, and whether each is as it was encoded."""
        is_whole = True
        for packet in self._container.demux(self._stream):
            if is_jump and packet.size and (_time_of(packet), packet.size) not in self._packets:
                self._can_jump = False
                return
            for frame in packet.decode():
                is_whole = not frame.is_corrupt and (is_whole or frame.key_frame)
                yield frame, is_whole

    def _decode_to(self, index: int) -> NDArray[np.uint8] | None:
        """Decode on to a frame; None where it was passed or is damaged."""
        assert self._decoder is not None
        wanted = int(self._pts[index])
        try:
            for frame, is_whole in self._decoder:
                time = _time_of(frame)
                if time is None or time < wanted:
                    continue
                if time > wanted or not is_whole:
                    break
                self._next_index = index + 1
                if self._next_index == self.num_frames:
                    self._decoder = None
                image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
                return image
        except self._av.error.FFmpegError:
            pass  # said by the caller, with the frame's number
        self._decoder = None
        return None


def _time_of(item: Any) -> int | None:
    """When a packet or frame is shown, in ticks; some containers store only when it is decoded."""
    return item.dts if item.pts is None else item.pts
