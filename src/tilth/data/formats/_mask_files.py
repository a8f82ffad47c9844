"""Many mask pictures, read by a few threads into the columns of a data set.

One picture at a time is held by each thread, as pixels; what stays of it are its runs as text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.formats._columns import annotation_columns, media_columns
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.formats._mask_pictures import PICTURE_LIST, Matched
from tilth.data.formats._mask_regions import Regions
from tilth.data.formats._text_files import files_below
from tilth.data.indexed_png import LabelPicture, decode_png
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category, Geometry
from tilth.errors import DataError, LabelError

__all__ = [
    "PlacedMask",
    "Progress",
    "first_pngs",
    "mask_names",
    "masks_dataset",
    "read_placed",
    "read_regions",
]

Progress = Callable[[int, int], object]
"""Told how many files are done, and of how many."""

_FEW, _LOOK_AT = 50, 4000
_MOST_BYTES = 512 * 2**20
_THREADS = 4
_FILES_A_TASK = 16

T = TypeVar("T")


def first_pngs(folder: Path) -> list[str]:
    """The names of some PNG files below a folder, from a look at its first few thousand entries."""
    found: list[str] = []
    seen = 0
    for _, folders, files in os.walk(folder):
        folders.sort()
        found += [name for name in files if name.lower().endswith(".png")]
        seen += len(folders) + len(files)
        if seen > _LOOK_AT:
            break
    return sorted(found)[:_FEW]


def mask_names(folder: Path, report: LabelReport) -> list[str]:
    """The PNG files below a folder; none where a list says that its pictures have none.

    Raises:
        LabelError: there are none, or pictures in JPEG only.
    """
    names = files_below(folder, (".png",), report)
    if names or (folder / PICTURE_LIST).is_file():
        return names
    lossy = files_below(folder, (".jpg", ".jpeg"), LabelReport(where=""))
    if lossy:
        raise LabelError(
            "masks in JPEG: its compression changes values, so that no class is certain",
            where=f"{folder}: {lossy[0]}",
            expected="PNG",
            fix="write the masks again from their source, as PNG",
        )
    raise LabelError("no masks here", where=str(folder), expected="PNG files")


def read_regions(
    folder: Path,
    names: Sequence[str],
    take: Callable[[LabelPicture], T],
    report: LabelReport,
    progress: Progress | None = None,
) -> Iterator[T | None]:
    """What ``take`` makes of each file, in order; None, and reported, where it cannot be read.

    Args:
        take: works in several threads; may raise a DataError.
        progress: called after every few files.
    """

    def read(start: int) -> list[T | DataError]:
        return [_taken(folder, name, take) for name in names[start : start + _FILES_A_TASK]]

    starts = range(0, len(names), _FILES_A_TASK)
    with ThreadPoolExecutor(_THREADS) as pool:
        for start, block in zip(starts, pool.map(read, starts), strict=True):
            for name, found in zip(names[start:], block, strict=False):
                if isinstance(found, DataError):
                    words = f"{name}: {found.got}" if found.got else name
                    report.add(found.message, "left out", [words])
                    yield None
                else:
                    yield found
            if progress is not None:
                progress(min(start + _FILES_A_TASK, len(names)), len(names))


def _taken(folder: Path, name: str, take: Callable[[LabelPicture], T]) -> T | DataError:
    path = f"{folder}/{name}"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            if (size := os.fstat(handle).st_size) > _MOST_BYTES:
                return LabelError("mask that is too large", where=path, got=f"{size:,} bytes")
            data = stream.read()
        return take(decode_png(data, where=path))
    except OSError as error:
        return LabelError("mask that cannot be read", where=path, got=error.strerror)
    except DataError as error:
        return error


@dataclass(frozen=True)
class PlacedMask:
    """A mask that was read: its file, the row of its picture, what it holds."""

    name: str
    media_row: int
    regions: Regions


def read_placed(
    folder: Path,
    names: Sequence[str],
    matched: Matched,
    take: Callable[[LabelPicture], Regions],
    report: LabelReport,
    progress: Progress | None = None,
    sizes: Mapping[int, tuple[int, int]] | None = None,
) -> list[PlacedMask]:
    """The masks of these files that can be read, belong to a picture and have its size.

    Args:
        sizes: row of a picture -> width and height, where a list says them; the header of a
            picture that is there counts more.
    """
    masks = [
        PlacedMask(name, row, regions)
        for name, row, regions in zip(
            names, matched.rows, read_regions(folder, names, take, report, progress), strict=True
        )
        if regions is not None and row >= 0
    ]
    return _of_its_size(matched.uris, masks, sizes or {}, report)


def _of_its_size(
    uris: Sequence[str],
    masks: list[PlacedMask],
    stated: Mapping[int, tuple[int, int]],
    report: LabelReport,
) -> list[PlacedMask]:
    """A mask is not stretched: each of its pixels is somebody's decision about this picture."""
    there = sorted({mask.media_row for mask in masks if os.path.exists(uris[mask.media_row])})
    width, height = picture_sizes([uris[row] for row in there], LabelReport(where=""))
    found = zip(there, zip(width.tolist(), height.tolist(), strict=True), strict=True)
    sizes = {**stated, **{row: size for row, size in found if all(size)}}
    kept = []
    for mask in masks:
        own = (mask.regions.width, mask.regions.height)
        size = sizes.get(mask.media_row, (0, 0))
        if not all(size):
            size = sizes[mask.media_row] = own  # of several masks the first says the size
        if size == own:
            kept.append(mask)
        else:
            words = "{}: {} x {}, picture {} x {}".format(mask.name, *own, *size)
            kind = "mask of another size than its picture"
            report.add(kind, "left out, not stretched", [words])
    return kept


def masks_dataset(
    uris: Sequence[str],
    masks: Sequence[PlacedMask],
    categories: tuple[Category, ...],
    rows: NDArray[np.int64],
    report: LabelReport,
    *,
    sizes: Mapping[int, tuple[int, int]] | None = None,
    **columns: NDArray[Any] | list[bytes | None],
) -> Dataset:
    """The data set of masks; their pictures are as large as they are.

    Args:
        rows: int64 [m], the category of each region of all masks; -1 leaves it out.
        sizes: as in `read_placed`, for pictures without a mask.
        columns: further columns of `annotation_columns`, one value a region.
    """
    width, height = np.zeros(len(uris), np.int32), np.zeros(len(uris), np.int32)
    for row, size in (sizes or {}).items():
        width[row], height[row] = size
    for mask in masks:
        width[mask.media_row], height[mask.media_row] = mask.regions.width, mask.regions.height
    counts = [len(mask.regions.values) for mask in masks]
    file = np.repeat(np.arange(len(masks)), counts)
    media_rows = np.repeat(np.array([mask.media_row for mask in masks], np.int64), counts)
    texts = RaggedBytes.of(text for mask in masks for text in mask.regions.texts)
    boxes = np.concatenate([np.zeros((0, 4)), *(mask.regions.boxes_xyxy for mask in masks)])
    areas = np.concatenate([np.zeros(0), *(mask.regions.areas for mask in masks)])
    kept = np.flatnonzero(rows >= 0)
    media = media_columns(uris, width=width, height=height)
    annotations = annotation_columns(
        media,
        media_index=media_rows[kept],
        category_index=rows[kept],
        boxes_xyxy=boxes[kept],
        report=report,
        place=lambda row: masks[file[kept[row]]].name,
        geometry=np.full(len(kept), Geometry.RLE, np.uint8),
        segmentation=texts.take(kept),
        area=areas[kept],
        **{name: _taken_rows(column, kept) for name, column in columns.items()},
    )
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations)


def _taken_rows(column: Any, rows: NDArray[np.int64]) -> Any:
    return (
        column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows.tolist()]
    )
