"""The tables of Tilth's own format as Parquet: from array to file and back, no row an object.

Segmentations and attributes go as they lie in memory: their bytes and offsets are Arrow's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tilth.data.formats._tilth_columns import CORNERS, NULLABLE, SCHEMAS, Columns, Table
from tilth.data.ragged import RaggedBytes
from tilth.errors import LabelError

__all__ = ["read_parquet", "write_parquet"]

_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "int8": pa.int8(),
    "uint8": pa.uint8(),
    "bool": pa.bool_(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "text": pa.large_string(),
    "bytes": pa.large_binary(),
}
_MAX_BYTES = 2**36  # of a table, unpacked: more than any label set, less than a bomb wants
_ROWS_A_GROUP = 131_072
_HIGH_CARDINALITY = (*CORNERS, "id", "area", "uri", "segmentation", "attributes")


def write_parquet(stream: BinaryIO, table: Table, columns: Columns) -> None:
    """Write one table."""
    schema = SCHEMAS[table]
    arrays = [_to_arrow(columns[name], kind, name) for name, kind in schema.items()]
    fields = [
        pa.field(name, _TYPES[kind], nullable=name in NULLABLE) for name, kind in schema.items()
    ]
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=pa.schema(fields)),
        stream,
        row_group_size=_ROWS_A_GROUP,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in schema if name not in _HIGH_CARDINALITY],
        write_statistics=[name for name, kind in schema.items() if kind not in ("text", "bytes")],
    )


def _to_arrow(column: Any, kind: str, name: str) -> pa.Array:
    if isinstance(column, RaggedBytes):
        packed = column.packed()
        valid = np.packbits(packed.lengths > 0, bitorder="little")
        buffers = [pa.py_buffer(part) for part in (valid, packed.offsets, packed.data)]
        return pa.LargeBinaryArray.from_buffers(_TYPES[kind], len(packed), buffers)
    # NaN is how our columns say that there is none; a table says null.
    missing = np.isnan(column) if name in NULLABLE else None
    return pa.array(column, type=_TYPES[kind], mask=missing)


def read_parquet(path: Path, table: Table) -> Columns:
    """Read the columns of one table that this version knows.

    Raises:
        LabelError: not such a table, a column that is missing or of another type, or a null.
    """
    schema = SCHEMAS[table]
    try:
        with pq.ParquetFile(path) as file:
            _refuse_bomb(file.metadata, path)
            missing = [name for name in schema if name not in file.schema_arrow.names]
            if missing:
                raise LabelError(f"no column '{missing[0]}' in the table", where=str(path))
            return {
                name: _from_arrow(file.read(columns=[name]).column(name), name, kind, path)
                for name, kind in schema.items()
            }
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        got = str(error)[:200]
        raise LabelError("a table that cannot be read", where=str(path), got=got) from error


def _refuse_bomb(metadata: Any, path: Path) -> None:
    size = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
    if not 0 <= size <= _MAX_BYTES:
        raise LabelError(
            "a table beyond the size of all label sets",
            where=str(path),
            expected=f"at most {_MAX_BYTES} bytes unpacked",
            got=str(size),
        )


def _from_arrow(column: pa.ChunkedArray, name: str, kind: str, path: Path) -> Any:
    column = column.cast(_TYPES[kind])
    if column.null_count and name not in NULLABLE:
        raise LabelError(f"a null in the column '{name}'", where=str(path))
    if kind == "bytes":
        return RaggedBytes.concatenate([_ragged(chunk) for chunk in column.chunks])
    if kind == "text":
        return column.to_pylist()
    return column.to_numpy()  # null becomes NaN


def _ragged(chunk: pa.Array) -> RaggedBytes:
    _, offsets, data = chunk.buffers()
    at = np.frombuffer(offsets, np.int64, len(chunk) + 1, 8 * chunk.offset)
    return RaggedBytes(memoryview(data) if data is not None else b"", at)
