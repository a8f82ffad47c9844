"""INNOTESCUS_JSON, in a layout of our own: everything a data set holds, by the service's names.

The service is gone and its file layout was never published. Public are the names of its Python
client: task types, data types, project, dataset and task names, classes, metadata. From those this
layout is defined, as ``version`` 1; its JSON Schema is `innotescus_json.schema.json`, beside this
file. That other tools' files of this name look like it is not claimed: a file without our
``format`` and ``version`` is refused.

Assumed: boxes are pixel edges ``[x0, y0, x1, y1]``, polygons and masks COCO's, a frame is counted
from 0 and stands beside the name of its video, metadata are free fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_writer
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._innotescus_records import Document, Head, Medium, Object, medium_name
from tilth.data.formats._media_names import media_uri, relative_names
from tilth.data.holds import Holds
from tilth.data.importing import task_kind_of
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category, Geometry, ReviewState, Source, Split
from tilth.errors import EmptyDatasetError, LabelError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_HEAD_BYTES = 4096
_OURS = re.compile(rb'^\s*\{\s*"format"\s*:\s*"INNOTESCUS_JSON"')
_BLOCK = 1024  # media
_FRAME = re.compile(r"^(.+)#frame=(\d{1,12})$", re.ASCII | re.DOTALL)

TARGET = "file"
HOLDS = Holds(
    labels=True,
    boxes=True,
    polygons=True,
    masks=True,
    scores=True,
    attributes="all",
    crowd=True,
    frames=True,
    class_ids=True,
    supercategories=True,
    splits=True,
    provenance=True,
)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Nothing to choose."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """What the file says of itself.

    Attributes:
        project_name, dataset_name, task_name, task_description: left out where empty.
    """

    project_name: str = ""
    dataset_name: str = ""
    task_name: str = ""
    task_description: str = ""


def recognises(path: Path) -> bool:
    """A JSON file whose first field is our ``format``."""
    try:
        if path.suffix.lower() != ".json" or not path.is_file():
            return False
        with path.open("rb") as stream:
            return _OURS.match(stream.read(_HEAD_BYTES)) is not None
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
    """Read a file of version 1; the media are not opened.

    Args:
        media_root: the folder that names are relative to; otherwise the file's own.
        on_unknown: what to do with objects of a class that the file does not list.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: not such a file, a field that the schema does not know, or an unknown class.
        PathEscapeError: a name that leaves ``media_root``.
        EmptyDatasetError: no media in the file.
    """
    report = report or LabelReport(where=str(path))
    document = _document(path)
    if not document.media:
        raise EmptyDatasetError("no media in the label file", where=str(path))
    categories = _categories(document, str(path))
    _note_names(document, report)
    columns = _Columns()
    for start in range(0, len(document.media), _BLOCK):
        columns.extend(_decoded(document.media[start : start + _BLOCK], start, str(path)))
    root = (path.parent if media_root is None else media_root).resolve()
    media = media_columns(
        [media_uri(name, root, str(path)) for name in columns.name],
        width=columns.width,
        height=columns.height,
        split=columns.split,
        attributes=columns.metadata if any(columns.metadata) else (),
    )
    annotations = _annotations(columns, media, categories, on_unknown, report)
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations), report


def _document(path: Path) -> Document:
    try:
        data = path.read_bytes()
    except OSError as error:
        got = error.strerror
        raise LabelError("the label file cannot be read", where=str(path), got=got) from error
    try:
        head = msgspec.json.decode(data, type=Head)
        if (head.format, head.version) != ("INNOTESCUS_JSON", 1):
            raise LabelError(
                "not an INNOTESCUS_JSON file that this version of Tilth reads",
                where=str(path),
                expected='"format": "INNOTESCUS_JSON", "version": 1',
                got=f'"format": {head.format!r:.80}, "version": {head.version}',
            )
        return msgspec.json.decode(data, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LabelError(
            "not an INNOTESCUS_JSON file",
            where=str(path),
            expected="the fields of innotescus_json.schema.json",
            got=str(error)[:200],
        ) from error


def _categories(document: Document, where: str) -> tuple[Category, ...]:
    categories = tuple(
        Category(name=each.name, origin_id=each.id, supercategory=each.supercategory)
        for each in document.classes
    )
    for key in ("name", "origin_id"):
        values = [getattr(category, key) for category in categories]
        if len(set(values)) < len(values):
            raise LabelError(f"two classes with one {key.removeprefix('origin_')}", where=where)
    return categories


def _note_names(document: Document, report: LabelReport) -> None:
    names = ("project_name", "dataset_name", "task_name", "task_description")
    said = [name for name in names if getattr(document, name)]
    if said:
        report.notes.append(f"fields of the file itself were not kept: {', '.join(said)}")


class _Columns:
    """Media, and their objects in order; an object of the file lives no longer than its block."""

    def __init__(self) -> None:
        self.name: list[str] = []
        self.width: list[int] = []
        self.height: list[int] = []
        self.split: list[int] = []
        self.metadata: list[bytes | None] = []
        self.count: list[int] = []
        self.label: list[str] = []
        self.values: list[NDArray[np.float64]] = [np.empty((0, 10))]
        self.segmentation: list[bytes | None] = []
        self.attributes: list[bytes | None] = []

    def extend(self, media: list[Medium]) -> None:
        for medium in media:
            self.name.append(medium_name(medium))
            self.width.append(medium.width)
            self.height.append(medium.height)
            self.split.append(Split[medium.split] if medium.split else Split.NONE)
            self.metadata.append(_object_or_none(medium.metadata))
            self.count.append(len(medium.objects))
        objects = [each for medium in media for each in medium.objects]
        self.label += [each.label for each in objects]
        self.segmentation += [bytes(each.shape) or None for each in objects]
        self.attributes += [_object_or_none(each.metadata) for each in objects]
        values = [_numbers(each) for each in objects]
        self.values.append(np.array(values, dtype=np.float64).reshape(-1, 10))


def _object_or_none(text: msgspec.Raw) -> bytes | None:
    """JSON bytes of an object with fields; whatever else stands there says nothing."""
    data = bytes(text).strip()
    return data if data.startswith(b"{") and data[1:].lstrip() != b"}" else None


def _numbers(each: Object) -> tuple[float, ...]:
    """Box, geometry, area, crowd, score, source and review state in one row."""
    box = each.box or (0.0, 0.0, 0.0, 0.0)
    geometry = Geometry[each.type]
    area = np.nan if each.area is None else each.area
    score = np.nan if each.score is None else each.score
    source, state = Source[each.source], ReviewState[each.review_state]
    return (*box, geometry, area, each.is_crowd, score, source, state)


def _decoded(texts: list[msgspec.Raw], first: int, where: str) -> list[Medium]:
    media = []
    for row, text in enumerate(texts, start=first):
        try:
            media.append(msgspec.json.decode(text, type=Medium))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise LabelError(
                "a medium that does not follow the schema",
                where=f"{where}: media[{row}]",
                got=str(error)[:200],
            ) from error
    return media


def _annotations(
    columns: _Columns,
    media: MediaColumns,
    categories: tuple[Category, ...],
    on_unknown: str,
    report: LabelReport,
) -> AnnotationColumns:
    media_index = np.repeat(np.arange(len(media)), columns.count)
    first = np.cumsum(columns.count) - columns.count

    def place(row: int) -> str:
        medium = int(media_index[row])
        return f"{report.where}: media[{medium}].objects[{row - int(first[medium])}]"

    rows = {category.name: row for row, category in enumerate(categories)}
    index = np.array([rows.get(name, -1) for name in columns.label], dtype=np.int64)
    unknown = index < 0
    if unknown.any() and on_unknown == "error":
        row = int(np.flatnonzero(unknown)[0])
        raise LabelError(
            f"class '{columns.label[row]}' is not among the file's classes",
            where=place(row),
            expected=", ".join(rows)[:200],
            fix="add it to the file, or pass --on-unknown skip",
        )
    report_rows(report, "label of an unknown class", "left out", unknown, place)
    values = np.concatenate(columns.values)
    odd = ~unknown & _odd_shapes(columns.segmentation, values[:, 4])
    report_rows(report, "shape that is not what its type says", "left out", odd, place)
    keep = np.flatnonzero(~unknown & ~odd)
    values = values[keep]
    return annotation_columns(
        media,
        media_index=media_index[keep],
        category_index=index[keep],
        boxes_xyxy=values[:, :4],
        report=report,
        place=lambda row: place(int(keep[row])),
        geometry=values[:, 4],
        segmentation=RaggedBytes.of(columns.segmentation[row] for row in keep.tolist()),
        area=values[:, 5],
        is_crowd=values[:, 6],
        score=values[:, 7],
        attributes=RaggedBytes.of(columns.attributes[row] for row in keep.tolist()),
        source=values[:, 8],
        review_state=values[:, 9],
    )


def _odd_shapes(shapes: list[bytes | None], geometry: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool [m]: a polygon that is no list, a mask that is no object, a shape where none belongs."""
    first = np.array([ord(text.lstrip()[:1]) if text else 0 for text in shapes], dtype=np.int64)
    wanted = np.zeros(len(first), dtype=np.int64)
    wanted[geometry == Geometry.POLYGON] = ord("[")
    wanted[geometry == Geometry.RLE] = ord("{")
    return first != wanted


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What the layout holds of a data set, and what that costs."""
    report = LabelReport(where="innotescus_json")
    return fit(dataset, HOLDS, report), report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
) -> LabelReport:
    """Write a file of version 1 in one step: it is there whole or not at all.

    Args:
        media_root: names become relative to this folder.

    Returns:
        What the format could not hold.

    Raises:
        StorageError: the write failed; a file that was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    names = relative_names(dataset.media.uri, media_root)
    with atomic_writer(path) as stream:
        stream.write(_head_text(dataset, names, options))
        for count, text in enumerate(_media_texts(dataset, names)):
            stream.write(b",\n" if count else b"\n")
            stream.write(text)
        stream.write(b"\n]}\n")
    return report


def _head_text(dataset: Dataset, names: list[str], options: WriteOptions) -> bytes:
    fields = {
        "format": "INNOTESCUS_JSON",
        "version": 1,
        "project_name": options.project_name,
        "dataset_name": options.dataset_name,
        "task_name": options.task_name,
        "task_description": options.task_description,
        "task_type": task_kind_of(dataset).name,
        "data_type": "VIDEO" if any(map(_FRAME.match, names)) else "IMAGE",
    }
    classes = [
        {"id": c.origin_id, "name": c.name}
        | ({"supercategory": c.supercategory} if c.supercategory else {})
        for c in dataset.categories
    ]
    said = {name: value for name, value in fields.items() if value}
    text = msgspec.json.encode({**said, "classes": classes})
    return text[:-1] + b',\n"media":['


def _media_texts(dataset: Dataset, names: list[str]) -> Iterator[bytes]:
    media = dataset.media
    attributes = media.attributes if len(media.attributes) else [None] * len(media)
    objects = _object_texts(dataset)
    for name, width, height, split, metadata, count in zip(
        names,
        media.width.tolist(),
        media.height.tolist(),
        media.split.tolist(),
        attributes,
        np.diff(dataset.offsets).tolist(),
        strict=True,
    ):
        frame = _FRAME.match(name)
        fields: dict[str, object] = {"name": frame[1] if frame else name}
        if frame:
            fields["frame"] = int(frame[2])
        fields |= {"width": width, "height": height}
        if split != Split.NONE:
            fields["split"] = Split(split).name
        if metadata:
            fields["metadata"] = msgspec.Raw(metadata)
        inside = b"".join(b"\n " + next(objects) + b"," for _ in range(count))
        yield msgspec.json.encode(fields)[:-1] + b',"objects":[' + inside[:-1] + b"]}"


def _object_texts(dataset: Dataset) -> Iterator[bytes]:
    labels = dataset.annotations
    classes = [msgspec.json.encode(category.name) for category in dataset.categories]
    for category, box, geometry, area, crowd, score, source, state, shape, metadata in zip(
        labels.category_index.tolist(),
        labels.boxes_xyxy.tolist(),
        labels.geometry.tolist(),
        labels.area.tolist(),
        labels.is_crowd.tolist(),
        labels.score.tolist(),
        labels.source.tolist(),
        labels.review_state.tolist(),
        labels.segmentation,
        labels.attributes,
        strict=True,
    ):
        text = b'{"class":%b,"type":"%b"' % (classes[category], Geometry(geometry).name.encode())
        if geometry != Geometry.LABEL:
            text += b',"box":' + msgspec.json.encode(box)
        if shape:
            text += b',"shape":' + shape
        if area != (box[2] - box[0]) * (box[3] - box[1]):
            text += b',"area":' + msgspec.json.encode(area)
        if crowd:
            text += b',"is_crowd":true'
        if score == score:
            text += b',"score":' + msgspec.json.encode(score)
        if source != Source.HUMAN:
            text += b',"source":"%b"' % Source(source).name.encode()
        if state != ReviewState.UNREVIEWED:
            text += b',"review_state":"%b"' % ReviewState(state).name.encode()
        if metadata:
            text += b',"metadata":' + metadata
        yield text + b"}"
