"""Many mask pictures: found, read by a few threads, and matched with the pictures they belong to.

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
from tilth.data.formats._media_names import media_uri
from tilth.data.formats._pictures_by_stem import PICTURE_SUFFIXES, pictures_of
from tilth.data.formats._text_files import files_below
from tilth.data.indexed_png import LabelPicture, decode_png
from tilth.data.label_maps import runs_of_values
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category, Geometry
from tilth.data.runs import Runs, all_to_json
from tilth.errors import DataError, LabelError

__all__ = [
    "PICTURE_LIST",
    "Matched",
    "PlacedMask",
    "Progress",
    "Regions",
    "binary_regions",
    "first_pngs",
    "mask_names",
    "masks_dataset",
    "match_pictures",
    "picture_folder",
    "read_placed",
    "read_regions",
    "regions_of",
    "regions_of_runs",
]

Progress = Callable[[int, int], object]
"""Told how many files are done, and of how many."""

PICTURE_LIST = "pictures.txt"
_PICTURE_FOLDERS = ("images", "JPEGImages", "Images", "leftImg8bit", "image_2")
# What masks are called beyond the name of their picture, and pictures beyond that of their mask.
_ENDINGS = (
    ("_gtFine_instanceIds", "_leftImg8bit"),
    ("_gtFine_labelIds", "_leftImg8bit"),
    ("_instanceIds", ""),
    ("_labelIds", ""),
    ("_mask", ""),
)
_FEW, _LOOK_AT = 50, 4000
_MOST_BYTES = 512 * 2**20
_THREADS = 4
_FILES_A_TASK = 16

T = TypeVar("T")


@dataclass(frozen=True)
class Regions:
    """What one mask picture holds.

    Attributes:
        width, height: pixels.
        values: int64 [k], those that are there, sorted. Of a picture of colours a value is
            ``red << 16 | green << 8 | blue``.
        texts: k run-length masks in JSON.
        boxes_xyxy: float64 [k, 4], pixel edges.
        areas: int64 [k], pixels.
        colours: int64 [k], the colour that the palette gives to each value; -1 where it has none.
        kind: "indexed", "grey", "grey16", "colour"; or "other", of a binary mask.
    """

    width: int
    height: int
    values: NDArray[np.int64]
    texts: list[bytes]
    boxes_xyxy: NDArray[np.float64]
    areas: NDArray[np.int64]
    colours: NDArray[np.int64]
    kind: str


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


def regions_of(picture: LabelPicture, *, zero: bool = False) -> Regions:
    """The regions of all values of a picture, by one pass over its pixels.

    Args:
        zero: those of value 0 too, which is the background otherwise; black is a colour.
    """
    if picture.is_colour:
        kind = "colour"
    elif picture.palette is not None:
        kind = "indexed"
    else:
        kind = "grey" if picture.values.itemsize == 1 else "grey16"
    pixels = _packed(picture.values) if picture.is_colour else picture.values
    by_value = runs_of_values(pixels)
    if not zero and kind != "colour":
        by_value.pop(0, None)
    return regions_of_runs(by_value, picture.size, kind, picture.palette)


def regions_of_runs(
    by_value: dict[int, Runs],
    size: tuple[int, int],
    kind: str,
    palette: NDArray[np.uint8] | None = None,
) -> Regions:
    """The regions of the runs of each value."""
    width, height = size
    count = len(by_value)
    values = np.fromiter(by_value, np.int64, count)
    colours = np.full(count, -1, dtype=np.int64)
    if palette is not None:
        known = values < len(palette)
        colours[known] = _packed(palette)[values[known]]
    boxes = [runs.box_xyxy(height) for runs in by_value.values()]
    return Regions(
        width=width,
        height=height,
        values=values,
        texts=all_to_json(list(by_value.values()), height, width),
        boxes_xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        areas=np.fromiter((runs.area for runs in by_value.values()), np.int64, count),
        colours=colours,
        kind=kind,
    )


def binary_regions(picture: LabelPicture, *, components: bool = False) -> Regions:
    """All that is not 0 as one region of the value 1, or one for each connected part.

    The kind is "other" where there are values between nothing and all.
    """
    pixels = picture.values
    if picture.is_colour:
        if (pixels != pixels[..., :1]).any():
            raise LabelError("mask of colours, not of 0 and 255")
        pixels = pixels[..., 0]
    whole = np.iinfo(pixels.dtype).max
    plain = picture.palette is not None or bool(((pixels <= 1) | (pixels == whole)).all())
    inside = (pixels != 0).astype(np.uint8)
    if components:
        import cv2  # exact here, and a tenth of a second to load

        by_value = runs_of_values(cv2.connectedComponents(inside, connectivity=8)[1])
    else:
        by_value = runs_of_values(inside)
    by_value.pop(0, None)
    return regions_of_runs(by_value, picture.size, "grey" if plain else "other")


def _packed(colours: NDArray[Any]) -> NDArray[np.int32]:
    channels = colours.astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]


@dataclass(frozen=True)
class Matched:
    """Pictures and the masks that belong to them.

    Attributes:
        uris: of the pictures.
        rows: the picture of each mask, by its row; -1 where there is none.
    """

    uris: list[str]
    rows: list[int]


def match_pictures(
    stems: Sequence[str], folder: Path, media_root: Path | None, report: LabelReport
) -> Matched:
    """The pictures of masks: those that ``pictures.txt`` lists, else those of the same name.

    Args:
        stems: of the masks, below ``folder``; several may belong to one picture.
    """
    listed = folder / PICTURE_LIST
    root = (media_root or picture_folder(folder)).resolve()
    if listed.is_file():
        names = _listed(listed)
        rows_of = {_stem(name): row for row, name in enumerate(names)}
        rows = [rows_of.get(stem, -1) for stem in stems]
        lost = sorted({stem for stem, row in zip(stems, rows, strict=True) if row < 0})
        report.add(f"mask of no picture in {PICTURE_LIST}", "left out", lost)
        where = f"{listed}"
        return Matched([media_uri(name, root, where) for name in names], rows)
    known = _pictures(root, folder, report)
    wanted = [_picture_stem(stem, known) for stem in stems]
    unique = list(dict.fromkeys(wanted))
    more = sorted(set(known).difference(unique))
    report.add("picture without a mask", "kept, without labels", [known[stem] for stem in more])
    uris = pictures_of([*unique, *more], root, known, report)
    place = {stem: row for row, stem in enumerate(unique)}
    return Matched(uris, [place[stem] for stem in wanted])


def _stem(name: str) -> str:
    """The name of a picture's mask but for its suffix; a frame keeps the name of its video."""
    return name if "#" in name else os.path.splitext(name)[0]


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError("the list of pictures cannot be read", where=str(path)) from error
    names = [line.removesuffix("\r") for line in lines]
    names = [name for name in names if name.strip()]
    if len({*map(_stem, names)}) < len(names):
        raise LabelError("two pictures that would share one mask", where=str(path))
    return names


def picture_folder(folder: Path) -> Path:
    """Where the pictures of a folder of masks usually lie."""
    places = [base / name for base in (folder.parent, folder) for name in _PICTURE_FOLDERS]
    return next((place for place in places if place.is_dir()), folder)


def _pictures(root: Path, folder: Path, report: LabelReport) -> dict[str, str]:
    """Stem -> name of the pictures below ``root`` that are no masks; of two the first."""
    found: dict[str, str] = {}
    twice = []
    inside = folder.resolve()
    masks = f"{inside.relative_to(root).as_posix()}/" if inside.is_relative_to(root) else None
    for name in files_below(root, PICTURE_SUFFIXES, report, links=True):
        is_png = name.lower().endswith(".png")
        if is_png and masks is not None and (masks == "./" or name.startswith(masks)):
            continue
        stem = _stem(name)
        if stem in found:
            twice.append(f"{name} beside {found[stem]}")
        else:
            found[stem] = name
    report.add("picture that shares its name without suffix", "the first is taken", twice)
    return found


def _picture_stem(stem: str, known: dict[str, str]) -> str:
    if stem in known:
        return stem
    for ending, instead in _ENDINGS:
        if stem.endswith(ending):
            return stem[: -len(ending)] + instead
    return stem


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
