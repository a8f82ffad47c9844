"""Binary masks: a PNG of 0 and 255 for each class in a picture, named ``<picture>__<class>.png``.

    masks/a/b__cat.png     where a/b.jpg shows a cat: 255, elsewhere 0 (one bit is read too)
    masks/classes.txt      the classes in order, one a line
    masks/pictures.txt     the names of the pictures (ours; without it they are found by name)

Classes that overlap are kept whole; objects of one class in a picture become one region. On the
way in a region is one label, unless ``components`` asks for one for each of its connected parts,
which are not the objects where these touch or are cut in two. (There is no definition of this
layout beyond its name; ``__`` and other characters that no file name has are percent escapes in
a class name.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from tilth.data.atomic import atomic_folder
from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.formats._class_list import class_list, classes_text
from tilth.data.formats._labelmap import LABELMAP
from tilth.data.formats._mask_files import (
    Progress,
    first_pngs,
    mask_names,
    masks_dataset,
    read_placed,
)
from tilth.data.formats._mask_fit import Shapes, fit_masks, join_classes, shapes_of
from tilth.data.formats._mask_pictures import PICTURE_LIST, match_pictures
from tilth.data.formats._mask_regions import binary_regions
from tilth.data.formats._mask_writing import (
    picture_names,
    report_unsized,
    write_each,
    write_list,
)
from tilth.data.formats._percent import decoded, encoded
from tilth.data.holds import Holds
from tilth.data.indexed_png import encode_png
from tilth.data.label_maps import label_map
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import LabelError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_LIST = "classes.txt"
_BETWEEN = "__"
# In a file name, or in front of the class, where ___ would not say which two belong together.
_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f]|__|^_|^\s|\s$')

TARGET = "folder"
HOLDS = Holds(masks=True)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a region is, and the classes.

    Attributes:
        classes: a file with one class a line, or names with commas between them; otherwise
            ``classes.txt``, else the names of the files, sorted.
        components: each connected part of a region is a label of its own (pixels that touch at a
            corner are connected).
    """

    classes: str = ""
    components: bool = False


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How masks are stored.

    Attributes:
        bits: 8 for 0 and 255; 1 for a quarter of the bytes.
    """

    bits: Literal["8", "1"] = "8"


def recognises(path: Path) -> bool:
    """A folder with our lists, or whose first PNGs are called ``<picture>__<class>.png``."""
    try:
        if not path.is_dir() or (path / LABELMAP).exists():
            return False
        if (path / _LIST).is_file() and (path / PICTURE_LIST).is_file():
            return True
        found = first_pngs(path)
    except (OSError, ValueError):
        return False
    return bool(found) and all(_BETWEEN in name[:-4].strip("_") for name in found)


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
    progress: Progress | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read a folder of binary masks; of the pictures only the headers are read.

    Args:
        media_root: the folder of the pictures; otherwise ``images`` or ``JPEGImages`` beside the
            masks, or the masks' own.
        on_unknown: what to do with a class that the list of classes lacks.
        report: takes the problems; a new one when left out.
        progress: called with the masks done and all of them.

    Raises:
        LabelError: no masks, or a class that is not in the list.
    """
    report = report or LabelReport(where=str(path))
    names = _with_class(mask_names(path, report), report)
    stems, classes = _parts(names)
    categories = class_list(options.classes, (path / _LIST,), report)
    if categories is None:
        report.notes.append("classes: the names of the files, sorted")
        found = sorted(set(classes))
        categories = tuple(Category(name=name, origin_id=at) for at, name in enumerate(found))
    class_row = {category.name: row for row, category in enumerate(categories)}
    _check_known(names, classes, class_row, on_unknown, report)
    known = [row for row, name in enumerate(classes) if name in class_row]
    known.sort(key=lambda row: class_row[classes[row]])  # labels of a picture in the classes' order
    matched = match_pictures([stems[row] for row in known], path, media_root, report)
    take = partial(binary_regions, components=options.components)
    names = [names[row] for row in known]
    masks = read_placed(path, names, matched, take, report, progress)
    grey = [mask.name for mask in masks if mask.regions.kind == "other"]
    report.add("mask with values other than 0 and 255", "all but 0 is inside", grey)
    row_of = {name: class_row[classes[row]] for name, row in zip(names, known, strict=True)}
    rows = np.repeat(
        np.array([row_of[mask.name] for mask in masks], np.int64),
        [len(mask.regions.values) for mask in masks],
    )
    return masks_dataset(matched.uris, masks, categories, rows, report), report


def _with_class(names: Sequence[str], report: LabelReport) -> list[str]:
    kept = [name for name in names if _BETWEEN in name.rpartition("/")[2]]
    if names and not kept:
        raise LabelError(
            "no mask says its class",
            where=f"{report.where}: {names[0]}",
            expected=f"<picture>{_BETWEEN}<class>.png",
        )
    lost = sorted(set(names).difference(kept))
    report.add("mask without a class in its name", "left out", lost)
    return kept


def _parts(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The stem of the picture and the class that each file name holds."""
    parts = [name[:-4].rpartition(_BETWEEN) for name in names]
    return [stem for stem, _, _ in parts], [decoded(name) for _, _, name in parts]


def _check_known(
    names: Sequence[str],
    classes: Sequence[str],
    known: dict[str, int],
    on_unknown: str,
    report: LabelReport,
) -> None:
    unknown = [row for row, name in enumerate(classes) if name not in known]
    if unknown and on_unknown == "error":
        raise LabelError(
            f"class '{classes[unknown[0]]}' is not in the list of classes",
            where=f"{report.where}: {names[unknown[0]]} ({len(unknown)} such masks)",
            expected=", ".join(list(known)[:20]),
            fix="add the class to the list, or pass --on-unknown skip",
        )
    report.add("mask of an unknown class", "left out", [names[row] for row in unknown])


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What binary masks hold of a data set: one region for each class in a picture."""
    report = LabelReport(where="masks_per_class")

    def arrange(shapes: Shapes, labels: AnnotationColumns) -> Shapes:
        return join_classes(shapes, labels, report)

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
    """Write a folder of binary masks in one step: it is there whole or not at all.

    Args:
        media_root: masks are named after the path of their picture below this folder.
        replace: a folder that is there is replaced whole.
        progress: called with the pictures done and all of them.

    Raises:
        DataError: two pictures of one name, or a class that a list cannot name.
        SettingsError: the folder is there already.
        StorageError: the write failed; what was there before is unchanged.
    """
    fitted, report = adapt(dataset, options=options)
    report.where = str(path)
    names, stems = picture_names(fitted, media_root)
    labels, media = fitted.annotations, fitted.media
    parts = [encoded(category.name, _UNSAFE) for category in fitted.categories]

    def files_of(row: int) -> Iterable[tuple[str, bytes]]:
        height, width = int(media.height[row]), int(media.width[row])
        for label, runs in shapes_of(fitted, row).items():
            mask = label_map([runs], [255], height, width, np.uint8)
            name = f"{stems[row]}{_BETWEEN}{parts[labels.category_index[label]]}.png"
            yield name, encode_png(mask.astype(np.bool_) if options.bits == "1" else mask)

    with atomic_folder(path, replace=replace) as folder:
        write_each(folder, len(media), files_of, progress)
        (folder / _LIST).write_bytes(classes_text(fitted.categories))
        write_list(folder, names)
    report_unsized(fitted, report)
    return report
