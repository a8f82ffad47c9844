"""Class masks: an indexed PNG a picture, a pixel's value is its class; ``labelmap.txt`` names them.

    masks/a/b.png          the mask of a/b.jpg: 0 is background, k the k-th class, 255 to ignore
    masks/labelmap.txt     background, then the classes in order, as CVAT and Datumaro write it
    masks/pictures.txt     the names of the pictures (ours; without it they are found by name)

Eight bits with the palette of VOC up to 254 classes; sixteen bits of grey above, where 65535 is to
ignore. (The PASCAL VOC development kit; its "void", 255, is the border that nobody is judged by.)
Indices are read, not colours; masks of colours need an exact list of them, and a colour that is not
listed is an error. Objects of one class in a picture become one region; of classes that overlap,
one is seen. Also read: ``SegmentationClass`` beside ``labelmap.txt``, Cityscapes' ``_labelIds``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace as with_fields
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from tilth.data.atomic import atomic_folder
from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.formats._labelmap import (
    LABELMAP,
    ValueClasses,
    labelmap_text,
    value_classes,
)
from tilth.data.formats._mask_files import (
    PlacedMask,
    Progress,
    first_pngs,
    mask_names,
    masks_dataset,
    read_placed,
)
from tilth.data.formats._mask_fit import (
    Order,
    Shapes,
    cut_overlaps,
    fit_masks,
    join_classes,
    shapes_of,
)
from tilth.data.formats._mask_pictures import match_pictures
from tilth.data.formats._mask_regions import regions_of
from tilth.data.formats._mask_values import IGNORE, IGNORE_16, By, class_rows
from tilth.data.formats._mask_writing import picture_names, report_unsized, write_each, write_list
from tilth.data.holds import Holds
from tilth.data.indexed_png import encode_png, voc_palette
from tilth.data.label_maps import label_map
from tilth.data.problems import LabelReport
from tilth.errors import DataError, SettingsError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_CLASS_FOLDER = "SegmentationClass"
_CITYSCAPES = "_labelIds.png"

TARGET = "folder"
HOLDS = Holds(masks=True)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How values become classes.

    Attributes:
        classes: a labelmap, a file with one class a line (``name,value`` in a .csv), or names with
            commas between them; otherwise ``labelmap.txt``, else the values themselves.
        values: "index" is the definition; "colour" goes by the palette or the pixels' colours;
            "binary" takes all that is not 0 for the one class; "auto" reads colours where a mask
            has no indices, and refuses a palette that contradicts the labelmap.
        ignore: the value that stands for no class: "auto" (255, in 16 bits 65535), "none", or a
            number.
        ignore_as: a class that the ignored pixels become; empty leaves them out, reported.
        first_value: the value of the first class where the list has no background; 0 where there
            is no background at all.
    """

    classes: str = ""
    values: By = "auto"
    ignore: str = "auto"
    ignore_as: str = ""
    first_value: int = 1


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How classes become values.

    Attributes:
        ignore_as: a class that is written as the value to ignore.
        order: which of two masks is seen where they overlap.
    """

    ignore_as: str = ""
    order: Order = "small_on_top"


def recognises(path: Path) -> bool:
    """A folder with a labelmap and PNGs, and no XML files of VOC."""
    try:
        if not (path / LABELMAP).is_file() or (path / "Annotations").exists():
            return False
        return (path / _CLASS_FOLDER).is_dir() or bool(first_pngs(path))
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
    """Read a folder of class masks; of the pictures only the headers are read.

    Args:
        media_root: the folder of the pictures; otherwise ``images`` or ``JPEGImages`` beside the
            masks, or the masks' own.
        on_unknown: what to do with a value or colour that no class has.
        report: takes the problems; a new one when left out.
        progress: called with the masks done and all of them.

    Raises:
        LabelError: no masks, a value or colour of no class, or a labelmap that cannot be read.
    """
    report = report or LabelReport(where=str(path))
    folder = path / _CLASS_FOLDER if (path / _CLASS_FOLDER).is_dir() else path
    classes = value_classes(options.classes, (folder, path), options.first_value, report)
    names = mask_names(folder, report)
    chosen = [name for name in names if name.endswith(_CITYSCAPES)]
    names = chosen or names
    matched = match_pictures([name[:-4] for name in names], folder, media_root, report)
    zero = options.values == "colour" or (classes is not None and 0 in classes.values)
    take = partial(regions_of, zero=zero)
    masks = read_placed(folder, names, matched, take, report, progress)
    return _dataset(matched.uris, masks, classes, on_unknown, options, report), report


def _dataset(
    uris: list[str],
    masks: list[PlacedMask],
    classes: ValueClasses | None,
    on_unknown: str,
    options: ReadOptions,
    report: LabelReport,
) -> Dataset:
    found = class_rows(
        [(mask.name, mask.regions) for mask in masks],
        classes,
        report,
        on_unknown=on_unknown,
        by=options.values,
        ignore=options.ignore,
        ignore_as=options.ignore_as,
    )
    return masks_dataset(uris, masks, found.categories, found.rows, report)


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What class masks hold of a data set: one region for each class in a picture."""
    report = LabelReport(where="masks_semantic")

    def arrange(shapes: Shapes, labels: AnnotationColumns) -> Shapes:
        seen = cut_overlaps(shapes, labels, options.order, report, classes=True)
        return join_classes(seen, labels, report)

    ids = [category.origin_id for category in dataset.categories]
    kept = ids == list(range(1, len(ids) + 1))  # those of masks are
    return fit_masks(dataset, with_fields(HOLDS, class_ids=kept), report, arrange), report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
    replace: bool = False,
    progress: Progress | None = None,
) -> LabelReport:
    """Write a folder of class masks in one step: it is there whole or not at all.

    Args:
        media_root: masks are named after the path of their picture below this folder.
        replace: a folder that is there is replaced whole.
        progress: called with the pictures done and all of them.

    Raises:
        DataError: two pictures of one name, or more classes than values.
        SettingsError: the folder is there already.
        StorageError: the write failed; what was there before is unchanged.
    """
    fitted, report = adapt(dataset, options=options)
    report.where = str(path)
    media = fitted.media
    names, stems = picture_names(fitted, media_root)
    values, deep = _class_values(fitted, options)
    dtype, palette = (np.uint16, None) if deep else (np.uint8, voc_palette())

    def files_of(row: int) -> Iterable[tuple[str, bytes]]:
        height, width = int(media.height[row]), int(media.width[row])
        if height <= 0 or width <= 0:
            return
        shapes = shapes_of(fitted, row)
        found = [values[fitted.annotations.category_index[label]] for label in shapes]
        pixels = label_map(list(shapes.values()), found, height, width, dtype)
        yield f"{stems[row]}.png", encode_png(pixels, palette=palette)

    listed = [c.name for c in fitted.categories if c.name != options.ignore_as]
    with atomic_folder(path, replace=replace) as folder:
        write_each(folder, len(media), files_of, progress)
        (folder / LABELMAP).write_text(labelmap_text(listed), encoding="utf-8", newline="\n")
        write_list(folder, names)
    report_unsized(fitted, report)
    return report


def _class_values(dataset: Dataset, options: WriteOptions) -> tuple[list[int], bool]:
    """The value of each class, and whether it takes 16 bits."""
    names = [category.name for category in dataset.categories]
    listed = [name for name in names if name != options.ignore_as]
    if options.ignore_as and options.ignore_as not in names:
        raise SettingsError(
            "no class of that name to ignore", expected=", ".join(names), got=options.ignore_as
        )
    if len(listed) >= IGNORE_16:
        raise DataError("more classes than values", expected=f"below {IGNORE_16}")
    deep = len(listed) >= IGNORE
    place = {name: value for value, name in enumerate(listed, start=1)}
    ignore = IGNORE_16 if deep else IGNORE
    return [place.get(name, ignore) for name in names], deep
