"""A file on this machine for every uri: remote files and frames of videos come out of the cache."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tilth.data.media_cache import MediaCache
from tilth.data.storage import FetchSettings, fetch, is_url, shown_url, url_suffix
from tilth.data.video import Video, split_frame
from tilth.errors import MediaError

__all__ = ["MediaSource", "is_plain"]

FileOf = Callable[[str], Path]
"""The file of a uri that is a path."""

HashOf = Callable[[str], str | None]
"""The hash of the bytes that a uri stood for when it was first read; None where nobody has."""

_FETCHERS = 16
_OPEN_VIDEOS = 4  # labels that alternate between a few cameras
_NOT_AGAIN_S = 600.0  # a server that is down is not waited for once more for every picture


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
        self._failed: dict[str, tuple[float, MediaError]] = {}
        self._videos: OrderedDict[str, Video] = OrderedDict()
        self._begin()
        _sources.add(self)

    def local(self, uri: str, file_of: FileOf) -> Path:
        """The file: of a remote uri its copy, of a frame its picture.

        Raises:
            MediaError: it cannot be had.
        """
        found = self._find(uri, file_of)
        return found if isinstance(found, Path) else found.keep(self.cache)

    def frame_size(self, uri: str, file_of: FileOf) -> tuple[int, int]:
        """Width and height of a frame, from the header of its video.

        Raises:
            MediaError: the video cannot be had, or has no such frame.
        """
        base, frame = split_frame(uri)
        path = self._file(base, file_of)
        with self._decoding:
            video = self._video(path, _identity_of(path))
            if isinstance(frame, int):
                video.expect_frame(frame)
            return video.width, video.height

    def prefetch(self, uris: Iterable[str], file_of: FileOf) -> Iterator[MediaError | None]:
        """Bring media into the cache, for each what went wrong: remote files, several at a time;
        then frames, each video decoded once from front to back while others write the pictures.
        """
        wanted = dict.fromkeys(uri for uri in uris if not is_plain(uri))
        frames = [uri for uri in wanted if split_frame(uri)[1] is not None]
        with ThreadPoolExecutor(_FETCHERS) as pool:
            remote = dict.fromkeys(base for uri in wanted if is_url(base := split_frame(uri)[0]))
            errors = pool.map(lambda url: self._error(url, file_of), remote)
            for url, error in zip(remote, errors, strict=True):
                if url in wanted:  # not for its frames alone, which come below
                    yield error
            writing: deque[Future[object]] = deque()
            for uri in sorted(frames, key=_place_of):
                try:
                    found = self._find(uri, file_of)
                except MediaError as error:
                    yield error
                    continue
                if isinstance(found, Path):
                    yield None
                    continue
                writing.append(pool.submit(found.keep, self.cache))
                if len(writing) > _FETCHERS:
                    writing.popleft().result()
                    yield None
            for waiting in writing:
                waiting.result()
                yield None

    def _begin(self) -> None:
        self._decoding = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(256)]

    def _leave_behind(self) -> None:
        """In a child process: the decoders' threads stayed with the parent, and so may the locks.

        The videos are kept without being closed: closing would wait for those threads for ever.
        """
        _left_behind.append(self._videos)
        self._videos = OrderedDict()
        self._begin()

    def _error(self, url: str, file_of: FileOf) -> MediaError | None:
        try:
            self._file(url, file_of)
        except MediaError as error:
            return error
        return None

    def _find(self, uri: str, file_of: FileOf) -> Path | _Frame:
        """The file, or the frame that is still to be written into one."""
        base, frame = split_frame(uri)
        path = self._file(base, file_of)
        return path if frame is None else self._frame(path, frame)

    def _file(self, base: str, file_of: FileOf) -> Path:
        return self._remote(base) if is_url(base) else file_of(base)

    def _remote(self, url: str) -> Path:
        failed_at, error = self._failed.get(url, (0.0, None))
        if error is not None and time.monotonic() - failed_at < _NOT_AGAIN_S:
            raise error
        known = self._hash_of(url)

        def write(stream: BinaryIO) -> None:
            found = fetch(url, stream, self.settings)
            if known is not None and found != known:
                raise MediaError(
                    "a remote file has changed since it was first read",
                    where=shown_url(url),
                    expected=f"content {known}",
                    got=f"content {found}",
                    fix="import it under another name, or take it out with 'tilth remove'",
                )

        with self._fetching[hash(url) % len(self._fetching)]:  # one fetches, the others wait
            try:
                return self.cache.put(url, write, url_suffix(url), content=known)
            except MediaError as error:
                self._failed[url] = time.monotonic(), error
                raise

    def _frame(self, path: Path, frame: int | float) -> Path | _Frame:
        identity = _identity_of(path)
        if isinstance(frame, int):
            found = self.cache.get(f"{identity}#{frame}", ".png")
            if found is not None:
                return found
        with self._decoding:  # one decoder, which goes on from where it is
            video = self._video(path, identity)
            index = frame if isinstance(frame, int) else video.index_at(frame)
            key = f"{identity}#{index}"
            return self.cache.get(key, ".png") or _Frame(key=key, image_rgb=video.read_frame(index))

    def _video(self, path: Path, identity: str) -> Video:
        if identity in self._videos:
            self._videos.move_to_end(identity)
            return self._videos[identity]
        video = self._videos[identity] = Video(path)
        if len(self._videos) > _OPEN_VIDEOS:
            self._videos.popitem(last=False)[1].close()
        return video


@dataclass(frozen=True, kw_only=True, eq=False)
class _Frame:
    """A decoded frame, and its name in the cache."""

    key: str
    image_rgb: NDArray[np.uint8]

    def keep(self, cache: MediaCache) -> Path:
        import cv2  # a tenth of a second to load; most commands touch no frame

        # Fast before small: a frame is read once or twice.
        run_lengths = cv2.IMWRITE_PNG_STRATEGY_RLE
        choices = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, run_lengths]
        bgr = cv2.cvtColor(self.image_rgb, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".png", bgr, choices)
        if not done:
            raise MediaError("a frame that cannot be written as a picture", where=self.key)
        return cache.put(self.key, lambda stream: stream.write(data.tobytes()), ".png")


def _identity_of(path: Path) -> str:
    """A video that was replaced has other frames."""
    try:
        status = path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise MediaError(
            "the video is not there" if missing else "the video cannot be opened",
            where=str(path),
            got=None if missing else error.strerror,
            fix="put it back; or take its frames out: tilth remove --missing" if missing else None,
        ) from error
    return f"{path}:{status.st_size}:{status.st_mtime_ns}"


def _place_of(uri: str) -> tuple[str, float]:
    base, frame = split_frame(uri)
    return base, frame or 0


_sources: weakref.WeakSet[MediaSource] = weakref.WeakSet()
_left_behind: list[object] = []


def _after_fork() -> None:
    for source in _sources:
        source._leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
