"""Whole columns into a table and out of it: no object per row outlives its block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data.database import is_sqlite
from tilth.data.ragged import RaggedBytes

__all__ = [
    "blocks_of_keys",
    "insert_columns",
    "next_id",
    "read_columns",
    "rows_where_in",
    "upsert_columns",
]

Column = NDArray[Any] | Sequence[Any] | int | None
"""A column to write: an array, a sequence, or one value for all rows."""

_BLOCK = 20_000  # rows: a few MB of Python objects at a time
_BLOCK_OF_KEYS = 900  # below the smallest limit on bound parameters, SQLite's 999


def insert_columns(
    connection: Connection,
    table: sa.Table,
    columns: Mapping[str, Column],
    *,
    advance: Callable[[int], object] | None = None,
) -> None:
    """Insert one row for each position of the columns, inside the caller's transaction.

    Args:
        columns: name -> values; all of one length, a single value is repeated.
        advance: called with the number of rows after each block.
    """
    if is_sqlite(connection):
        _executemany(connection, _insert_statement(connection, table, columns), columns, advance)
    else:
        _copy(connection, _quoted(connection, table.name), columns, advance)


def upsert_columns(
    connection: Connection, table: sa.Table, columns: Mapping[str, Column], *, key: Sequence[str]
) -> None:
    """As `insert_columns`; a row whose ``key`` columns are there already is replaced."""
    quote = connection.dialect.identifier_preparer.quote
    others = [name for name in columns if name not in key]
    conflict = f"ON CONFLICT ({', '.join(map(quote, key))}) DO UPDATE SET " + ", ".join(
        f"{quote(name)} = excluded.{quote(name)}" for name in others
    )
    if is_sqlite(connection):
        statement = _insert_statement(connection, table, columns)
        _executemany(connection, f"{statement} {conflict}", columns, None)
        return
    name = _quoted(connection, table.name)
    connection.exec_driver_sql(f"CREATE TEMP TABLE staged (LIKE {name}) ON COMMIT DROP")
    _copy(connection, "staged", columns, None)
    names = ", ".join(map(quote, columns))
    connection.exec_driver_sql(
        f"INSERT INTO {name} ({names}) SELECT {names} FROM staged {conflict}"
    )
    connection.exec_driver_sql("DROP TABLE staged")


def read_columns(
    connection: Connection, statement: sa.Select[Any], dtypes: Sequence[str]
) -> list[Any]:
    """Run a query and give its columns.

    Args:
        dtypes: one NumPy type a column; ``"bytes"`` gives `RaggedBytes`, ``"object"`` a list.
            NULL becomes NaN in a floating column, None in the other two.
    """
    blocks: list[list[Any]] = [[] for _ in dtypes]
    result = connection.execute(statement)
    # The driver's own cursor: SQLAlchemy would wrap each row in an object of its own.
    cursor = result.cursor
    assert cursor is not None
    while rows := cursor.fetchmany(_BLOCK):
        for block, values, dtype in zip(blocks, zip(*rows, strict=True), dtypes, strict=True):
            block.append(_packed(values, dtype))
    result.close()
    return [_concatenated(block, dtype) for block, dtype in zip(blocks, dtypes, strict=True)]


def rows_where_in(
    connection: Connection,
    statement: sa.Select[Any],
    column: sa.ColumnElement[Any],
    values: Sequence[Any],
    dtypes: Sequence[str],
) -> list[Any]:
    """As `read_columns`, for the rows whose ``column`` is one of many ``values``."""
    parts = [
        read_columns(connection, statement.where(column.in_(block)), dtypes)
        for block in blocks_of_keys(values)
    ]
    columns = zip(*parts, strict=True) if parts else [[] for _ in dtypes]
    return [_concatenated(list(part), dtype) for part, dtype in zip(columns, dtypes, strict=True)]


def blocks_of_keys(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The values in blocks that one statement may bind."""
    for at in range(0, len(values), _BLOCK_OF_KEYS):
        yield values[at : at + _BLOCK_OF_KEYS]


def next_id(connection: Connection, table: sa.Table) -> int:
    """The first id that no row of the table has; the caller holds the writer's lock."""
    highest = connection.execute(sa.select(sa.func.max(table.c.id))).scalar()
    return 1 if highest is None else int(highest) + 1


def _insert_statement(
    connection: Connection, table: sa.Table, columns: Mapping[str, Column]
) -> str:
    """SQLite's statement; values that all rows share stand in it and are not bound a row."""
    names = ", ".join(_quoted(connection, name) for name in columns)
    marks = ", ".join("?" if _is_column(c) else _literal(c) for c in columns.values())
    return f"INSERT INTO {_quoted(connection, table.name)} ({names}) VALUES ({marks})"


def _literal(value: Column) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(int(value))
    raise TypeError(f"a shared value is an integer or None, not {type(value).__name__}")


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)


def _executemany(
    connection: Connection,
    statement: str,
    columns: Mapping[str, Column],
    advance: Callable[[int], object] | None,
) -> None:
    # Straight to the driver, which takes an iterator: SQLAlchemy wants a list, and a list of a
    # million tuples is what Python's garbage collector then walks through again and again.
    driver: Any = connection.connection.driver_connection
    for count, rows in _row_blocks({n: c for n, c in columns.items() if _is_column(c)}):
        driver.executemany(statement, rows)
        if advance is not None:
            advance(count)


def _copy(
    connection: Connection,
    quoted_table: str,
    columns: Mapping[str, Column],
    advance: Callable[[int], object] | None,
) -> None:
    names = ", ".join(_quoted(connection, name) for name in columns)
    driver: Any = connection.connection.driver_connection
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY {quoted_table} ({names}) FROM STDIN") as copy,
    ):
        for count, rows in _row_blocks(columns):
            for row in rows:
                copy.write_row(row)
            if advance is not None:
                advance(count)


def _row_blocks(
    columns: Mapping[str, Column],
) -> Iterator[tuple[int, Iterator[tuple[Any, ...]]]]:
    """The number of rows of a block, and the rows."""
    lengths = {len(column) for column in columns.values() if _is_column(column)}  # type: ignore[arg-type]
    if len(lengths) != 1:
        raise ValueError(f"columns of one length expected, got {sorted(lengths)}")
    (length,) = lengths
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        yield stop - start, zip(*(_block(c, start, stop) for c in columns.values()), strict=True)


def _is_column(column: Column) -> bool:
    return isinstance(column, (np.ndarray, Sequence)) and not isinstance(column, str)


def _block(column: Column, start: int, stop: int) -> Any:
    if not _is_column(column):
        return repeat(column, stop - start)
    part = column[start:stop]  # type: ignore[index]
    return part.tolist() if isinstance(part, np.ndarray) else part


def _packed(values: Sequence[Any], dtype: str) -> Any:
    if dtype == "bytes":
        return RaggedBytes.of(values)
    return list(values) if dtype == "object" else np.array(values, dtype=dtype)


def _concatenated(blocks: list[Any], dtype: str) -> Any:
    if dtype == "bytes":
        return RaggedBytes.concatenate(blocks)
    if dtype == "object":
        return [value for block in blocks for value in block]
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=dtype)
