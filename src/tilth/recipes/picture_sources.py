"""What a detector is to look at: files, folders, patterns, URLs, videos, a list on standard input.

Everything becomes pictures with a name; what is behind a URL is fetched, a video is opened and
counted, before the first one is looked at, so that a wrong name does not come up after an hour.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.data.images import PICTURE_SUFFIXES
from tilth.data.storage import is_url, local_copy, shown_url, url_suffix
from tilth.data.video import VIDEO_SUFFIXES, Video, frame_uri
from tilth.errors import EmptyDatasetError, MediaError, SettingsError

__all__ = ["FrameReader", "PictureSource", "picture_sources"]

STANDARD_INPUT = "-"


@dataclass(frozen=True, kw_only=True)
class PictureSource:
    """One picture.

    Attributes:
        name: the path or URL as it was given, with ``#frame=12`` for a frame of a video.
        path: of the file on this machine.
        frame: of a video; None for a picture.
    """

    name: str
    path: Path
    frame: int | None = None

    @property
    def stem(self) -> str:
        """What a file made from it may be called: ``clip-000012`` for a frame."""
        return self.path.stem if self.frame is None else f"{self.path.stem}-{self.frame:06}"


class FrameReader:
    """Frames of videos, each video opened once while its frames are asked for in turn."""

    def __init__(self) -> None:
        self._video: Video | None = None

    def read(self, source: PictureSource) -> NDArray[np.uint8]:
        """uint8 [h, w, 3], RGB.

        Raises:
            MediaError: the video, or the frame, is broken.
        """
        assert source.frame is not None
        if self._video is None or self._video.path != source.path:
            self.close()
            self._video = Video(source.path)
        return self._video.read_frame(source.frame)

    def close(self) -> None:
        """Let go of the file."""
        if self._video is not None:
            self._video.close()
            self._video = None


def picture_sources(
    sources: Sequence[str], *, every: int = 1, lines: Iterable[str] = ()
) -> list[PictureSource]:
    """All pictures of ``sources``, in their order; those of a folder by name.

    Args:
        sources: paths, folders (searched to the bottom), patterns such as ``photos/*.jpg``, URLs,
            videos; ``-`` stands for ``lines``.
        every: of a video every so many frames, from the first.
        lines: standard input, one source a line.

    Raises:
        MediaError: a source is missing, a video broken, or a URL not to be had.
        EmptyDatasetError: no picture among them.
        SettingsError: ``every`` below 1.
    """
    if every < 1:
        raise SettingsError("frames are counted from 1", expected="1 or more", got=str(every))
    found = [one for source in _with_lines(sources, lines) for one in _expanded(source, every)]
    if not found:
        raise EmptyDatasetError(
            "no picture to look at",
            where=", ".join(sources),
            expected=f"files that end in {', '.join(sorted(PICTURE_SUFFIXES))}, or videos",
        )
    return found


def _with_lines(sources: Sequence[str], lines: Iterable[str]) -> Iterator[str]:
    for source in sources:
        if source != STANDARD_INPUT:
            yield source
            continue
        yield from (line.strip() for line in lines if line.strip())


def _expanded(source: str, every: int) -> Iterator[PictureSource]:
    if is_url(source):
        suffix = url_suffix(source)
        path = local_copy(source)
        if suffix in VIDEO_SUFFIXES:
            yield from _frames(shown_url(source), path, every)
        else:
            yield PictureSource(name=shown_url(source), path=path)
        return
    path = Path(source)
    if path.is_dir():
        inside = (each for each in path.rglob("*") if each.is_file())
        yield from _files(sorted(inside), every)
    elif path.is_file():
        yield from _file(path, every)
    elif glob.has_magic(source):
        matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]
        if not matches:
            raise MediaError("no file has a name of this pattern", where=source)
        yield from _files([match for match in matches if match.is_file()], every)
    else:
        raise MediaError("no such picture or folder", where=source)


def _files(paths: Iterable[Path], every: int) -> Iterator[PictureSource]:
    """Of many files those that are pictures or videos by their suffix."""
    for path in paths:
        if path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
            yield from _file(path, every)


def _file(path: Path, every: int) -> Iterator[PictureSource]:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        yield from _frames(str(path), path, every)
    else:
        yield PictureSource(name=str(path), path=path)


def _frames(name: str, path: Path, every: int) -> Iterator[PictureSource]:
    with Video(path) as video:
        count = video.num_frames
    for frame in range(0, count, every):
        yield PictureSource(name=frame_uri(name, frame), path=path, frame=frame)
