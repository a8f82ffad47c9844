"""Ultralytics YOLO (YOLOv5 to YOLO26): data.yaml, splits, boxes and outlines as text files.

    data.yaml              train, val and test (a folder, a list of pictures, or several), names
    images/train/a.jpg     the pictures
    labels/train/a.txt     their labels: ``labels`` in place of the last folder ``images``

A row is ``class cx cy w h`` or ``class x1 y1 x2 y2 x3 y3 ...``, divided by width and height.
(docs.ultralytics.com, "Object Detection Datasets", "Instance Segmentation Datasets"; ultralytics
`data/utils.py`, `verify_image_label` and `img2label_paths`.) What follows from them:

- A file with one outline is read as outlines only, so its boxes are written as rectangles.
- A row has one outline. Several parts of an object are joined by bridges of no width, and taken
  apart again where they are exactly such.
- A prediction has a confidence at the end of its row, and a tracker's an object number; a picture
  with a number outside [0, 1] is left out by Ultralytics. Neither is lost here.
- Oriented boxes are outlines of four corners. Key points are refused, or left out by option.

Ultralytics turns pictures as their EXIF says before it looks at labels; here sizes are those of the
stored pixels, so turn such pictures before you import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as with_
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_folder
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._media_names import label_stems, relative_names
from tilth.data.formats._placed_pictures import place_pictures
from tilth.data.formats._text_files import write_label_files
from tilth.data.formats._ultralytics_files import find_files
from tilth.data.formats._ultralytics_rows import (
    kinds_of,
    outlines,
    outside_rows,
    report_shares,
    row_lines,
    with_one_outline,
)
from tilth.data.formats._ultralytics_yaml import fields_of, labels_of, read_data_yaml, written
from tilth.data.formats._yolo_rows import (
    YoloRows,
    boxes_of,
    known_classes,
    of_sized_pictures,
    read_rows,
    sized,
    sizes_of,
)
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry, Split
from tilth.errors import EmptyDatasetError, LabelError, TilthError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_FOLDERS = {Split.TRAIN: "train", Split.VAL: "val", Split.TEST: "test"}

TARGET = "folder"
HOLDS = Holds(boxes=True, polygons=True, splits=True)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What the numbers of a row are.

    Attributes:
        rows: auto goes by how many there are (4: a box, 6 and more: an outline) and, where that is
            not enough, by their values; pose takes the box and leaves the key points out.
        last: what a number is that is one too many: auto takes shares as confidence and whole
            numbers as tracks.
        width, height: of all pictures, which then need not be there; 0 reads their headers.
    """

    rows: Literal["auto", "boxes", "polygons", "pose"] = "auto"
    last: Literal["auto", "confidence", "track_id"] = "auto"
    width: int = 0
    height: int = 0


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """What is written beside the labels, and in them.

    Attributes:
        pictures: whether pictures are linked or copied into ``images``, where a trainer looks.
        confidence: scores at the end of the rows, as predictions have them; no file to train on.
    """

    pictures: Literal["none", "link", "copy"] = "none"
    confidence: bool = False


def recognises(path: Path) -> bool:
    """A YAML file with names and a split, or a folder with a data.yaml."""
    try:
        file = _yaml_file(path)
        fields = fields_of(file)
    except (TilthError, OSError, ValueError):
        return False
    return ("names" in fields or "nc" in fields) and not fields.keys().isdisjoint(
        ("train", "val", "validation", "test")
    )


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read all splits; sizes come from the pictures' headers.

    Args:
        path: ``data.yaml``, or the folder that has it.
        media_root: where pictures are looked for by the names of their label files, before the
            set's own ``images``; or the folder that ``path`` in data.yaml means.
        on_unknown: what to do with labels of a class that has no name.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: no such set, an unknown class, or rows with key points.
        PathEscapeError: a listed picture that leaves its folder.
        EmptyDatasetError: no pictures.
    """
    report = report or LabelReport(where=str(path))
    data = read_data_yaml(_yaml_file(path), media_root, report)
    if data.has_keypoints and options.rows == "auto":
        raise LabelError(
            "a set of key points, which have no place here",
            where=f"{data.file}: kpt_shape",
            fix="take the boxes alone: --option rows=pose",
        )
    files = find_files(data, media_root, report)
    if not files.uris:
        raise EmptyDatasetError("no pictures and no label files", where=str(data.file))
    size = sizes_of(files.uris, options.width, options.height, report)
    media = media_columns(files.uris, width=size[0], height=size[1], split=files.splits)
    rows = read_rows(files.root, files.labels, report)
    numbers = [category.origin_id for category in data.categories]
    rows = known_classes(rows, numbers, data.file.name, on_unknown, report)
    annotations = _annotations(of_sized_pictures(rows, media, report), media, options, report)
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=data.categories, media=media, annotations=annotations), report


def _annotations(
    rows: YoloRows, media: MediaColumns, options: ReadOptions, report: LabelReport
) -> AnnotationColumns:
    kinds = kinds_of(rows, options.rows, options.last, report)
    rows, kinds = rows.keep(kinds.usable), kinds.keep(kinds.usable)
    report_shares(rows, kinds, report)
    around, texts, areas = outlines(rows, kinds, media, report)
    boxes = np.zeros((len(rows), 4))
    boxes[kinds.is_outline] = around
    plain = np.flatnonzero(~kinds.is_outline)
    file = rows.file[plain]
    boxes[plain] = boxes_of(rows.block(plain, slice(0, 4)), media.width[file], media.height[file])
    return annotation_columns(
        media,
        media_index=rows.file,
        category_index=rows.category,
        boxes_xyxy=boxes,
        report=report,
        place=rows.place,
        geometry=np.where(kinds.is_outline, Geometry.POLYGON, Geometry.BOX),
        segmentation=texts,
        area=areas,
        score=kinds.score,
        attributes=kinds.attributes(),
    )


def _yaml_file(path: Path) -> Path:
    if not path.is_dir():
        if path.suffix.lower() not in (".yaml", ".yml"):
            raise LabelError("no data.yaml", where=str(path))
        return path
    found = [path / "data.yaml"] if (path / "data.yaml").is_file() else sorted(path.glob("*.y*ml"))
    if len(found) != 1:
        raise LabelError(
            "which file describes the set is not clear" if found else "no data.yaml",
            where=str(path),
            got=", ".join(file.name for file in found) or None,
            fix="name the .yaml file itself",
        )
    return found[0]


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What such a set holds of a data set, and what that costs."""
    report = LabelReport(where="yolo_ultralytics")
    holds = with_(HOLDS, scores=options.confidence)
    dataset = sized(fit(dataset, holds, report), report)
    dataset = with_(dataset, annotations=with_one_outline(dataset, report))
    labels, media = dataset.annotations, dataset.media
    kind = "label with a number outside 0 to 1"
    action = "written as it is; Ultralytics leaves its picture out"
    outside = outside_rows(dataset)
    report_rows(report, kind, action, outside, lambda row: f"label {labels.id[row]}")
    none = media.split == Split.NONE
    if none.any():
        report.notes.append(f"{int(none.sum())} pictures of no split are written to train")
        split = np.where(none, np.int8(Split.TRAIN), media.split)
        dataset = with_(dataset, media=with_(media, split=split))
    if len(media) and not (media.split == Split.VAL).any():
        report.notes.append("no picture is in val, and Ultralytics does not train without")
    report.num_annotations = len(labels)
    return dataset, report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
    replace: bool = False,
) -> LabelReport:
    """Write data.yaml and ``labels`` in one step, and ``images`` where they are asked for.

    Args:
        media_root: label files are named as the pictures below it.
        replace: a folder that is there is replaced whole.

    Raises:
        DataError: two pictures that would share a label file.
        StorageError: the write failed; what was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    names = _names(relative_names(dataset.media.uri, media_root), dataset.media.split)
    stems = label_stems([labels_of(name) for name in names])
    used = {Split(code) for code in np.unique(dataset.media.split).tolist()}
    folders = {name: f"images/{name}" for split, name in _FOLDERS.items() if split != Split.TEST}
    folders |= {_FOLDERS[split]: f"images/{_FOLDERS[split]}" for split in sorted(used)}
    classes = [category.name for category in dataset.categories]
    with atomic_folder(path, replace=replace) as folder:
        for name in folders:
            (folder / "labels" / name).mkdir(parents=True, exist_ok=True)
        write_label_files(
            folder,
            [f"{stem}.txt" for stem in stems],
            dataset,
            lambda rows: row_lines(dataset, rows, scores=options.confidence),
        )
        (folder / "data.yaml").write_text(written(classes, folders), encoding="utf-8")
        place_pictures(dataset.media.uri, folder, names, options.pictures, report)
    return report


def _names(names: Sequence[str], split: NDArray[np.int8]) -> list[str]:
    codes = split.tolist()
    home = {code: f"images/{_FOLDERS[Split(code)]}/" for code in set(codes)}
    return [home[code] + name for name, code in zip(names, codes, strict=True)]
