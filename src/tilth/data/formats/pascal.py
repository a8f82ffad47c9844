"""Pascal VOC XML: boxes with pose, truncated, difficult, occluded, parts; masks as indexed PNG.

A file a picture (``Annotations/``), splits in ``ImageSets/Main``, masks in ``SegmentationObject``.
(Everingham et al., The PASCAL VOC Challenge, IJCV 2010, and its development kit.) There, corners
are pixels counted from 1, both ends inside: x0 = xmin - 1, x1 = xmax. Most tools that write the
format today put pixel edges from 0 there. No file says which; ``origin`` does, or evidence: only
whole numbers, none below 1, and boxes that end at xmax = width or ymax = height, can hardly be
edges from 0. (Without the last, the reading that moves nothing is taken.)

There is no list of classes either: ours and other tools' ``labelmap.txt`` is read and written.
A picture is the one that has the XML file's name, which is how the development kit finds it; where
``filename`` says another, and only that one is there, it is that one, and the report says so.
Not kept: ``folder``, ``path``, ``source``, ``depth``. Pictures are not copied.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_folder
from tilth.data.dataset import Dataset
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._labelmap import LABELMAP, labelmap_text
from tilth.data.formats._media_names import label_stems, relative_names
from tilth.data.formats._voc_layout import find_files, origin_line, read_splits, split_lists
from tilth.data.formats._voc_masks import mask_pictures, read_masks, seen_masks
from tilth.data.formats._voc_objects import (
    VocObjects,
    object_classes,
    read_objects,
    stated_classes,
)
from tilth.data.formats._voc_origin import pixel_edges, shifted_attributes
from tilth.data.formats._voc_pictures import joined_media, picture_uris
from tilth.data.formats._voc_text import file_texts
from tilth.data.formats._whole_pixels import whole_pixels
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry
from tilth.errors import DataError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_HEAD_BYTES = 4096
_WRITERS = 2
_FILES_A_TASK = 256
_TASKS_AHEAD = 8
_OURS = re.compile(rb"<annotation[\s>].*?<(?:filename|size|object)>", re.DOTALL)

TARGET = "folder"
HOLDS = Holds(boxes=True, masks=True, attributes="all", splits=True)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Where corners are counted from, and the classes where no list says them.

    Attributes:
        origin: "voc1" are pixels from 1, both ends inside; "zero" are edges from 0; "auto" decides.
        classes: a file with one class a line, or names with commas between them.
    """

    origin: Literal["auto", "voc1", "zero"] = "auto"
    classes: str = ""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """What corners mean; `labelmap.txt` says it too.

    Attributes:
        origin: "zero" keeps every edge; "voc1" is the definition, in whole pixels.
    """

    origin: Literal["zero", "voc1"] = "zero"


def recognises(path: Path) -> bool:
    """An XML file that begins as VOC's do, or a folder with one."""
    try:
        if path.is_file():
            return path.suffix.lower() == ".xml" and _begins_as_ours(path)
        for place in (path / "Annotations", path / "annotations", path):
            for parent, _, names in os.walk(place):
                for name in names:
                    if name.lower().endswith(".xml"):
                        return _begins_as_ours(Path(parent, name))
    except (OSError, ValueError):
        pass
    return False


def _begins_as_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return _OURS.search(stream.read(_HEAD_BYTES)) is not None


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read a folder of VOC files, or one file; the pictures are not opened.

    Args:
        media_root: the folder of the pictures; otherwise ``JPEGImages`` or ``images`` beside
            ``Annotations``, or the folder of the XML file.
        on_unknown: what to do with an object of a class that the list of classes lacks.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: no file that can be read, an unknown class, or a list that cannot be read.
        PathEscapeError: a ``filename`` that leaves the folder of the pictures.
    """
    report = report or LabelReport(where=str(path))
    objects = read_objects(find_files(path, media_root, report), report)
    files, records = objects.files, objects.records
    names, stated = stated_classes(path, files, options.classes, report)
    index, categories = object_classes(objects, names, on_unknown, report)
    width, height = (np.array(side, np.int32) for side in (records.width, records.height))
    masks = read_masks(files, objects.first, width, height, report)
    media, media_row = joined_media(
        media_columns(
            picture_uris(files, records.filename, report),
            width=width,
            height=height,
            split=read_splits(files, report),
        ),
        report,
    )
    corners, shift = pixel_edges(objects, width, height, options.origin, stated, report)
    keep = _usable(objects, index, report)
    segmentation, area = masks.of(keep)
    annotations = annotation_columns(
        media,
        media_index=media_row[objects.file[keep]],
        category_index=index[keep],
        boxes_xyxy=corners[keep],
        report=report,
        place=lambda row: objects.place(int(keep[row])),
        geometry=np.where(np.isnan(area), Geometry.BOX, Geometry.RLE),
        segmentation=segmentation,
        area=area,
        attributes=shifted_attributes(objects, keep, shift),
    )
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations), report


def _usable(
    objects: VocObjects, index: NDArray[np.int64], report: LabelReport
) -> NDArray[np.int64]:
    """Rows of the objects with a class and a box."""
    boxless = np.zeros(len(index), dtype=np.bool_)
    boxless[objects.records.boxless] = True
    boxless &= index >= 0
    kind = "object without a box of four numbers"
    report_rows(report, kind, "left out", boxless, objects.place)
    return np.flatnonzero((index >= 0) & ~boxless)


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What VOC holds of a data set, and what that costs."""
    report = LabelReport(where="pascal")
    dataset = seen_masks(fit(dataset, HOLDS, report), report)
    if options.origin == "voc1":
        dataset = whole_pixels(dataset, report)
    return dataset, report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
    replace: bool = False,
) -> LabelReport:
    """Write the folder of a VOC set, without its pictures: it is there whole or not at all.

    Args:
        media_root: files are named after the pictures' paths below this folder.
        replace: a folder that is there is replaced whole.

    Returns:
        What the format could not hold.

    Raises:
        DataError: names that two files would share, or that XML has no place for.
        StorageError: the write failed; what was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    names = relative_names(dataset.media.uri, media_root)
    stems = _stems(names)
    for category in dataset.categories:
        _refuse_odd_class(category.name)
    with atomic_folder(path, replace=replace) as folder:
        _write_annotations(dataset, folder / "Annotations", names, stems, options)
        for media_row, objects, classes in mask_pictures(dataset):
            for kind, png in (("SegmentationObject", objects), ("SegmentationClass", classes)):
                _write_file(folder / kind / f"{stems[media_row]}.png", png)
        for place, entries in split_lists(stems, dataset.media.split).items():
            _write_file(folder / place, entries.encode())
        labelmap = labelmap_text([category.name for category in dataset.categories])
        _write_file(folder / LABELMAP, (origin_line(options.origin) + labelmap).encode())
    return report


def _stems(names: Sequence[str]) -> list[str]:
    """The name of each picture's file; a frame of a video keeps its whole name."""
    for name in names:
        if "\n" in name or "\r" in name:
            raise DataError("a line end in the name of a picture", got=repr(name), fix="rename it")
    frames = [name for name in names if "#" in name]
    others = iter(label_stems([name for name in names if "#" not in name]))
    return [name if "#" in name else next(others) for name in names] if frames else list(others)


def _refuse_odd_class(name: str) -> None:
    if name.splitlines() != [name] or name.strip() != name:
        raise DataError(
            "a class name with a line end, or with white space at its ends",
            got=repr(name),
            fix="rename the class",
        )


def _write_annotations(
    dataset: Dataset,
    folder: Path,
    names: Sequence[str],
    stems: Sequence[str],
    options: WriteOptions,
) -> None:
    parents = [name.rpartition("/")[0] for name in names]
    for parent in sorted({"", *parents}):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    said = [parent.rpartition("/")[2] or "JPEGImages" for parent in parents]
    files = [name.rpartition("/")[2] for name in names]
    texts = file_texts(dataset, said, files, options.origin)
    paths = (f"{folder.as_posix()}/{stem}.xml" for stem in stems)
    with ThreadPoolExecutor(_WRITERS) as pool:
        written = deque[Future[None]]()
        while block := list(islice(zip(paths, texts, strict=True), _FILES_A_TASK)):
            written.append(pool.submit(_write_texts, block))
            if len(written) > _TASKS_AHEAD:
                written.popleft().result()
        for each in written:
            each.result()


def _write_texts(block: list[tuple[str, str]]) -> None:
    for path, text in block:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            data = memoryview(text.encode())
            while data:
                data = data[os.write(handle, data) :]
        finally:
            os.close(handle)


def _write_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
