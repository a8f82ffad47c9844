"""The records of a COCO file: decoded typed, or field by field where a file is not tidy.

Segmentations stay the bytes that they are in the file: a million polygons are never turned into
Python numbers. Annotations are decoded a block at a time, so that no more than one block of them
are objects at once. A block with string ids, missing fields or fields of its own takes the
tolerant way, which is several times slower and names what it met; so does a file with NaN.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from tilth.data import rle
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.errors import DataError, LabelError

__all__ = ["Annotation", "File", "Image", "label_columns", "read_records"]

_COLUMNS = {
    "id": np.int64,
    "image_id": np.int64,
    "category_id": np.int64,
    "iscrowd": np.int64,
    "area": np.float64,
    "score": np.float32,
}

_NO_SIZE = 0
_BEYOND = attrgetter("license", "coco_url", "flickr_url", "date_captured", "extra")
_NOTHING_BEYOND = (Raw(), Raw(), Raw(), Raw(), None)
_BLOCK = 10_000  # annotations
_PIECE_BYTES = 2**20  # of them
_BETWEEN = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")
_ONE_BLOCK_BYTES = 64 * 2**20

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Pixels = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Image(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One picture; the fields that COCO itself adds are carried along as they are."""

    id: Id
    file_name: str
    width: Pixels = _NO_SIZE
    height: Pixels = _NO_SIZE
    license: Raw = Raw()
    coco_url: Raw = Raw()
    flickr_url: Raw = Raw()
    date_captured: Raw = Raw()
    extra: dict[str, Raw] | None = msgspec.field(name="(fields beyond)", default=None)

    def attributes(self) -> bytes | None:
        """What goes beyond our columns, as a JSON object."""
        if _BEYOND(self) == _NOTHING_BEYOND:
            return None
        fields = {
            name: value
            for name in ("license", "coco_url", "flickr_url", "date_captured")
            if (value := getattr(self, name)) != Raw()
        } | (self.extra or {})
        return msgspec.json.encode(fields) if fields else None


class Annotation(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One object; ``bbox`` is x, y, width, height in pixels."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    area: float = float("nan")
    iscrowd: Id = 0
    score: float = float("nan")
    segmentation: Raw = Raw()
    extra: dict[str, Raw] | None = msgspec.field(name="(fields beyond)", default=None)

    def attributes(self) -> bytes | None:
        """What goes beyond our columns, as a JSON object."""
        return msgspec.json.encode(self.extra) if self.extra else None


Annotations = TypeVar("Annotations")


class _TidyFile(msgspec.Struct, Generic[Annotations], forbid_unknown_fields=True):
    images: list[Image]
    categories: list[dict[str, Any]]
    annotations: Annotations
    info: Raw = Raw()
    licenses: Raw = Raw()


@dataclass(frozen=True)
class File:
    """The three lists of a COCO file; the annotations in blocks, which are decoded when taken."""

    images: list[Image]
    categories: list[dict[str, Any]]
    annotations: Iterator[list[Annotation]]


def read_records(data: bytes, report: LabelReport) -> File:
    """Decode a COCO instances file.

    Raises:
        LabelError: not JSON, or not a COCO instances file.
    """
    if len(data) <= _ONE_BLOCK_BYTES:
        whole = _decoded(data, _TidyFile[list[Annotation]])
        if whole is not None:
            return _tidy(whole, iter([whole.annotations]), report)
    tidy = _decoded(data, _TidyFile[Raw])
    if tidy is None:
        return _read_tolerantly(data, report)
    return _tidy(tidy, _annotation_blocks(tidy.annotations, report), report)


def _decoded(data: bytes, kind: Any) -> Any:
    """The file in one go, or None where it is not as tidy as ``kind`` asks."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _tidy(file: Any, blocks: Iterator[list[Annotation]], report: LabelReport) -> File:
    kept_out = [name for name in ("info", "licenses") if getattr(file, name) != Raw()]
    _note_file_fields(report, kept_out)
    return File(file.images, file.categories, blocks)


def _annotation_blocks(texts: Raw, report: LabelReport) -> Iterator[list[Annotation]]:
    """A megabyte of the list at a time, cut where a record seems to end.

    A cut within a record or a string leaves a bracket or a quotation mark open, which is no JSON:
    then, and where a record is not tidy, the rest is cut by a parser.
    """
    view, first, start = memoryview(texts), 0, 1
    while start < len(view) - 1:
        between = _BETWEEN.search(view, min(start + _PIECE_BYTES, len(view)))
        end = between.start() + 1 if between else len(view) - 1
        block = _decoded(b"".join([b"[", view[start:end], b"]"]), list[Annotation])
        if block is None:
            break
        yield block
        first, start = first + len(block), (between.end() - 1 if between else len(view))
    if start == 1 or start < len(view) - 1:
        yield from _parsed_blocks(Raw(b"".join([view[:1], view[start:]])), first, report)


def _parsed_blocks(texts: Raw, first: int, report: LabelReport) -> Iterator[list[Annotation]]:
    records = _decoded_list(texts, report.where)
    del texts
    for start in range(0, len(records), _BLOCK):
        block = Raw(b"[" + b",".join(records[start : start + _BLOCK]) + b"]")
        yield _annotations(block, first + start, report)


def _annotations(texts: Raw, first: int, report: LabelReport) -> list[Annotation]:
    try:
        return msgspec.json.decode(texts, type=list[Annotation])
    except msgspec.ValidationError:
        fields = _list_of_objects(bytes(texts), "annotations", report.where)
        return list(_Tolerant(report).annotations(fields, first))


def _decoded_list(texts: Raw, where: str) -> list[Raw]:
    try:
        return msgspec.json.decode(texts, type=list[Raw])
    except msgspec.ValidationError as error:
        raise LabelError("'annotations' is no list", where=where, got=str(error)) from error


def label_columns(blocks: Iterator[list[Annotation]]) -> dict[str, Any]:
    """The annotations as columns, in the order of the file.

    Arrays, but for ``segmentation`` and ``attributes``, which are `RaggedBytes`: copied out of the
    label file, which can be let go then.
    """
    arrays: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    boxes: list[NDArray[np.float64]] = [np.empty((0, 4))]
    segmentation: list[RaggedBytes] = []
    attributes: list[RaggedBytes] = []
    for block in blocks:
        for name, dtype in _COLUMNS.items():
            arrays[name].append(np.fromiter(map(attrgetter(name), block), dtype, len(block)))
        corners = chain.from_iterable(map(attrgetter("bbox"), block))
        boxes.append(np.fromiter(corners, np.float64, 4 * len(block)).reshape(-1, 4))
        segmentation.append(RaggedBytes.of(map(attrgetter("segmentation"), block)))
        attributes.append(_attributes(block))
    return {
        **{n: np.concatenate([np.empty(0, _COLUMNS[n]), *parts]) for n, parts in arrays.items()},
        "bbox": np.concatenate(boxes),
        "segmentation": RaggedBytes.concatenate(segmentation),
        "attributes": RaggedBytes.concatenate(attributes),
    }


def _attributes(block: list[Annotation]) -> RaggedBytes:
    if not any(map(attrgetter("extra"), block)):
        return RaggedBytes.empty(len(block))
    return RaggedBytes.of([record.attributes() for record in block])


def _note_file_fields(report: LabelReport, names: list[str]) -> None:
    if names:
        report.notes.append(f"fields of the file itself were not kept: {', '.join(sorted(names))}")


def _read_tolerantly(data: bytes, report: LabelReport) -> File:
    top = _top_level(data, report.where)
    for name in ("images", "categories"):
        if name not in top:
            raise LabelError(
                f"no '{name}' in the file", where=report.where, expected="a COCO instances file"
            )
    _note_file_fields(report, [n for n in top if n not in ("images", "annotations", "categories")])
    images, categories, annotations = (
        _list_of_objects(bytes(top.get(name, Raw(b"[]"))), name, report.where)
        for name in ("images", "categories", "annotations")
    )
    reader = _Tolerant(report)
    return File(
        images=list(reader.images(images)),
        categories=[{k: _value(raw) for k, raw in record.items()} for record in categories],
        annotations=iter([list(reader.annotations(annotations, 0))]),
    )


def _top_level(data: bytes, where: str) -> dict[str, Raw]:
    """The file's fields, each still as text."""
    try:
        return msgspec.json.decode(data, type=dict[str, Raw])
    except msgspec.ValidationError as error:
        raise LabelError(
            "not a COCO instances file",
            where=where,
            expected='an object with "images", "annotations" and "categories"',
            got=str(error),
            fix="a bare list is a results file; it has no pictures",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # NaN and Infinity are no JSON, but json.dump writes them
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LabelError("the label file is not JSON", where=where, got=str(error)) from error
    if not isinstance(fields, dict):
        raise LabelError("not a COCO instances file", where=where, got=type(fields).__name__)
    return {name: Raw(json.dumps(value).encode()) for name, value in fields.items()}


def _list_of_objects(text: bytes, name: str, where: str) -> list[dict[str, Raw]]:
    """Objects whose fields are still text."""
    try:
        return msgspec.json.decode(text, type=list[dict[str, Raw]])
    except msgspec.ValidationError as error:
        raise LabelError(f"'{name}' is no list of objects", where=where, got=str(error)) from error
    except msgspec.DecodeError:
        records = json.loads(text)
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise LabelError(f"'{name}' is no list of objects", where=where) from None
        return [{k: Raw(json.dumps(v).encode()) for k, v in r.items()} for r in records]


class _Tolerant:
    """Reads records field by field and reports every field that is not as it should be."""

    def __init__(self, report: LabelReport) -> None:
        self.report = report

    def images(self, records: list[dict[str, Raw]]) -> Iterator[Image]:
        for at, record in enumerate(records):
            place = f"images[{at}]"
            key = self._integer(record.pop("id", None), place, "image id")
            name = _value(record.pop("file_name", None))
            if key is None or not isinstance(name, str):
                self.report.add("picture without id or file_name", "left out", [place])
                continue
            size = [
                self._pixels(record.pop(side, None), place, side) for side in ("width", "height")
            ]
            yield Image(id=key, file_name=name, width=size[0], height=size[1], extra=record or None)

    def annotations(self, records: list[dict[str, Raw]], first: int) -> Iterator[Annotation]:
        for at, record in enumerate(records, start=first):
            place = f"annotation {_text(record['id'])}" if "id" in record else f"annotations[{at}]"
            key = self._integer(record.pop("id", None), place, "annotation id")
            image = self._integer(record.pop("image_id", None), place, "image id")
            category = self._integer(record.pop("category_id", None), place, "category id")
            if image is None or category is None:
                self.report.add("label without image_id or category_id", "left out", [place])
                continue
            if key is None:
                key = -1 - at  # its place in the file, below all ids that files have
                self.report.add("label without an id", "given a new one", [place])
            segmentation = self._segmentation(record.pop("segmentation", None), place)
            bbox = self._bbox(record.pop("bbox", None), segmentation, place)
            if bbox is None:
                continue
            yield Annotation(
                id=key,
                image_id=image,
                category_id=category,
                bbox=bbox,
                area=_float(record.pop("area", None)),
                iscrowd=int(bool(_value(record.pop("iscrowd", None)))),
                score=_float(record.pop("score", None)),
                segmentation=segmentation,
                extra=record or None,
            )

    def _integer(self, raw: Raw | None, place: str, what: str) -> int | None:
        value = _value(raw)
        if isinstance(value, str):
            self.report.add(f"string as {what}", "read as a number", [f"{place}: {value!r}"])
            is_number = value.strip().lstrip("-").isdecimal()
            value = int(value) if is_number else _number_of(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        is_id = isinstance(value, int) and not isinstance(value, bool)
        return value if is_id and abs(value) < 2**63 else None

    def _pixels(self, raw: Raw | None, place: str, side: str) -> int:
        value = self._integer(raw, place, side)
        return value if value is not None and 0 <= value < 2**31 else _NO_SIZE

    def _segmentation(self, raw: Raw | None, place: str) -> Raw:
        text = b"" if raw is None else bytes(raw)
        if b"NaN" in text or b"Infinity" in text:
            self.report.add("polygon with a number that is not finite", "polygon left out", [place])
            return Raw()
        return Raw(text)

    def _bbox(
        self, raw: Raw | None, segmentation: Raw, place: str
    ) -> tuple[float, float, float, float] | None:
        value = _value(raw)
        if isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)):
            return (float(value[0]), float(value[1]), float(value[2]), float(value[3]))
        box = _box_of(bytes(segmentation))
        kind = "label without a box" if raw is None else "box that is not four numbers"
        action = "left out" if box is None else "taken from the mask"
        self.report.add(kind, action, [place])
        return box


def _box_of(segmentation: bytes) -> tuple[float, float, float, float] | None:
    """x, y, width, height around a polygon or mask; None where there is none."""
    shape = _value(Raw(segmentation)) if segmentation else None
    if isinstance(shape, dict):
        try:
            counts, height, _ = rle.from_json(segmentation)
        except DataError:
            return None
        x0, y0, x1, y1 = rle.box_xyxy(counts, height).tolist()
    elif isinstance(shape, list) and any(shape) and all(isinstance(p, list) for p in shape):
        xs = [x for part in shape for x in part[0::2]]
        ys = [y for part in shape for y in part[1::2]]
        x0, y0, x1, y1 = min(xs), min(ys), max(xs), max(ys)
    else:
        return None
    return x0, y0, x1 - x0, y1 - y0


def _value(raw: Raw | None) -> Any:
    return None if raw is None else json.loads(bytes(raw))


def _text(raw: Raw) -> str:
    return bytes(raw).decode(errors="replace")


def _float(raw: Raw | None) -> float:
    value = _value(raw)
    return float(value) if _is_number(value) else float("nan")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number_of(text: str) -> int:
    """A number for an id that is a word: the same word gives the same number, in any file."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "little")
