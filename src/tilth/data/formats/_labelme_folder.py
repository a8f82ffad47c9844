"""A folder of LabelMe's files, read a block of them at a time into columns."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import MediaColumns
from tilth.data.formats._columns import media_columns
from tilth.data.formats._labelme_groups import join_parts
from tilth.data.formats._labelme_records import (
    File,
    Shape,
    decode_file,
    decode_points,
)
from tilth.data.formats._labelme_shapes import ShapeColumns, read_shapes
from tilth.data.formats._xml_files import read_whole
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry
from tilth.data.storage import is_url
from tilth.errors import LabelError, PathEscapeError

__all__ = ["Found", "read_folder"]

_BLOCK = 2000  # files
_A_FLAG = -1  # in the place of a shape's number


@dataclass(frozen=True, kw_only=True)
class Found:
    """Media, and the labels of all files one after the other.

    Attributes:
        code: int64 [m], row in ``names``.
        file, number: int64 [m], row in ``files``, and the number of the shape there.
    """

    media: MediaColumns
    names: list[str]
    files: Sequence[str]
    media_index: NDArray[np.int64]
    code: NDArray[np.int64]
    file: NDArray[np.int64]
    number: NDArray[np.int64]
    geometry: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    score: NDArray[np.float64]
    segmentation: RaggedBytes
    attributes: RaggedBytes

    def place(self, row: int) -> str:
        """The file of a label, and the place in it."""
        number = int(self.number[row])
        return f"{self.files[self.file[row]]}: {'flags' if number < 0 else f'shapes[{number}]'}"


def read_folder(
    folder: Path, media_root: Path, files: Sequence[str], report: LabelReport, *, join: bool
) -> Found:
    """Read the files.

    Args:
        files: paths below ``folder``.
        join: shapes of one label and group are one object.

    Raises:
        PathEscapeError: a picture outside ``media_root``.
    """
    pictures = _Pictures(folder.resolve().as_posix(), media_root.resolve().as_posix(), report)
    codes: dict[str, int] = {}
    blocks: list[dict[str, Any]] = []
    grouped = 0
    for start in range(0, len(files), _BLOCK):
        block = _decoded(folder.resolve(), files, range(start, len(files))[:_BLOCK], report)
        media = [
            pictures.row(files[at], file) for at, file in zip(block.rows, block.files, strict=True)
        ]
        sizes = np.array([pictures.sizes[row] for row in media], np.int64).reshape(-1, 2)
        media_index = np.array(media, np.int64)
        blocks.append(_shape_block(block, media_index, files, sizes, codes, report, join))
        blocks.append(_flag_block(block, media_index, codes))
        grouped += sum(shape.group_id is not None for shape in block.shapes)
    if grouped and not join:
        report.notes.append(
            f"group_id of {grouped} shapes: kept as an attribute, the shapes apart "
            "(--option groups=join makes those of one label and group one object)"
        )
    return Found(media=pictures.media(), names=list(codes), files=files, **_joined(blocks))


@dataclass(frozen=True)
class _Block:
    """Some files.

    Attributes:
        rows: of the files among all.
        shapes: of all files, one after the other.
        points, counts: float64 [p, 2] of all shapes, and how many each has, int64 [m].
    """

    rows: list[int]
    files: list[File]
    points: NDArray[np.float64]
    counts: NDArray[np.int64]

    @cached_property
    def shapes(self) -> list[Shape]:
        return list(chain.from_iterable(file.shapes for file in self.files))


def _decoded(
    folder: Path, names: Sequence[str], rows: Sequence[int], report: LabelReport
) -> _Block:
    """Those of the files that are LabelMe's."""
    prefix = f"{folder.as_posix().rstrip('/')}/"
    found: dict[int, File] = {}
    for row in rows:
        try:
            found[row] = decode_file(read_whole(prefix + names[row]))
        except (LabelError, ValueError, RecursionError) as error:
            _report_file(names[row], error, report)
    try:
        points = decode_points(found.values())
    except ValueError:
        for row, file in list(found.items()):
            try:
                decode_points([file])
            except ValueError as error:
                _report_file(names[row], error, report)
                del found[row]
        points = decode_points(found.values())
    return _Block(list(found), list(found.values()), *points)


def _report_file(name: str, error: Exception, report: LabelReport) -> None:
    text = error.got if isinstance(error, LabelError) and error.got else str(error)
    place = f"{name}: {' '.join(text.split())[:200]}"
    report.add("file that is not LabelMe's JSON", "left out", [place])


class _Pictures:
    """The pictures that the files name, each once."""

    def __init__(self, folder: str, root: str, report: LabelReport) -> None:
        self._bases = list(dict.fromkeys([folder.rstrip("/"), root.rstrip("/")]))
        self._ways: dict[tuple[str, str], str | None] = {}
        self._inside = f"{root.rstrip('/')}/"
        self._report = report
        self._row_of: dict[str, int] = {}
        self.sizes: list[tuple[int, int]] = []
        self._attributes: list[bytes | None] = []

    def media(self) -> MediaColumns:
        sizes = np.array(self.sizes, np.int32).reshape(-1, 2)
        attributes = RaggedBytes.of(self._attributes)
        return media_columns(
            list(self._row_of),
            height=sizes[:, 0].copy(),
            width=sizes[:, 1].copy(),
            attributes=attributes if attributes.lengths.any() else (),
        )

    def row(self, name: str, file: File) -> int:
        """The row of the file's picture: a new one, unless another file names it too."""
        uri = self._uri(name, file.imagePath)
        size = (file.imageHeight or 0, file.imageWidth or 0)
        row = self._row_of.setdefault(uri, len(self.sizes))
        if row == len(self.sizes):
            self.sizes.append(size)
            self._attributes.append(_media_attributes(file))
        else:
            self._report.add("picture that two label files name", "labels of both kept", [name])
            self.sizes[row] = self.sizes[row] if all(self.sizes[row]) else size
        return row

    def _uri(self, name: str, image_path: str | None) -> str:
        inner, _, file = name.rpartition("/")
        if not image_path:
            kind = "label file that names no picture"
            self._report.add(kind, "its own name taken, with .jpg", [name])
            image_path = f"{posixpath.splitext(file)[0]}.jpg"
        if is_url(image_path):
            return image_path
        path = image_path
        if "\\" in path and "/" not in path:  # written on Windows
            path = path.replace("\\", "/")
        way, _, picture = path.rpartition("/")
        suspicious = "\0" in path or "\\" in path or path[1:2] == ":" or picture in ("", ".", "..")
        place = None if suspicious else self._place(inner, f"{way}/" if path[0] == "/" else way)
        if place is not None:
            return f"{place}{picture}"
        raise PathEscapeError(
            "an imagePath that leaves the folder of the pictures",
            where=name,
            expected=f"a picture below {self._inside}",
            got=repr(image_path),
            fix="correct the label file, or name the folder that holds all pictures with --images",
        )

    def _place(self, inner: str, way: str) -> str | None:
        """The folder, with a slash, that a way leads to from the label file's; None if outside."""
        if (inner, way) not in self._ways:
            ways = [posixpath.normpath(f"{base}/{inner}/{way}") for base in self._bases]
            ways = [posixpath.normpath(way)] if way.startswith("/") else ways
            found = (f"{folder.rstrip('/')}/" for folder in ways)
            inside = (folder for folder in found if folder.startswith(self._inside))
            self._ways[inner, way] = next(inside, None)
        return self._ways[inner, way]


def _media_attributes(file: File) -> bytes | None:
    """Fields of the file that LabelMe does not have; our own writer puts them into one."""
    fields: dict[str, Any] = dict(file.extra or {})
    if bytes(fields.get("attributes", b""))[:1] == b"{":
        own = msgspec.json.decode(fields.pop("attributes"), type=dict[str, msgspec.Raw])
        fields |= own
    return msgspec.json.encode(fields) if fields else None


def _shape_block(
    block: _Block,
    media: NDArray[np.int64],
    files: Sequence[str],
    sizes: NDArray[np.int64],
    codes: dict[str, int],
    report: LabelReport,
    join: bool,
) -> dict[str, Any]:
    shapes = block.shapes
    num_shapes = np.array([len(file.shapes) for file in block.files], np.int64)
    owner = np.repeat(np.arange(len(block.files)), num_shapes)
    number = np.arange(len(shapes)) - (np.cumsum(num_shapes) - num_shapes)[owner]
    file, media_index = np.array(block.rows, np.int64)[owner], media[owner]

    def place(row: int) -> str:
        return f"{files[file[row]]}: shapes[{number[row]}]"

    columns = read_shapes(shapes, block.points, block.counts, sizes[owner], report, place)
    gone = _join(shapes, file, columns, sizes[owner], join)
    keep = np.flatnonzero((columns.geometry >= 0) & ~gone)
    kept = shapes if len(keep) == len(shapes) else [shapes[row] for row in keep.tolist()]
    return {
        "media_index": media_index[keep],
        "code": _codes([shape.label for shape in kept], codes),
        "file": file[keep],
        "number": number[keep],
        "geometry": columns.geometry[keep],
        "boxes": columns.boxes[keep],
        "area": columns.area[keep],
        "score": _scores([shape.score for shape in kept]),
        "segmentation": _texts([columns.segmentation[row] for row in keep.tolist()]),
        "attributes": _texts(
            [_attributes(shape, join) if _says_more(shape) else None for shape in kept]
        ),
    }


def _join(
    shapes: list[Shape],
    file: NDArray[np.int64],
    columns: ShapeColumns,
    sizes: NDArray[np.int64],
    join: bool,
) -> NDArray[np.bool_]:
    """Join the parts of an object; bool [m]: the shapes that went into another."""
    keys: list[tuple[Any, ...] | None] = [None] * len(shapes)
    for row, shape in enumerate(shapes):
        if shape.part_of is not None:
            keys[row] = (file[row], shape.label, "part", shape.part_of)
        elif join and shape.group_id is not None:
            keys[row] = (file[row], shape.label, "group", shape.group_id)
    if not any(keys):
        return np.zeros(len(shapes), dtype=np.bool_)
    return join_parts(columns, keys, sizes)


def _says_more(shape: Shape) -> Any:
    said = shape.flags or shape.attributes or shape.extra or shape.description
    return said or shape.group_id is not None


def _attributes(shape: Shape, join: bool) -> bytes | None:
    found = shape.all_attributes()
    if join or (shape.part_of is not None and shape.part_of == shape.group_id):
        found.pop("group_id", None)  # it has done what it was for
    return msgspec.json.encode(found) if found else None


def _flag_block(block: _Block, media: NDArray[np.int64], codes: dict[str, int]) -> dict[str, Any]:
    """Flags that are set, as labels of the whole picture."""
    found = [
        (at, name, score, attributes)
        for at, file in enumerate(block.files)
        if file.flags
        for name, score, attributes in _flags(file)
    ]
    owner = np.array([row[0] for row in found], np.int64)
    return {
        "media_index": media[owner],
        "code": _codes([row[1] for row in found], codes),
        "file": np.array(block.rows, np.int64)[owner],
        "number": np.full(len(found), _A_FLAG),
        "geometry": np.full(len(found), Geometry.LABEL, np.int64),
        "boxes": np.zeros((len(found), 4)),
        "area": np.full(len(found), np.nan),
        "score": _scores([row[2] for row in found]),
        "segmentation": RaggedBytes.empty(len(found)),
        "attributes": _texts([msgspec.json.encode(row[3]) if row[3] else None for row in found]),
    }


def _flags(file: File) -> Iterator[tuple[str, float | None, dict[str, Any] | None]]:
    details = file.flag_details or []
    for name, is_set in (file.flags or {}).items():
        if is_set is not True:
            continue
        said = [detail for detail in details if detail.label == name]
        for detail in said:
            yield name, detail.score, detail.attributes
        if not said:
            yield name, None, None


def _codes(labels: Sequence[str], codes: dict[str, int]) -> NDArray[np.int64]:
    """A number for each name, the same for the same name."""
    return np.fromiter(
        (codes.setdefault(label, len(codes)) for label in labels), np.int64, len(labels)
    )


def _scores(scores: list[float | None]) -> NDArray[np.float64]:
    if scores.count(None) == len(scores):
        return np.full(len(scores), np.nan)
    return np.array([np.nan if score is None else score for score in scores], np.float64)


def _texts(texts: list[bytes | None]) -> RaggedBytes:
    return RaggedBytes.of(texts) if any(texts) else RaggedBytes.empty(len(texts))


def _joined(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: RaggedBytes.concatenate([block[name] for block in blocks])
        if isinstance(first, RaggedBytes)
        else np.concatenate([block[name] for block in blocks])
        for name, first in (blocks[0].items() if blocks else ())
    }
