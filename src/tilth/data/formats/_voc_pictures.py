"""The picture that each Pascal VOC file is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import MediaColumns
from tilth.data.formats._columns import media_columns
from tilth.data.formats._media_names import media_uris
from tilth.data.formats._voc_layout import VocFile
from tilth.data.problems import LabelReport

__all__ = ["joined_media", "picture_uris"]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def picture_uris(
    files: list[VocFile], filenames: Sequence[str | None], report: LabelReport
) -> list[str]:
    """The uri of each file's picture.

    It is the one that has the name of the XML file; ``filename`` gives the suffix. Where it says
    another name altogether, what is there decides.

    Raises:
        PathEscapeError: a name that leaves the folder of the pictures.
    """
    names: list[str] = []
    rows_in: dict[str, list[int]] = {}
    for file, filename in zip(files, filenames, strict=True):
        folder, _, stem = file.stem.rpartition("/")
        name = filename or ""
        if not (name.startswith(stem + ".") and name.count(".") == stem.count(".") + 1):
            name = _picture_name(file, folder, stem, name, report)
        rows_in.setdefault(file.pictures, []).append(len(names))
        names.append(f"{folder}/{name}" if folder else name)
    uris = [""] * len(files)
    for pictures, rows in rows_in.items():
        places = [files[row].name for row in rows]
        here = media_uris([names[row] for row in rows], Path(pictures).resolve(), places)
        for row, uri in zip(rows, here, strict=True):
            uris[row] = uri
    return uris


def _picture_name(file: VocFile, folder: str, stem: str, said: str, report: LabelReport) -> str:
    """The name of a picture whose file is not called by it, from what is there."""
    name = re.split(r"[/\\]", said)[-1]
    if name != said:
        report.add(
            "filename with a folder in it", "its last part is taken", [f"{file.name}: {said}"]
        )
    if "#" in name and name == stem:  # a frame of a video
        return name
    place = Path(file.pictures, folder)
    candidates = [stem + suffix for suffix in (PurePosixPath(name).suffix, *_SUFFIXES) if suffix]
    if name == stem or (name and PurePosixPath(name).stem == stem):
        candidates.insert(0, name)
    there = next((each for each in candidates if _is_there(place / each)), None)
    if name and candidates[0] != name and there is None and _is_there(place / name):
        there = name
    if candidates[0] != name:
        taken = there or candidates[0]
        kind = "filename that is not the XML file's name" if name else "XML file without a filename"
        report.add(
            kind, "taken by what is there, else by the file's name", [f"{file.name}: {taken}"]
        )
    return there or candidates[0]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def joined_media(
    media: MediaColumns, report: LabelReport
) -> tuple[MediaColumns, NDArray[np.int64]]:
    """One medium for each picture, where two files are about the same; and its row."""
    rows: dict[str, int] = {}
    row_of = np.fromiter(
        (rows.setdefault(uri, len(rows)) for uri in media.uri), np.int64, len(media)
    )
    if len(rows) == len(media):
        return media, row_of
    first = np.unique(row_of, return_index=True)[1]
    twice = np.setdiff1d(np.arange(len(media)), first)
    places = [media.uri[row] for row in twice.tolist()]
    report.add("picture that two XML files are about", "kept, with the labels of both", places)
    joined = media_columns(
        list(rows), width=media.width[first], height=media.height[first], split=media.split[first]
    )
    return joined, row_of
