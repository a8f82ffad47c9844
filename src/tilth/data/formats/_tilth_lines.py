"""The tables of Tilth's own format as JSON lines: for people, diffs and other languages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from tilth.data.formats._tilth_columns import CORNERS, SCHEMAS, Columns, Table
from tilth.data.ragged import RaggedBytes
from tilth.errors import LabelError

__all__ = ["read_lines", "write_lines"]

_BLOCK_BYTES = 2**23
_BLOCK_ROWS = 10_000

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Pixels = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Code = Annotated[int, msgspec.Meta(ge=0, le=255)]
SplitCode = Annotated[int, msgspec.Meta(ge=-128, le=127)]
Number = float | None  # a number that is none is not written
_NOTHING = Raw()  # this one object is left out of what is written


class _Medium(msgspec.Struct, gc=False, omit_defaults=True):
    id: Int64
    uri: str
    width: Pixels
    height: Pixels
    split: SplitCode
    parent_id: Int64
    attributes: Raw = _NOTHING


class _Annotation(msgspec.Struct, gc=False, omit_defaults=True):
    id: Int64
    media_index: Int64
    category_index: Int64
    box_xyxy: tuple[float, float, float, float]
    is_crowd: bool
    source: Code
    review_state: Code
    geometry: Code
    area: Number = None
    score: Number = None
    segmentation: Raw = _NOTHING
    attributes: Raw = _NOTHING


_RECORDS: dict[Table, Any] = {"media": _Medium, "annotations": _Annotation}


def write_lines(stream: BinaryIO, table: Table, columns: Columns) -> None:
    """Write one table, an object a line."""
    record, encode = _RECORDS[table], msgspec.json.Encoder().encode_lines
    columns = dict(columns)
    if table == "annotations":
        columns["box_xyxy"] = np.stack([columns.pop(name) for name in CORNERS], axis=1)
    for start in range(0, len(columns["id"]), _BLOCK_ROWS):
        values = [
            _plain(columns[name][start : start + _BLOCK_ROWS]) for name in record.__struct_fields__
        ]
        stream.write(encode([record(*row) for row in zip(*values, strict=True)]))


def _plain(column: Any) -> list[Any]:
    if isinstance(column, RaggedBytes):  # a line break between two values is no part of either
        return [Raw(text.replace(b"\n", b" ")) if text else _NOTHING for text in column]
    if not isinstance(column, np.ndarray):
        return list(column)
    values: list[Any] = column.tolist()
    if column.dtype.kind == "f" and column.ndim == 1:
        return [None if value != value else value for value in values]
    return values


def read_lines(path: Path, table: Table) -> Columns:
    """Read one table; fields that this version does not know are passed over.

    Raises:
        LabelError: a line that is not such a record.
    """
    schema = {name: kind for name, kind in SCHEMAS[table].items() if name not in CORNERS}
    parts: dict[str, list[Any]] = {name: [] for name in schema}
    boxes: list[NDArray[np.float64]] = [np.empty((0, 4))]
    for records in _blocks(path, _RECORDS[table]):
        for name, kind in schema.items():
            parts[name].append(_column(map(attrgetter(name), records), kind, len(records)))
        if table == "annotations":
            flat = chain.from_iterable(map(attrgetter("box_xyxy"), records))
            boxes.append(np.fromiter(flat, np.float64, 4 * len(records)).reshape(-1, 4))
    columns = {name: _joined(parts[name], kind) for name, kind in schema.items()}
    if table == "annotations":
        columns |= dict(zip(CORNERS, np.concatenate(boxes).T, strict=True))
    return columns


def _blocks(path: Path, record: Any) -> Iterator[list[Any]]:
    """The records, some megabytes of lines at a time."""
    decoder = msgspec.json.Decoder(record)
    first_line = 1
    with path.open("rb") as stream:
        while lines := stream.readlines(_BLOCK_BYTES):
            try:
                yield decoder.decode_lines(b"".join(lines))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                _raise_at(decoder, lines, first_line, path)
            first_line += len(lines)


def _raise_at(decoder: Any, lines: list[bytes], first_line: int, path: Path) -> None:
    """Find the line that does not decode, and say where it is."""
    for number, line in enumerate(lines, start=first_line):
        try:
            decoder.decode_lines(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            where = f"{path}:{number}"
            raise LabelError(
                "a line that is no record of this table", where=where, got=str(error)
            ) from error


def _column(values: Iterator[Any], kind: str, count: int) -> Any:
    if kind == "bytes":
        return RaggedBytes.of(values)
    if kind == "text":
        return list(values)
    if kind.startswith("float"):
        values = (np.nan if value is None else value for value in values)
    return np.fromiter(values, kind, count)


def _joined(parts: list[Any], kind: str) -> Any:
    if kind == "bytes":
        return RaggedBytes.concatenate(parts)
    if kind == "text":
        return list(chain.from_iterable(parts))
    return np.concatenate([np.empty(0, kind), *parts])
