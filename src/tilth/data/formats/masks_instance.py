"""Object masks: a 16-bit PNG a picture, a pixel's value is its object; a list says what each is.

    masks/a/b.png            the mask of a/b.jpg: 0 is background, k the object k
    masks/instances.jsonl    the classes, then for each picture its objects: id, class, score,
                             crowd, attributes

A pixel holds one object: of masks that overlap one is seen, and each pair is reported with its
pixels. ``--option layout=objects`` writes a PNG of 0 and 255 for each object instead, which keeps
all of them whole. (The layout is ours; there is no common one.)

Also read: PNGs without a list, whose value is the object and all of one class (Penn-Fudan), or
class and object in one number, as KITTI (``class * 256 + object``) and Cityscapes' ``_instanceIds``
have it. Numbers up to 255 in 8 bits are objects; which of these 16-bit numbers are is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_folder
from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.formats._class_list import class_list
from tilth.data.formats._instance_lines import INSTANCES, listed_lines, object_mask
from tilth.data.formats._instance_reading import read_listed
from tilth.data.formats._instance_values import CITYSCAPES, Dialect, meaning
from tilth.data.formats._mask_files import (
    PlacedMask,
    Progress,
    first_pngs,
    mask_names,
    masks_dataset,
    read_placed,
)
from tilth.data.formats._mask_fit import Order, Shapes, cut_overlaps, fit_masks, shapes_of
from tilth.data.formats._mask_pictures import match_pictures
from tilth.data.formats._mask_regions import regions_of
from tilth.data.formats._mask_values import IGNORE, ignored_value
from tilth.data.formats._mask_writing import picture_names, report_unsized, write_each
from tilth.data.holds import Holds
from tilth.data.indexed_png import encode_png
from tilth.data.label_maps import label_map
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import LabelError, SettingsError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_CITYSCAPES_END = "_instanceIds.png"
_MOST_OBJECTS = 65535

TARGET = "folder"
HOLDS = Holds(
    masks=True, scores=True, attributes="all", crowd=True, class_ids=True, supercategories=True
)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What numbers mean where no ``instances.jsonl`` says it.

    Attributes:
        numbers: "values" are objects; "kitti" and "cityscapes" hold the class too; "auto" takes
            ``_instanceIds`` for Cityscapes' and numbers up to 255 for objects.
        classes: the name of the one class; for KITTI and Cityscapes a list of all, where they are
            not those of Cityscapes.
        ignore: the number that is no object: "auto" (255 in an indexed picture, as in VOC),
            "none", or a number.
    """

    numbers: Literal["auto", "values", "kitti", "cityscapes"] = "auto"
    classes: str = ""
    ignore: str = "auto"


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How objects are stored.

    Attributes:
        layout: "map" is one picture of numbers; "objects" one of 0 and 255 for each object.
        order: which of two masks is seen where they overlap in a map.
    """

    layout: Literal["map", "objects"] = "map"
    order: Order = "small_on_top"


def recognises(path: Path) -> bool:
    """A folder with our list, or with masks of Cityscapes."""
    try:
        if (path / INSTANCES).is_file():
            return True
        return any(name.endswith(_CITYSCAPES_END) for name in first_pngs(path))
    except (OSError, ValueError):
        return False


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
    progress: Progress | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read a folder of object masks; of the pictures only the headers are read.

    Args:
        media_root: the folder of the pictures; otherwise ``images`` or ``JPEGImages`` beside the
            masks, or the masks' own.
        on_unknown: what to do with an object of a class that is not in the list.
        report: takes the problems; a new one when left out.
        progress: called with the masks done and all of them.

    Raises:
        LabelError: no masks, a list that cannot be read, an unknown class, or numbers that may
            mean one or the other.
        PathEscapeError: a picture outside ``media_root``.
    """
    report = report or LabelReport(where=str(path))
    if (path / INSTANCES).is_file():
        return read_listed(path, media_root, on_unknown, report, progress), report
    names = mask_names(path, report)
    chosen = [name for name in names if name.endswith(_CITYSCAPES_END)]
    names = chosen or names
    matched = match_pictures([name[:-4] for name in names], path, media_root, report)
    masks = read_placed(path, names, matched, regions_of, report, progress)
    dialect = _dialect(masks, bool(chosen), options, report)
    categories = _categories(dialect, options, report)
    value, kept = _values(masks, options, report)
    found = meaning(value, dialect, categories)
    unknown = kept & (found.rows < 0)
    _report_unknown(masks, value, unknown, on_unknown, report)
    rows = np.where(kept, found.rows, -1)
    dataset = masks_dataset(matched.uris, masks, categories, rows, report, is_crowd=found.crowd)
    return dataset, report


def _dialect(
    masks: Sequence[PlacedMask], is_cityscapes: bool, options: ReadOptions, report: LabelReport
) -> Dialect:
    colour = [mask.name for mask in masks if mask.regions.kind == "colour"]
    if colour:
        raise LabelError("mask of colours, not of numbers", where=f"{report.where}: {colour[0]}")
    if options.numbers != "auto":
        return options.numbers
    if is_cityscapes:
        report.notes.append(f"numbers: class * 1000 + object, as names end {_CITYSCAPES_END}")
        return "cityscapes"
    deep = [mask for mask in masks if mask.regions.values.max(initial=0) > 255]
    if deep:
        raise LabelError(
            "numbers above 255 may be objects, or class and object",
            where=f"{report.where}: {deep[0].name}",
            got=f"up to {deep[0].regions.values.max()}",
            fix="say which: --option numbers=values, kitti or cityscapes",
        )
    report.notes.append("numbers: objects, as none is above 255")
    return "values"


def _categories(
    dialect: Dialect, options: ReadOptions, report: LabelReport
) -> tuple[Category, ...]:
    listed = class_list(options.classes, (), report)
    if dialect != "values":
        if listed is None:
            report.notes.append("classes: those of Cityscapes, 1 to 33")
        return listed or CITYSCAPES
    if listed is None:
        report.notes.append("classes: 'object' for all; --option classes=NAME says another")
        return (Category(name="object", origin_id=0),)
    if len(listed) != 1:
        raise SettingsError(
            "numbers that are objects are of one class",
            got=", ".join(category.name for category in listed[:20]),
            fix="--option classes=NAME, or numbers=kitti or cityscapes",
        )
    return listed


def _values(
    masks: Sequence[PlacedMask], options: ReadOptions, report: LabelReport
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The numbers of all regions, int64 [m], and whether each is an object's, bool [m]."""
    ignore = ignored_value(options.ignore)
    kept = []
    for mask in masks:
        regions = mask.regions
        void = regions.kind == "indexed" and options.ignore == "auto"
        is_void = regions.values == (IGNORE if void else -1 if ignore is None else ignore)
        if is_void.any():
            words = f"{mask.name}: {int(regions.areas[is_void].sum())} pixels"
            report.add("pixels to ignore", "left out", [words])
        kept.append(~is_void)
    values = [mask.regions.values for mask in masks]
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *values]), np.concatenate([none, *kept]).astype(np.bool_)


def _report_unknown(
    masks: Sequence[PlacedMask],
    value: NDArray[np.int64],
    unknown: NDArray[np.bool_],
    on_unknown: str,
    report: LabelReport,
) -> None:
    file = np.repeat(np.arange(len(masks)), [len(mask.regions.values) for mask in masks])
    rows = np.flatnonzero(unknown).tolist()
    places = [f"{masks[file[row]].name}: {value[row]}" for row in rows]
    if places and on_unknown == "error":
        raise LabelError(
            f"a number of no class ({len(places)} such regions)",
            where=f"{report.where}: {places[0]}",
            fix="name all classes with --option classes=FILE, or pass --on-unknown skip",
        )
    report.add("number of no class", "left out", places)


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What object masks hold of a data set; in a map, what is seen of each object."""
    report = LabelReport(where="masks_instance")

    def arrange(shapes: Shapes, labels: AnnotationColumns) -> Shapes:
        if options.layout == "map":
            shapes = cut_overlaps(shapes, labels, options.order, report, classes=False)
        further = list(shapes)[_MOST_OBJECTS:]
        places = [f"label {labels.id[row]}" for row in further]
        report.add(f"object beyond the {_MOST_OBJECTS}th of its picture", "left out", places)
        return {row: shapes[row] for row in list(shapes)[:_MOST_OBJECTS]} if further else shapes

    return fit_masks(dataset, HOLDS, report, arrange), report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
    replace: bool = False,
    progress: Progress | None = None,
) -> LabelReport:
    """Write a folder of object masks in one step: it is there whole or not at all.

    Args:
        media_root: masks are named after the path of their picture below this folder.
        replace: a folder that is there is replaced whole.
        progress: called with the pictures done and all of them.

    Raises:
        DataError: two pictures of one name.
        SettingsError: the folder is there already.
        StorageError: the write failed; what was there before is unchanged.
    """
    fitted, report = adapt(dataset, options=options)
    report.where = str(path)
    media = fitted.media
    names, stems = picture_names(fitted, media_root)
    as_map = options.layout == "map"

    def files_of(row: int) -> Iterable[tuple[str, bytes]]:
        height, width = int(media.height[row]), int(media.width[row])
        if height <= 0 or width <= 0:
            return
        shapes = list(shapes_of(fitted, row).values())
        if as_map:
            numbers = range(1, len(shapes) + 1)
            pixels = label_map(shapes, numbers, height, width, np.uint16)
            yield f"{stems[row]}.png", encode_png(pixels)
            return
        for number, runs in enumerate(shapes, start=1):
            pixels = label_map([runs], [255], height, width, np.uint8)
            yield object_mask(stems[row], number), encode_png(pixels)

    with atomic_folder(path, replace=replace) as folder:
        write_each(folder, len(media), files_of, progress)
        with (folder / INSTANCES).open("wb") as stream:
            stream.writelines(listed_lines(fitted, names, stems, as_map))
    report_unsized(fitted, report)
    return report
