"""CVAT XML 1.1, for images and for video: tags, boxes, polygons, masks, tracks, attributes.

An ``<image>`` has its shapes; a ``<track>`` has those of its key frames, and becomes a label in
every frame in which it can be seen: ``clip.mp4#frame=12``, with ``track_id`` and ``keyframe``.
Corners are pixel edges from 0. The runs of a mask go row by row through the rectangle that
``left``, ``top``, ``width``, ``height`` name, zeros first. (docs.cvat.ai, "CVAT for image" and
"CVAT for video".)

``occluded``, ``z_order``, ``group_id`` and CVAT's own attributes are kept, ``source`` "auto" is a
model. A box that is turned and an ellipse are read as polygons; polylines, points, cuboids and
skeletons are reported and left out. Tasks, users, dates and label colours are not kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset
from tilth.data.formats._class_list import class_list
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._cvat_polygons import single_polygons
from tilth.data.formats._cvat_text import SUBSETS, image_texts, labels_text
from tilth.data.formats._cvat_video import FrameSet, frame_set, track_texts, with_keyframes
from tilth.data.formats._cvat_whole import CvatFile, read_file
from tilth.data.formats._fit import fit
from tilth.data.formats._media_names import media_uri, relative_names
from tilth.data.formats._xml_files import escaped
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category, Split
from tilth.errors import EmptyDatasetError, LabelError, SettingsError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_HEAD_BYTES = 65_536
_OURS = re.compile(rb"<annotations[\s>].*?<(?:version|meta|image|track)[\s>]", re.DOTALL)
_SPLITS = {
    **{name.lower(): split for split, name in SUBSETS.items()},
    **{"training": Split.TRAIN, "val": Split.VAL, "valid": Split.VAL, "testing": Split.TEST},
    **{"default": Split.NONE, "": Split.NONE},
}

TARGET = "file"
HOLDS = Holds(
    labels=True,
    boxes=True,
    polygons=True,
    masks=True,
    attributes="all",
    frames=True,
    splits=True,
)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Which frames of a video are there, and the classes where the file does not list them.

    Attributes:
        frames: "all" that were labelled, those without an object too; or "labelled" alone.
        classes: a file with one class a line, or names with commas between them.
    """

    frames: Literal["all", "labelled"] = "all"
    classes: str = ""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """Which of CVAT's two layouts to write.

    Attributes:
        layout: "video" has tracks, "images" a label in each picture; "auto" is "video" for frames
            of one video, at equal steps, whose labels all have a ``track_id``.
    """

    layout: Literal["auto", "images", "video"] = "auto"


def recognises(path: Path) -> bool:
    """An XML file that begins as CVAT's do."""
    try:
        if path.suffix.lower() != ".xml" or not path.is_file():
            return False
        with path.open("rb") as stream:
            return _OURS.search(stream.read(_HEAD_BYTES)) is not None
    except (OSError, ValueError):
        return False


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read a CVAT file; neither pictures nor videos are opened.

    Args:
        media_root: the folder that names are relative to; otherwise the file's own.
        on_unknown: what to do with labels of a class that the file does not list.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: not a CVAT file, or an unknown class.
        PathEscapeError: a name that leaves ``media_root``.
        EmptyDatasetError: no pictures and no frames in the file.
    """
    report = report or LabelReport(where=str(path))
    file = read_file(path, options.frames, report)
    records = file.records
    if not records.name:
        raise EmptyDatasetError("no pictures in the label file", where=str(path))
    root = (path.parent if media_root is None else media_root).resolve()
    media = media_columns(
        [media_uri(name, root, str(path)) for name in records.name],
        width=records.width,
        height=records.height,
        split=_splits(records.subset, report),
    )
    categories, index = _classes(file, options.classes, on_unknown, report)
    keep = np.flatnonzero(index >= 0)
    texts = RaggedBytes.of(records.segmentation[row] for row in keep.tolist())
    annotations = annotation_columns(
        media,
        media_index=np.repeat(np.arange(len(media)), records.count)[keep],
        category_index=index[keep],
        boxes_xyxy=records.boxes()[keep],
        report=report,
        place=lambda row: file.place(int(keep[row])),
        geometry=np.array(records.geometry, np.uint8)[keep],
        segmentation=texts,
        area=np.array(records.area, np.float64)[keep],
        attributes=RaggedBytes.of(records.label[row][1] for row in keep.tolist()),
        source=np.array([label[2] for label in records.label], np.uint8)[keep],
    )
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations), report


def _splits(subsets: list[str], report: LabelReport) -> NDArray[np.int8]:
    codes = {name: _SPLITS.get(name.strip().lower()) for name in set(subsets)}
    for name in sorted(name for name, code in codes.items() if code is None):
        count = subsets.count(name)
        report.add("subset that is no train, val or test", "left out", [name], count=count)
    found = (codes[name] for name in subsets)
    return np.array([Split.NONE if code is None else code for code in found], dtype=np.int8)


def _classes(
    file: CvatFile, given: str, on_unknown: str, report: LabelReport
) -> tuple[tuple[Category, ...], NDArray[np.int64]]:
    """The classes, and the row among them of each label; -1 where it is left out."""
    labels = file.records.label
    used = {name for name, _, _ in set(labels)}
    names = file.classes
    listed = class_list(given, (), report) if given else None
    if listed is not None:
        names = [category.name for category in listed]
    elif not names:
        names = sorted(used - {""})
        report.notes.append("classes: the file lists none; those of the labels, by name")
    rows = {name: row for row, name in enumerate(names)}
    index = np.fromiter((rows.get(label[0], -1) for label in labels), np.int64, len(labels))
    unknown = index < 0
    if unknown.any() and on_unknown == "error":
        row = int(np.flatnonzero(unknown)[0])
        raise LabelError(
            f"class '{labels[row][0]}' is not among the file's labels",
            where=f"{file.path.parent}/{file.place(row)}",
            expected=", ".join(names)[:200],
            fix="add it to the file, or pass --on-unknown skip",
        )
    report_rows(report, "label of an unknown class", "left out", unknown, file.place)
    return tuple(Category(name=name, origin_id=row) for row, name in enumerate(names)), index


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What CVAT holds of a data set, and what that costs.

    Raises:
        SettingsError: layout "video", of what is no video with tracks.
    """
    report = LabelReport(where="cvat_xml")
    dataset = single_polygons(fit(dataset, HOLDS, report), report)
    frames = _video(dataset, options)
    return (dataset if frames is None else with_keyframes(dataset, frames, report)), report


def _video(dataset: Dataset, options: WriteOptions) -> FrameSet | None:
    """The frames where the file has tracks, None where it has images."""
    frames = "" if options.layout == "images" else frame_set(dataset)
    if isinstance(frames, FrameSet):
        return frames
    if options.layout == "video":
        raise SettingsError(
            "this data set is no video with tracks",
            got=frames,
            fix="leave --option layout=video out",
        )
    return None


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
) -> LabelReport:
    """Write a CVAT file in one step: it is there whole or not at all.

    Args:
        media_root: names become relative to this folder.

    Returns:
        What the format could not hold.

    Raises:
        DataError: a name that XML has no place for.
        SettingsError: layout "video", of what is no video with tracks.
        StorageError: the write failed; a file that was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    frames = _video(dataset, options)
    names = relative_names(dataset.media.uri, media_root)
    attributes = _attribute_names(dataset, ("track_id", "keyframe") if frames else ())
    labels = labels_text(dataset.categories, attributes)
    # UTF-8 is what goes without saying; to say it stops readers that parse text, not bytes.
    head = '<?xml version="1.0"?>\n<annotations>\n  <version>1.1</version>\n'
    with atomic_writer(path) as stream:
        stream.write(f"{head}  <meta>\n    <task>\n{_task_text(dataset, frames, names)}".encode())
        stream.write(f"{labels}    </task>\n  </meta>\n".encode())
        texts = image_texts(dataset, names) if frames is None else track_texts(dataset, frames)
        for text in texts:
            stream.write(text.encode())
        stream.write(b"</annotations>\n")
    return report


def _attribute_names(dataset: Dataset, without: tuple[str, ...]) -> list[list[str]]:
    """Of each class, CVAT's own attributes that its labels have."""
    labels = dataset.annotations
    names = [set[str]() for _ in dataset.categories]
    for category, text in set(zip(labels.category_index.tolist(), labels.attributes, strict=True)):
        if text:
            names[category] |= set(msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
    return [sorted(each - {"occluded", "z_order", "group_id", *without}) for each in names]


def _task_text(dataset: Dataset, frames: FrameSet | None, names: list[str]) -> str:
    count = len(dataset.media)
    if frames is None:
        return f"      <size>{count}</size>\n      <mode>annotation</mode>\n"
    source = names[0].rpartition("#")[0]
    last = frames.start + (count - 1) * frames.step
    return (
        f"      <size>{count}</size>\n      <mode>interpolation</mode>\n"
        f"      <start_frame>{frames.start}</start_frame>\n"
        f"      <stop_frame>{last}</stop_frame>\n"
        f"      <frame_filter>step={frames.step}</frame_filter>\n"
        f"      <original_size>\n        <width>{dataset.media.width[0]}</width>\n"
        f"        <height>{dataset.media.height[0]}</height>\n      </original_size>\n"
        f"      <source>{escaped(source)}</source>\n"
    )
