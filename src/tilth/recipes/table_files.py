"""Tables on disk, whole in memory: CSV, TSV, JSON lines and Parquet, read and written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from tilth.data.atomic import atomic_writer
from tilth.errors import DataError, EmptyDatasetError

__all__ = ["TABLE_SUFFIXES", "read_table", "with_predictions", "write_table"]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def read_table(path: Path) -> pa.Table:
    """The table in a file; its suffix says how to read it.

    Raises:
        DataError: no such file, another suffix, or a broken file.
        EmptyDatasetError: no row.
    """
    _check_suffix(path)
    try:
        table = _read(path)
    except FileNotFoundError as error:
        raise DataError("the table is not there", where=str(path)) from error
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise DataError("the table cannot be read", where=str(path), got=str(error)) from error
    if not len(table):
        raise EmptyDatasetError("the table has no row", where=str(path))
    return table


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table, whole or not at all.

    Raises:
        DataError: a suffix that is none of `TABLE_SUFFIXES`.
        StorageError: the disk refused.
    """
    _check_suffix(path)
    with atomic_writer(path) as stream:
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(table, stream)
        elif path.suffix == ".jsonl":
            import orjson

            for row in table.to_pylist():
                stream.write(orjson.dumps(row) + b"\n")
        else:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            options = pyarrow.csv.WriteOptions(delimiter=delimiter)
            pyarrow.csv.write_csv(table, stream, options)


def with_predictions(
    table: pa.Table,
    rows: NDArray[np.int64],
    probabilities: NDArray[Any],
    class_names: tuple[str, ...],
    *,
    parts: dict[str, NDArray[np.int64]] | None = None,
) -> pa.Table:
    """The table with what was predicted, in columns of its own at the end.

    ``prediction`` is the likeliest class and ``probability`` its own; ``probability of NAME`` is
    that of each class. A row without prediction has nulls.

    Args:
        rows: int64 [n], the rows of ``table`` that the predictions are for.
        probabilities: [n, k].
        parts: rows by the part of the data they were in, for a column ``part``.

    Raises:
        DataError: the table has a column of such a name already.

    >>> table = pa.table({"text": ["a", "b"]})
    >>> done = with_predictions(table, np.array([1]), np.array([[0.25, 0.75]]), ("no", "yes"))
    >>> done.column("prediction").to_pylist(), done.column("probability of no").to_pylist()
    ([None, 'yes'], [None, 0.25])
    """
    best = probabilities.argmax(axis=1)
    names = np.array(class_names, dtype=object)[best]
    columns: dict[str, pa.Array] = {
        "prediction": _spread(names, rows, len(table), pa.string()),
        "probability": _spread(probabilities.max(axis=1), rows, len(table), pa.float64()),
    }
    for number, name in enumerate(class_names):
        column = _spread(probabilities[:, number], rows, len(table), pa.float64())
        columns[f"probability of {name}"] = column
    if parts is not None:
        words = np.concatenate([np.full(len(own), part, object) for part, own in parts.items()])
        columns["part"] = _spread(
            words, np.concatenate(list(parts.values())), len(table), pa.string()
        )
    taken = [name for name in columns if name in table.column_names]
    if taken:
        raise DataError(
            "the table has a column for predictions already",
            got=", ".join(taken),
            fix="rename or remove the column, so that nothing is replaced",
        )
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _spread(
    values: NDArray[Any], rows: NDArray[np.int64], length: int, kind: pa.DataType
) -> pa.Array:
    full = np.full(length, None, dtype=object)
    full[rows] = values
    return pa.array(full.tolist(), type=kind)


def _read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    if path.suffix == ".jsonl":
        return pyarrow.json.read_json(path)
    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(
            delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True
        ),
    )


def _check_suffix(path: Path) -> None:
    if path.suffix not in TABLE_SUFFIXES:
        raise DataError(
            "a table of this kind cannot be used",
            where=str(path),
            expected=", ".join(TABLE_SUFFIXES),
            got=path.suffix or "no suffix",
        )
