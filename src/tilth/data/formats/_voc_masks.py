"""The masks of Pascal VOC: indexed PNGs, one of objects and one of classes for each picture.

In ``SegmentationObject`` the value k is the k-th object of the XML file, 0 the background and 255
void (the border that nobody is judged by); in ``SegmentationClass`` it is the class. A pixel has
one value, so that of two masks that overlap the later one is seen. (Everingham et al., The PASCAL
VOC Challenge, IJCV 2010, and the development kit's `VOClabelcolormap` for the palette.)
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tilth.data import rle
from tilth.data.dataset import Dataset
from tilth.data.formats._text_files import files_below
from tilth.data.formats._voc_layout import VocFile
from tilth.data.images import MAX_PIXELS
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry
from tilth.errors import DataError, LabelError

__all__ = ["ObjectMasks", "mask_pictures", "read_masks", "seen_masks", "voc_palette"]

OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"
_VOID = 255
_MOST_OBJECTS = 254


@dataclass(frozen=True)
class ObjectMasks:
    """The objects that have a mask: row among all objects -> run-length JSON, and pixels."""

    segmentation: dict[int, bytes]
    area: dict[int, float]

    def of(self, rows: NDArray[np.int64]) -> tuple[RaggedBytes, NDArray[np.float64]]:
        """The masks of these rows and their areas; None and NaN where there is none."""
        if not self.area:
            return RaggedBytes.empty(len(rows)), np.full(len(rows), np.nan)
        shapes = RaggedBytes.of(self.segmentation.get(row) for row in rows.tolist())
        return shapes, np.array([self.area.get(row, np.nan) for row in rows.tolist()], np.float64)


def voc_palette() -> NDArray[np.uint8]:
    """uint8 [256, 3]: the colour of each index, its bits dealt out to red, green and blue.

    >>> voc_palette()[[0, 1, 15]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128]]
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return colours


def read_masks(
    files: list[VocFile],
    first: NDArray[np.int64],
    width: NDArray[np.int32],
    height: NDArray[np.int32],
    report: LabelReport,
) -> ObjectMasks:
    """The masks of the objects of all files.

    Args:
        first: int64 [n + 1]; file i has the objects ``first[i]:first[i + 1]``.
        width, height: int32 [n]; where 0, the size of the mask is put in.
    """
    found = ObjectMasks({}, {})
    drawn = _drawn(files, report)
    for row, file in enumerate(files):
        if (file.home, file.stem) not in drawn:
            continue
        path = file.home / OBJECTS / f"{file.stem}.png"
        try:
            indices = _indices(path)
        except LabelError as error:
            report.add(error.message, "left out", [f"{path}: {error.got}"])
            continue
        size = (indices.shape[1], indices.shape[0])
        said = (int(width[row]), int(height[row]))
        if all(said) and said != size:
            kind = "mask of another size than its XML file says"
            report.add(
                kind, "left out", [f"{path}: {size[0]} x {size[1]}, not {said[0]} x {said[1]}"]
            )
            continue
        width[row], height[row] = size
        _take(found, indices, range(int(first[row]), int(first[row + 1])), path, report)
    return found


def _drawn(files: list[VocFile], report: LabelReport) -> set[tuple[Path, str]]:
    """Home and stem of the files that have a picture of their objects."""
    drawn: set[tuple[Path, str]] = set()
    for home in dict.fromkeys(file.home for file in files):
        if (home / OBJECTS).is_dir():
            names = files_below(home / OBJECTS, (".png",), report)
            drawn |= {(home, name[:-4]) for name in names}
        elif (home / CLASSES).is_dir():
            report.notes.append(
                f"{CLASSES} without {OBJECTS} says nothing of single objects: not read here,"
                " but by the format masks_semantic"
            )
    return drawn


def _indices(path: Path) -> NDArray[np.uint8]:
    """uint8 [h, w].

    Raises:
        LabelError: no picture, or one of colours instead of indices.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L"):
                raise LabelError("mask that is no indexed picture", got=f"mode {picture.mode}")
            if picture.width * picture.height > MAX_PIXELS:
                raise LabelError(
                    "mask that is too large", got=f"{picture.width} x {picture.height}"
                )
            return np.asarray(picture)
    except LabelError:
        raise
    except (
        OSError,
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        raise LabelError("mask that cannot be read", got=str(error)) from error


def _take(
    found: ObjectMasks, indices: NDArray[np.uint8], rows: range, path: Path, report: LabelReport
) -> None:
    values = np.flatnonzero(np.bincount(indices.ravel(), minlength=256)[:_VOID])
    size = list(indices.shape)
    for value in values[values > 0].tolist():
        if value > len(rows):
            kind = "mask that no object of the XML file stands for"
            report.add(kind, "left out", [f"{path}: value {value}"])
            continue
        counts = rle.encode(indices == value)
        row = rows[value - 1]
        found.segmentation[row] = msgspec.json.encode(
            {"size": size, "counts": rle.to_text(counts).decode()}
        )
        found.area[row] = float(rle.area(counts))


def seen_masks(dataset: Dataset, report: LabelReport) -> Dataset:
    """Masks as they can be painted: each pixel one object's, and no more than 254 objects."""
    labels = dataset.annotations
    masked = labels.geometry == Geometry.RLE
    if not masked.any():
        return dataset
    if len(dataset.categories) > _MOST_OBJECTS:
        report.notes.append(
            f"{CLASSES} has no value for classes beyond the {_MOST_OBJECTS}th: void"
        )
    shapes, geometry, area = list(labels.segmentation), labels.geometry.copy(), labels.area.copy()
    media_rows = np.unique(labels.media_index[masked])
    for media_row in media_rows.tolist():
        rows = dataset.rows_of(media_row)
        for row, mask in _painted(dataset, rows, report):
            if mask is None:
                shapes[row], geometry[row] = None, Geometry.BOX
                box = labels.boxes_xyxy[row]
                area[row] = (box[2] - box[0]) * (box[3] - box[1])
            else:
                counts = rle.encode(mask)
                shapes[row] = msgspec.json.encode(
                    {"size": list(mask.shape), "counts": rle.to_text(counts).decode()}
                )
                area[row] = rle.area(counts)
    changed = replace(labels, segmentation=RaggedBytes.of(shapes), geometry=geometry, area=area)
    return replace(dataset, annotations=changed)


def _painted(
    dataset: Dataset, rows: slice, report: LabelReport
) -> Iterator[tuple[int, NDArray[np.bool_] | None]]:
    """The rows of one picture whose mask is not what is seen of it; None: nothing is."""
    labels = dataset.annotations
    media_row = labels.media_index[rows.start]
    size = (int(dataset.media.height[media_row]), int(dataset.media.width[media_row]))
    owner = np.zeros(size if 0 < size[0] * size[1] <= MAX_PIXELS else (0, 0), dtype=np.uint8)
    pixels: dict[int, int] = {}
    for row in range(rows.start, rows.stop):
        if labels.geometry[row] != Geometry.RLE:
            continue
        value = row - rows.start + 1
        mask = _mask_or_none(labels.segmentation[row], owner.shape)
        if mask is None or value > _MOST_OBJECTS:
            fault = "that does not fit its picture"
            if mask is not None:
                fault = f"beyond the {_MOST_OBJECTS}th object of its picture"
            report.add(f"mask {fault}", "becomes a box", [f"label {labels.id[row]}"])
            yield row, None
        else:
            owner[mask] = value
            pixels[row] = int(mask.sum())
    seen_pixels = np.bincount(owner.ravel(), minlength=256)
    for row, count in pixels.items():
        value = row - rows.start + 1
        if not seen_pixels[value]:
            kind = "mask that others cover" if count else "mask without a pixel"
            report.add(kind, "becomes a box", [f"label {labels.id[row]}"])
            yield row, None
        elif seen_pixels[value] < count:
            kind = "mask that others cover in part"
            report.add(kind, "cut to what is seen", [f"label {labels.id[row]}"])
            yield row, owner == value


def _mask_or_none(text: bytes | None, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    try:
        counts, height, width = rle.from_json(text or b"{}")
        return rle.decode(counts, height, width) if (height, width) == size else None
    except (DataError, ValueError, OverflowError):
        return None


def mask_pictures(dataset: Dataset) -> Iterator[tuple[int, bytes, bytes]]:
    """Of each picture with masks its row, and the PNGs of its objects and of its classes."""
    labels = dataset.annotations
    media_rows = np.unique(labels.media_index[labels.geometry == Geometry.RLE])
    for media_row in media_rows.tolist():
        rows = dataset.rows_of(media_row)
        shape = (int(dataset.media.height[media_row]), int(dataset.media.width[media_row]))
        objects, classes = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        for row in range(rows.start, rows.stop):
            if labels.geometry[row] == Geometry.RLE:
                counts, height, width = rle.from_json(labels.segmentation[row] or b"{}")
                mask = rle.decode(counts, height, width)
                objects[mask] = row - rows.start + 1
                classes[mask] = min(int(labels.category_index[row]) + 1, _VOID)
        yield media_row, _png(objects), _png(classes)


def _png(indices: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(indices)
    picture.putpalette(voc_palette().tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
