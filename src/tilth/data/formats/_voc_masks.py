"""The masks of Pascal VOC: indexed PNGs, one of objects and one of classes for each picture.

In ``SegmentationObject`` the value k is the k-th object of the XML file, 0 the background and 255
void (the border that nobody is judged by); in ``SegmentationClass`` it is the class. A pixel has
one value: of masks that overlap the smaller one is seen. (Everingham et al., The PASCAL VOC
Challenge, IJCV 2010, and its development kit.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.formats._text_files import files_below
from tilth.data.formats._voc_layout import VocFile
from tilth.data.formats._xml_files import read_whole
from tilth.data.indexed_png import decode_png, encode_png, voc_palette
from tilth.data.label_maps import MAX_MAP_PIXELS, label_map, lay_over, runs_of_values
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry
from tilth.data.runs import Runs, runs_from_json, runs_to_json
from tilth.errors import DataError, LabelError

__all__ = ["ObjectMasks", "mask_pictures", "read_masks", "seen_masks"]

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
    for row, file in enumerate(files if drawn else ()):
        if (file.home, file.stem) not in drawn:
            continue
        path = Path(file.home, OBJECTS, f"{file.stem}.png")
        objects = range(int(first[row]), int(first[row + 1]))
        try:
            size = _take(found, path, (int(width[row]), int(height[row])), objects, report)
        except DataError as error:
            details = f": {error.got}" if error.got else ""
            report.add(error.message, "left out", [f"{path}{details}"])
            continue
        width[row], height[row] = size
    return found


def _drawn(files: list[VocFile], report: LabelReport) -> set[tuple[str, str]]:
    """Home and stem of the files that have a picture of their objects."""
    drawn: set[tuple[str, str]] = set()
    for home in dict.fromkeys(file.home for file in files):
        if Path(home, OBJECTS).is_dir():
            names = files_below(Path(home, OBJECTS), (".png",), report)
            drawn |= {(home, name[:-4]) for name in names}
        elif Path(home, CLASSES).is_dir():
            report.notes.append(
                f"{CLASSES} without {OBJECTS} says nothing of single objects: not read here,"
                " but by the format masks_semantic"
            )
    return drawn


def _take(
    found: ObjectMasks, path: Path, said: tuple[int, int], objects: range, report: LabelReport
) -> tuple[int, int]:
    """Put the masks of one picture's objects into ``found``; gives its width and height."""
    picture = decode_png(read_whole(str(path)), where=str(path))
    width, height = picture.size
    if picture.is_colour:
        raise LabelError("mask of colours, not of indices")
    if all(said) and said != picture.size:
        raise LabelError(
            "mask of another size than its XML file says",
            got=f"{width} x {height}, not {said[0]} x {said[1]}",
        )
    for value, runs in runs_of_values(picture.values).items():
        if value in (0, _VOID):
            continue
        if value > len(objects):
            kind = "mask that no object of the XML file stands for"
            report.add(kind, "left out", [f"{path}: value {value}"])
            continue
        row = objects[value - 1]
        found.segmentation[row] = runs_to_json(runs, height, width)
        found.area[row] = float(runs.area)
    return width, height


def seen_masks(dataset: Dataset, report: LabelReport) -> Dataset:
    """Masks as they can be painted: each pixel one object's, and no more than 254 objects."""
    labels = dataset.annotations
    masked = labels.geometry == Geometry.RLE
    if not masked.any():
        return dataset
    if len(dataset.categories) > _MOST_OBJECTS:
        classes = f"classes beyond the {_MOST_OBJECTS}th"
        report.notes.append(f"{CLASSES} has no value for {classes}: they are void there")
    shapes, geometry, area = list(labels.segmentation), labels.geometry.copy(), labels.area.copy()
    for media_row in np.unique(labels.media_index[masked]).tolist():
        size = int(dataset.media.height[media_row]), int(dataset.media.width[media_row])
        for row, runs in _painted(dataset, media_row, report):
            if runs is None:
                shapes[row], geometry[row] = None, Geometry.BOX
                box = labels.boxes_xyxy[row]
                area[row] = (box[2] - box[0]) * (box[3] - box[1])
            else:
                shapes[row], area[row] = runs_to_json(runs, *size), runs.area
    changed = replace(labels, segmentation=RaggedBytes.of(shapes), geometry=geometry, area=area)
    return replace(dataset, annotations=changed)


def _painted(
    dataset: Dataset, media_row: int, report: LabelReport
) -> Iterator[tuple[int, Runs | None]]:
    """The rows of one picture whose mask is not what is seen of it; None: nothing is."""
    labels, given = dataset.annotations, {}
    rows = dataset.rows_of(media_row)
    for row in range(rows.start, rows.stop):
        if labels.geometry[row] == Geometry.RLE:
            runs = _runs(dataset, media_row, row, report)
            if runs is None:
                yield row, None
            else:
                given[row] = runs
    # The smaller on top: a tie on a person stays, the other way it would be gone.
    order = sorted(given, key=lambda row: (-given[row].area, row))
    layers = lay_over([given[row] for row in order])
    places = [
        f"label {labels.id[order[top]]} over label {labels.id[order[under]]}: {pixels} pixels"
        for (top, under), pixels in layers.hidden.items()
    ]
    report.add("masks that overlap", "the smaller one is seen", places)
    for row, seen in zip(order, layers.seen, strict=True):
        if not len(seen.starts):
            report.add("mask that others cover", "becomes a box", [f"label {labels.id[row]}"])
            yield row, None
        elif seen.area < given[row].area:
            yield row, seen


def _runs(dataset: Dataset, media_row: int, row: int, report: LabelReport) -> Runs | None:
    """The mask of one label, None where it has no place in a picture of objects."""
    labels, media = dataset.annotations, dataset.media
    size = int(media.height[media_row]), int(media.width[media_row])
    fault = ""
    try:
        runs, *found = runs_from_json(labels.segmentation[row] or b"{}")
    except DataError:
        fault = "that cannot be read"
    else:
        if tuple(found) != size or size[0] * size[1] > MAX_MAP_PIXELS:
            fault = "of another size than its picture"
        elif not len(runs.starts):
            fault = "without a pixel"
        elif row - int(dataset.offsets[media_row]) >= _MOST_OBJECTS:
            fault = f"beyond the {_MOST_OBJECTS}th object of its picture"
    if fault:
        report.add(f"mask {fault}", "becomes a box", [f"label {labels.id[row]}"])
        return None
    return runs


def mask_pictures(dataset: Dataset) -> Iterator[tuple[int, bytes, bytes]]:
    """Of each picture with masks its row, and the PNGs of its objects and of its classes."""
    labels, palette = dataset.annotations, voc_palette()
    masked = labels.geometry == Geometry.RLE
    for media_row in np.unique(labels.media_index[masked]).tolist():
        first = int(dataset.offsets[media_row])
        rows = np.flatnonzero(masked[first : int(dataset.offsets[media_row + 1])]) + first
        shapes = [runs_from_json(labels.segmentation[row] or b"{}")[0] for row in rows.tolist()]
        classes = np.minimum(labels.category_index[rows] + 1, _VOID)
        size = int(dataset.media.height[media_row]), int(dataset.media.width[media_row])
        objects, kinds = (
            encode_png(label_map(shapes, values.tolist(), *size, np.uint8), palette=palette)
            for values in (rows - first + 1, classes)
        )
        yield media_row, objects, kinds
