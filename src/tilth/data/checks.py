"""Everything that is wrong with a folder or file of labels, and with the pictures they are about.

What a reader of labels reports is listed place by place; the rest is found here: pictures that are
missing, cannot be read, have another size than the labels say, are there twice or in no label file,
and labels that are there twice.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path

from tilth.data.dataset import Dataset
from tilth.data.images import PICTURE_SUFFIXES, content_hash, decode_image, read_bytes, read_size
from tilth.data.media_source import is_plain
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry
from tilth.data.video import Video, split_frame
from tilth.errors import MediaError

__all__ = ["Finding", "Severity", "check_dataset", "reader_findings"]

_SUFFIXES = PICTURE_SUFFIXES | {".gif"}
_READERS = 8
_BLOCK = 512  # pictures that are in hand at once


class Severity(StrEnum):
    """An error costs labels or pictures; a warning may be meant."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem in one place.

    Attributes:
        kind: what is wrong, in a few words; equal words mean an equal problem.
        place: file and line, file and label, or picture.
        detail: what was found there; may be empty.
    """

    severity: Severity
    kind: str
    place: str
    detail: str = ""


def reader_findings(report: LabelReport) -> Iterator[Finding]:
    """The problems of a reader, a place each: errors where something was left out."""
    for problem in report.problems:
        is_kept = problem.action.startswith(("kept", "read", "given", "taken", "clipped"))
        severity = Severity.WARNING if is_kept else Severity.ERROR
        for place in problem.examples:
            yield Finding(severity=severity, kind=problem.kind, place=place, detail=problem.action)


def check_dataset(
    dataset: Dataset,
    *,
    media_path: Callable[[str], Path],
    media_root: Path | None = None,
    decode: bool = False,
    advance: Callable[[int], object] | None = None,
) -> Iterator[Finding]:
    """What is wrong with the labels and their pictures.

    Args:
        media_path: the file of a medium, by its uri.
        media_root: the folder to look in for pictures without labels, with all below it; None
            looks in the folders of the pictures that have labels, and no deeper: what lies
            elsewhere may be masks.
        decode: decode every picture, not the headers alone.
        advance: called with the number of pictures after each block.
    """
    yield from _twice(dataset)
    yield from _pictures(dataset, media_path, decode, advance)
    yield from _orphans(dataset, media_root)


def _twice(dataset: Dataset) -> Iterator[Finding]:
    """Labels of one picture with the same class and the same corners, or the same mask."""
    labels = dataset.annotations
    seen: set[tuple[object, ...]] = set()
    rows = zip(
        labels.media_index.tolist(),
        labels.category_index.tolist(),
        labels.geometry.tolist(),
        map(tuple, labels.boxes_xyxy.tolist()),
        labels.segmentation,
        strict=True,
    )
    for media_row, category, geometry, box, shape in rows:
        key = (media_row, category, geometry, box, shape)
        if key in seen:
            name = dataset.categories[category].name
            yield Finding(
                severity=Severity.ERROR,
                kind="label that its picture has twice",
                place=dataset.media.uri[media_row],
                detail=name if geometry == Geometry.LABEL else f"{name} {_corners(box)}",
            )
        seen.add(key)


def _corners(box: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"


@dataclass(frozen=True)
class _Look:
    """What one look at a picture gave."""

    size: tuple[int, int] = (0, 0)
    content: str = ""
    error: str = ""
    is_missing: bool = False


def _pictures(
    dataset: Dataset,
    media_path: Callable[[str], Path],
    decode: bool,
    advance: Callable[[int], object] | None,
) -> Iterator[Finding]:
    media = dataset.media
    first: dict[str, str] = {}
    look = partial(_look, media_path=media_path, decode=decode)
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(media), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(media)))
            found_of = readers.map(look, [media.uri[row] for row in rows])
            for row, found in zip(rows, found_of, strict=True):
                size = int(media.width[row]), int(media.height[row])
                yield from _judged(media.uri[row], size, found, first)
            if advance is not None:
                advance(len(rows))


def _look(uri: str, *, media_path: Callable[[str], Path], decode: bool) -> _Look:
    try:
        base, frame = split_frame(uri)
        path = media_path(base)
        if not path.exists():
            return _Look(is_missing=True)
        if frame is not None:
            return _Look(size=_frame_size(path))
        if not decode:
            return _Look(size=read_size(path))
        data = read_bytes(path)
        height, width = decode_image(data, where=uri).shape[:2]
        return _Look(size=(width, height), content=content_hash(data))
    except (MediaError, OSError, ValueError) as error:
        return _Look(error=str(error).replace("\n", ";"))


@lru_cache(maxsize=64)
def _frame_size(path: Path) -> tuple[int, int]:
    with Video(path) as video:
        return video.width, video.height


def _judged(
    uri: str, size: tuple[int, int], found: _Look, first: dict[str, str]
) -> Iterator[Finding]:
    finding = partial(Finding, severity=Severity.ERROR, place=uri)
    if found.is_missing:
        yield finding(kind="picture that is not there")
    elif found.error:
        yield finding(kind="picture that cannot be read", detail=found.error)
    elif min(size) > 0 and size != found.size:
        detail = f"labels say {size[0]} x {size[1]}, the file is {found.size[0]} x {found.size[1]}"
        yield finding(kind="picture of another size than its labels say", detail=detail)
    if found.content:
        if found.content in first:
            other = first[found.content]
            yield finding(kind="picture that is there twice", detail=f"the same as {other}")
        first.setdefault(found.content, uri)


def _orphans(dataset: Dataset, media_root: Path | None) -> Iterator[Finding]:
    known = {uri for uri in dataset.media.uri if is_plain(uri)}
    if media_root is not None:
        listings = os.walk(media_root.resolve())
    else:
        folders = sorted({os.path.dirname(uri) for uri in known})
        listings = itertools.chain.from_iterable(
            itertools.islice(os.walk(folder), 1) for folder in folders
        )
    for parent, below, names in listings:
        below.sort()
        for name in sorted(names):
            path = f"{parent}/{name}"
            if os.path.splitext(name)[1].lower() in _SUFFIXES and path not in known:
                yield Finding(
                    severity=Severity.WARNING, kind="picture that no label file names", place=path
                )
