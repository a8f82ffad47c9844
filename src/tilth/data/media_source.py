"""A file on this machine for every uri: remote files and frames of videos come out of the cache."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.data.media_cache import MediaCache
from tilth.data.storage import FetchSettings, fetch, is_url, shown_url, url_suffix
from tilth.data.video import Video, split_frame
from tilth.errors import DataError, MediaError

__all__ = ["MediaSource", "is_plain"]

FileOf = Callable[[str], Path]
"""The file of a uri that is a path."""

HashOf = Callable[[str], str | None]
"""The hash of the bytes that a uri stood for when it was first read; None where nobody has."""


def is_plain(uri: str) -> bool:
    """Whether a uri is the path of a file as it is: no URL, no frame."""
    return not is_url(uri) and split_frame(uri)[1] is None


class MediaSource:
    """Fetches and extracts what is no file of its own, and keeps it in a cache.

    Args:
        cache: for remote files, and frames as PNG.
        settings: how patiently to fetch.
        hash_of: a remote file that has another content than it had is an error, not a picture.
    """

    def __init__(self, cache: MediaCache, settings: FetchSettings, hash_of: HashOf) -> None:
        self.cache = cache
        self.settings = settings
        self._hash_of = hash_of
        self._lock = threading.Lock()
        self._video: tuple[Path, Video] | None = None

    def local(self, uri: str, file_of: FileOf) -> Path:
        """The file: of a remote uri its copy, of a frame its picture.

        Raises:
            MediaError: it cannot be had.
        """
        base, frame = split_frame(uri)
        path = self._remote(base) if is_url(base) else file_of(base)
        return path if frame is None else self._frame(path, frame)

    def frame_size(self, uri: str, file_of: FileOf) -> tuple[int, int]:
        """Width and height of a frame, from the header of its video."""
        base, _ = split_frame(uri)
        path = self._remote(base) if is_url(base) else file_of(base)
        with self._lock:
            video = self._open(path)
            return video.width, video.height

    def _remote(self, url: str) -> Path:
        def write(stream: BinaryIO) -> None:
            found, known = fetch(url, stream, self.settings), self._hash_of(url)
            if known is not None and found != known:
                raise MediaError(
                    "a remote file has changed since it was first read",
                    where=shown_url(url),
                    expected=f"content {known}",
                    got=f"content {found}",
                    fix="import it under another name, or take it out with 'tilth remove'",
                )

        return self.cache.put(url, write, url_suffix(url))

    def _frame(self, path: Path, frame: int | float) -> Path:
        status = path.stat()
        # A video that was replaced has other frames.
        identity = f"{path}:{status.st_size}:{status.st_mtime_ns}"
        if isinstance(frame, int):
            found = self.cache.get(f"{identity}#{frame}", ".png")
            if found is not None:
                return found
        with self._lock:  # one decoder, which goes on from where it is
            video = self._open(path)
            index = frame if isinstance(frame, int) else video.index_at(frame)
            key = f"{identity}#{index}"
            found = self.cache.get(key, ".png")
            return found or self.cache.put(key, _png_writer(video.read_frame(index)), ".png")

    def _open(self, path: Path) -> Video:
        if self._video is None or self._video[0] != path:
            if self._video is not None:
                self._video[1].close()
            self._video = None
            self._video = (path, Video(path))
        return self._video[1]


def _png_writer(image_rgb: NDArray[np.uint8]) -> Callable[[BinaryIO], object]:
    # Level 1: a frame is read once or twice, and a smaller file is not worth four times the time.
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not done:
        raise DataError("a frame that cannot be written as a picture")
    return lambda stream: stream.write(data.tobytes())
