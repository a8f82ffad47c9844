"""LabelMe's files as text: a picture's labels as flags and shapes, each shape on a line."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.formats._mask_crops import runs_to_crop
from tilth.data.indexed_png import encode_png
from tilth.data.records import Geometry
from tilth.data.runs import runs_from_json
from tilth.errors import PathEscapeError

__all__ = ["file_texts", "write_files"]

_VERSION = b"5.5.0"  # of LabelMe, whose fields these are

_BLOCK = 20_000  # labels

_encode = msgspec.json.Encoder().encode


class _Label(NamedTuple):
    """One annotation as plain values."""

    category: int
    geometry: int
    box: list[float]
    score: float
    segmentation: bytes | None
    attributes: bytes | None


def file_texts(
    dataset: Dataset, image_paths: Sequence[str], image_data: Iterable[bytes]
) -> Iterator[bytes]:
    """The text of each picture's file.

    Args:
        image_paths: what each file calls its picture.
        image_data: JSON, null or the picture in Base64.
    """
    media, labels = dataset.media, _labels(dataset.annotations)
    names = [category.name for category in dataset.categories]
    quoted = [_encode(name) for name in names]
    for path, data, extra, height, width, count in zip(
        image_paths,
        image_data,
        media.attributes if len(media.attributes) else [None] * len(media),
        media.height.tolist(),
        media.width.tolist(),
        np.diff(dataset.offsets).tolist(),
        strict=True,
    ):
        own = list(islice(labels, count))
        whole = [label for label in own if label.geometry == Geometry.LABEL]
        flags, details = _flags(whole, names) if whole else (b"{}", b"")
        shapes = b",\n".join(_shape_texts(own, quoted))
        height, width = (height, width) if height and width else _mask_size(own)
        yield (
            b'{"version":"%b","flags":%b,"shapes":[%b],"imagePath":%b,"imageData":%b,'
            b'"imageHeight":%b,"imageWidth":%b%b%b}\n'
        ) % (
            _VERSION,
            flags,
            b"\n" + shapes if shapes else b"",
            _encode(path),
            data,
            _encode(height or None),
            _encode(width or None),
            details,
            b',"attributes":' + extra if extra else b"",
        )


def _labels(labels: AnnotationColumns) -> Iterator[_Label]:
    """All annotations, some thousands at a time in memory."""
    for start in range(0, len(labels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield from map(
            _Label,
            labels.category_index[rows].tolist(),
            labels.geometry[rows].tolist(),
            labels.boxes_xyxy[rows].tolist(),
            labels.score[rows].tolist(),
            labels.segmentation[rows],
            labels.attributes[rows],
        )


def _mask_size(labels: list[_Label]) -> tuple[int, int]:
    """Height and width of the picture of a mask; a picture without one stays without a size."""
    for label in labels:
        if label.geometry == Geometry.RLE:
            return runs_from_json(label.segmentation or b"")[1:]
    return 0, 0


def _flags(labels: list[_Label], names: list[str]) -> tuple[bytes, bytes]:
    """Classes of the whole picture, and a field of ours where flags alone do not say it all."""
    details = [
        {"label": names[label.category]}
        | ({} if label.score != label.score else {"score": label.score})
        | ({"attributes": msgspec.Raw(label.attributes)} if label.attributes else {})
        for label in labels
    ]
    said = {names[label.category]: True for label in labels}
    plain = len(said) == len(labels) and all(len(detail) == 1 for detail in details)
    return _encode(said), b"" if plain else b',"flag_details":' + _encode(details)


def _shape_texts(labels: list[_Label], names: list[bytes]) -> Iterator[bytes]:
    last_group: int | None = None
    for label in labels:
        category, geometry, box, score, shape, attributes = label
        if geometry == Geometry.LABEL:
            continue
        group, description, flags, rest = _fields_of(attributes) if attributes else _NO_FIELDS
        if score == score:
            rest = b',"score":%b%b' % (_encode(score), rest)
        parts = [(b"rectangle", _corners(box), b"null")]
        if geometry == Geometry.RLE:
            parts = [(b"mask", *_mask(shape or b""))]
        elif geometry == Geometry.POLYGON:
            parts = [(b"polygon", points, b"null") for points in _parts(shape or b"[]")]
        if len(parts) > 1:
            last_group = _last_group(labels) if last_group is None else last_group
            last_group += 1
            rest = b',"part_of":%d%b' % (last_group, rest)
            group = b"%d" % last_group if group == b"null" else group
        for kind, points, mask in parts:
            yield (
                b'{"label":%b,"points":%b,"group_id":%b,"description":%b,"shape_type":"%b",'
                b'"flags":%b,"mask":%b%b}'
            ) % (names[category], points, group, description, kind, flags, mask, rest)


def _corners(box: list[float]) -> bytes:
    x0, y0, x1, y1 = box
    return b"[[%r,%r],[%r,%r]]" % (x0, y0, x1, y1)


_NO_FIELDS = (b"null", b'""', b"{}", b"")


def _fields_of(attributes: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """group_id, description and flags as JSON, and a field for all the rest."""
    rest: dict[str, Any] = msgspec.json.decode(attributes)
    flags = {name: rest.pop(name) for name in list(rest) if isinstance(rest[name], bool)}
    group = rest.pop("group_id") if isinstance(rest.get("group_id"), int) else None
    description = ""
    if isinstance(rest.get("description"), str) and rest["description"]:
        description = rest.pop("description")
    further = b',"attributes":%b' % _encode(rest) if rest else b""
    return _encode(group), _encode(description), _encode(flags), further


def _last_group(labels: list[_Label]) -> int:
    """The highest group_id of a picture: parts of one polygon take numbers beyond it."""
    said = [msgspec.json.decode(label.attributes) for label in labels if label.attributes]
    groups = [fields.get("group_id") for fields in said]
    return max((group for group in groups if isinstance(group, int)), default=0)


def _parts(polygons: bytes) -> list[bytes]:
    parts = msgspec.json.decode(polygons, type=list[list[float]])
    return [_encode(list(zip(part[0::2], part[1::2], strict=False))) for part in parts]


def _mask(segmentation: bytes) -> tuple[bytes, bytes]:
    """First and last pixel of the part that a mask covers, and its PNG in Base64, as JSON."""
    runs, height, _ = runs_from_json(segmentation)
    crop, left, top = runs_to_crop(runs, height)
    last = [left + crop.shape[1] - 1, top + crop.shape[0] - 1]
    return _encode([[left, top], last]), b'"%b"' % base64.b64encode(encode_png(crop))


def write_files(folder: Path, names: Sequence[str], texts: Iterable[bytes]) -> None:
    """Write one file a name.

    Raises:
        PathEscapeError: a name that leaves the folder.
        OSError: the write failed; for `atomic_folder` to report.
    """
    for name in names:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise PathEscapeError("a label file outside the folder to write", got=repr(name))
    for parent in sorted({os.path.dirname(name) for name in names}):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    prefix = f"{folder.as_posix()}/"
    for name, text in zip(names, texts, strict=True):
        with open(prefix + name, "xb", buffering=0) as stream:
            stream.write(text)
