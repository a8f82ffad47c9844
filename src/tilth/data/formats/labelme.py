"""LabelMe JSON: a file a picture with rectangles, polygons, circles, masks and flags.

A file has ``shapes`` (label, points in pixels, shape_type, group_id, description, flags, mask),
``flags`` of the whole picture, ``imagePath`` relative to itself, and the picture's size. Points are
taken as pixel edges, as LabelMe shows them; the two pixels of a mask are both inside. (wkentaro/
labelme, `labelme/label_file.py` and `labelme/utils/shape.py`, version 5.)

    a.json, sub/b.json      any folder of such files; read and written
    labels.txt              the classes in order, as `labelme --labels` takes them

``flags`` that are true are labels of the whole picture. Shapes that share a ``group_id`` stay apart
and keep it as an attribute, unless --option groups=join: then shapes of one label and group are one
object, as in LabelMe's own converters. ``imageData`` is neither read nor written by default.

LabelMe keeps fields that it does not know, so what it has no field for is written beside its own:
``score`` and ``attributes`` (as X-AnyLabeling has them), ``part_of`` for a polygon of several parts
(they also share a ``group_id``), ``flag_details`` for scores and attributes of flags.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tilth.data.atomic import atomic_folder
from tilth.data.dataset import Dataset
from tilth.data.formats._class_list import class_list, classes_text, matched_classes
from tilth.data.formats._columns import annotation_columns, report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._labelme_folder import read_folder
from tilth.data.formats._labelme_text import file_texts, write_files
from tilth.data.formats._media_names import label_stems, relative_names
from tilth.data.formats._text_files import files_below
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry
from tilth.data.runs import runs_from_json
from tilth.data.storage import is_url
from tilth.errors import EmptyDatasetError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_LABELS = "labels.txt"
_HEAD_BYTES = 4096
_KEYS = re.compile(rb'"(shapes|imagePath|imageData|flags)"\s*:')

TARGET = "folder"
HOLDS = Holds(labels=True, boxes=True, polygons=True, masks=True, scores=True, attributes="all")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How files are read.

    Attributes:
        groups: keep shapes of one group apart, or join those of one label and group.
        classes: the classes in order: a file, or names with commas between them.
    """

    groups: Literal["keep", "join"] = "keep"
    classes: str = ""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How files are written.

    Attributes:
        image_path: relative from the label file to where the picture lies, which LabelMe needs to
            open it; or beside, for files that are to lie with the pictures.
        image_data: put the picture itself into the file, in Base64.
    """

    image_path: Literal["relative", "beside"] = "relative"
    image_data: bool = False


def recognises(path: Path) -> bool:
    """A folder in which one of the first JSON files has LabelMe's fields."""
    try:
        entries = (entry for entry in sorted(path.iterdir()) if entry.suffix == ".json")
        for entry, _ in zip(entries, range(3), strict=False):
            with entry.open("rb") as stream:
                head = stream.read(_HEAD_BYTES)
            if head.lstrip()[:1] == b"{" and len(set(_KEYS.findall(head))) >= 2:
                return True
    except (OSError, ValueError):
        return False
    return False


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read a folder of label files; the pictures are not opened.

    Args:
        media_root: the folder that pictures must lie in: ``imagePath`` is followed from the label
            file, or, where that leads outside, from the same place below ``media_root``. Otherwise
            the folder of the label files.
        on_unknown: what to do with a label that the given list of classes does not have.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: an unknown label.
        PathEscapeError: an ``imagePath`` that leads outside.
        EmptyDatasetError: no label files.
    """
    report = report or LabelReport(where=str(path))
    names = files_below(path, (".json",), report)
    if not names:
        raise EmptyDatasetError("no LabelMe files", where=str(path), expected="*.json")
    listed = class_list(options.classes, [path / _LABELS], report)
    found = read_folder(path, media_root or path, names, report, join=options.groups == "join")
    if not len(found.media):
        raise EmptyDatasetError("none of the files is LabelMe's", where=str(path))
    categories, category_row = matched_classes(
        found.code, found.names, listed, on_unknown, report, found.place
    )
    known = np.flatnonzero(category_row >= 0)
    annotations = annotation_columns(
        found.media,
        media_index=found.media_index[known],
        category_index=category_row[known],
        boxes_xyxy=found.boxes[known],
        report=report,
        place=lambda row: found.place(int(known[row])),
        geometry=found.geometry[known],
        segmentation=found.segmentation.take(known),
        area=found.area[known],
        score=found.score[known],
        attributes=found.attributes.take(known),
    )
    report.num_media, report.num_annotations = len(found.media), len(annotations)
    return Dataset(categories=categories, media=found.media, annotations=annotations), report


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What LabelMe holds of a data set, and what that costs."""
    report = LabelReport(where="labelme")
    fitted = fit(dataset, HOLDS, report)
    labels = fitted.annotations
    empty = np.zeros(len(labels), dtype=np.bool_)
    for row in np.flatnonzero(labels.geometry == Geometry.RLE).tolist():
        empty[row] = not runs_from_json(labels.segmentation[row] or b"")[0].area
    report_rows(report, "mask without pixels", "left out", empty, lambda r: f"label {labels.id[r]}")
    return (fitted.keep_annotations(~empty) if empty.any() else fitted), report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
    replace: bool = False,
) -> LabelReport:
    """Write a folder of label files in one step: it is there whole or not at all.

    Args:
        media_root: label files lie as the pictures do below it.
        replace: a folder that is there is replaced whole.

    Raises:
        DataError: two pictures that would share a label file, or a mask that is none.
        StorageError: the write failed; what was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    uris = dataset.media.uri
    names = relative_names(uris, media_root)
    files = [f"{stem}.json" for stem in label_stems(names)]
    if options.image_path == "beside":
        paths = [
            uri if is_url(uri) else name.rpartition("/")[2]
            for uri, name in zip(uris, names, strict=True)
        ]
    else:
        paths = _relative_paths(uris, names, files, path.resolve())
    data = (_image_data(uri) if options.image_data else b"null" for uri in uris)
    with atomic_folder(path, replace=replace) as folder:
        (folder / _LABELS).write_bytes(classes_text(dataset.categories))
        write_files(folder, files, file_texts(dataset, paths, data))
    return report


def _relative_paths(
    uris: Sequence[str], names: Sequence[str], files: Sequence[str], folder: Path
) -> list[str]:
    """The way from each label file to its picture; URLs in full."""
    ways: dict[tuple[str, str], str] = {}
    paths = []
    for uri, name, file in zip(uris, names, files, strict=True):
        if not uri.startswith("/"):
            paths.append(uri if is_url(uri) else name.rpartition("/")[2])
            continue
        there, _, picture = uri.rpartition("/")
        here = file.rpartition("/")[0]
        way = ways.get((there, here))
        if way is None:
            way = ways[there, here] = posixpath.relpath(there or "/", f"{folder.as_posix()}/{here}")
        paths.append(picture if way == "." else f"{way}/{picture}")
    return paths


def _image_data(uri: str) -> bytes:
    """A picture's file in Base64, as JSON; null where it is not on this machine."""
    if is_url(uri) or not Path(uri).is_file():
        return b"null"
    return b'"%b"' % base64.b64encode(Path(uri).read_bytes())
