"""Mask pictures written by a few threads, one picture of pixels at a time in each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tilth.data.dataset import Dataset
from tilth.data.formats._mask_files import Progress
from tilth.data.formats._mask_pictures import PICTURE_LIST
from tilth.data.formats._media_names import label_stems, relative_names
from tilth.data.problems import LabelReport
from tilth.errors import DataError, PathEscapeError

__all__ = ["picture_names", "report_unsized", "write_each", "write_list"]

_THREADS = 4
_PICTURES_A_TASK = 16


def picture_names(dataset: Dataset, media_root: Path | None) -> tuple[list[str], list[str]]:
    """What each picture is called below ``media_root``, and its masks but for their suffix.

    Raises:
        DataError: two pictures that would share one mask, or a name that cannot be listed.
        PathEscapeError: a picture outside ``media_root``.
    """
    names = relative_names(dataset.media.uri, media_root)
    for name in names:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise PathEscapeError("a mask outside the folder to write", got=repr(name))
        if name.strip() == "" or "\n" in name or "\r" in name:
            raise DataError(
                "a picture whose name a list does not hold", got=repr(name), fix="rename it"
            )
    # A frame of a video (clip.mp4#frame=12) keeps its whole name: the clip has many.
    return names, label_stems([f"{name}.x" if "#" in name else name for name in names])


def write_each(
    folder: Path,
    count: int,
    files_of: Callable[[int], Iterable[tuple[str, bytes]]],
    progress: Progress | None = None,
) -> None:
    """Write the files of each of ``count`` pictures.

    Args:
        files_of: row of a picture -> names below ``folder``, and their bytes.

    Raises:
        OSError: the write failed; for `atomic_folder` to report.
    """
    made = {""}

    def write(start: int) -> None:
        for row in range(start, min(start + _PICTURES_A_TASK, count)):
            for name, data in files_of(row):
                parent = os.path.dirname(name)
                if parent not in made:
                    (folder / parent).mkdir(parents=True, exist_ok=True)
                    made.add(parent)
                with open(folder / name, "xb") as stream:
                    stream.write(data)

    starts = range(0, count, _PICTURES_A_TASK)
    with ThreadPoolExecutor(_THREADS) as pool:
        for start, _ in zip(starts, pool.map(write, starts), strict=True):
            if progress is not None:
                progress(min(start + _PICTURES_A_TASK, count), count)


def write_list(folder: Path, names: Sequence[str]) -> None:
    """The names of all pictures, those without a mask too, with their suffixes."""
    text = "".join(f"{name}\n" for name in names)
    (folder / PICTURE_LIST).write_text(text, encoding="utf-8", newline="\n")


def report_unsized(dataset: Dataset, report: LabelReport) -> None:
    """Pictures whose size nothing says have no mask: it would need one."""
    media = dataset.media
    unsized = np.flatnonzero((media.width <= 0) | (media.height <= 0)).tolist()
    report.add(
        "picture of unknown size", "listed, without a mask", [media.uri[row] for row in unsized]
    )
