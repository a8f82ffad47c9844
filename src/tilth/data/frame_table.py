"""Any data frame as an Arrow table of the columns that are asked for.

pandas, polars (lazy frames too), Arrow tables and batches, everything else that speaks the Arrow
stream protocol, that narwhals knows, or that speaks the older data frame interchange protocol; and
a mapping of names to lists.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tilth.errors import DataError, SettingsError

__all__ = ["column_names", "refuse_missing_columns", "table_of"]


def table_of(frame: Any, columns: Sequence[str]) -> pa.Table:
    """The named columns of a frame, in this order.

    Raises:
        SettingsError: not a frame, or a column twice among ``columns``.
        DataError: a column is missing, or mixes types.
    """
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise SettingsError("a column was named twice", got=", ".join(map(repr, twice)))
    if isinstance(frame, pa.Table | pa.RecordBatch):
        refuse_missing_columns(columns, frame.schema.names)
        return pa.table({name: frame.column(name) for name in columns})
    if isinstance(frame, Mapping):
        refuse_missing_columns(columns, list(frame))
        return _joined({name: frame[name] for name in columns})
    return _through_narwhals(frame, columns)


def column_names(frame: Any) -> list[str]:
    """The names of the columns of any frame that `table_of` reads."""
    if isinstance(frame, pa.Table | pa.RecordBatch):
        return list(frame.schema.names)
    if isinstance(frame, Mapping):
        return list(frame)
    import narwhals as nw

    frame = nw.to_native(frame, pass_through=True)
    if nw.dependencies.is_pandas_dataframe(frame):
        return list(frame.columns)
    known = nw.from_native(frame, pass_through=True)
    if isinstance(known, nw.DataFrame | nw.LazyFrame):
        return list(known.collect_schema().names())
    if hasattr(frame, "__arrow_c_stream__"):
        return list(pa.RecordBatchReader.from_stream(frame).schema.names)
    return list(getattr(frame, "column_names", list)())


def refuse_missing_columns(columns: Sequence[str], found: Sequence[str]) -> None:
    """Name the columns that are not there, each with the nearest one that is.

    Raises:
        DataError: a column is missing, or is there twice.
    """
    for name in columns:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1, cutoff=0.4)
            raise DataError(
                f"the frame has no column '{name}'",
                expected=", ".join(map(str, found)) or "columns",
                fix=f"did you mean '{near[0]}'?" if near else "name the column that holds it",
            )
        if list(found).count(name) > 1:
            raise DataError(f"the frame has two columns '{name}'", fix="rename one of them")


def _through_narwhals(frame: Any, columns: Sequence[str]) -> pa.Table:
    import narwhals as nw  # half a tenth of a second, for frames only

    frame = nw.to_native(frame, pass_through=True)
    if nw.dependencies.is_pandas_dataframe(frame):  # its names may be there twice, or no strings
        return _from_pandas(frame, columns)
    known = nw.from_native(frame, pass_through=True)
    if isinstance(known, nw.LazyFrame):
        refuse_missing_columns(columns, known.collect_schema().names())
        known = known.select(*columns).collect()
    if isinstance(known, nw.DataFrame):
        refuse_missing_columns(columns, known.columns)
        return known.select(*columns).to_arrow()
    if hasattr(frame, "__arrow_c_stream__"):
        return table_of(pa.table(frame), columns)
    if hasattr(frame, "__dataframe__"):
        from pyarrow.interchange import from_dataframe

        return table_of(from_dataframe(frame), columns)
    raise SettingsError(
        "this is not a data frame that can be read",
        expected="pandas, polars, Arrow, a mapping of columns, or an object of a frame protocol",
        got=type(frame).__name__,
    )


def _from_pandas(frame: Any, columns: Sequence[str]) -> pa.Table:
    """Column by column, so that the names need not be strings and a fault has its column."""
    refuse_missing_columns(columns, list(frame.columns))
    return _joined({name: frame[name] for name in columns})


def _joined(columns: Mapping[str, Any]) -> pa.Table:
    arrays = {name: _array(name, values) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError("the columns have different lengths", got=str(lengths))
    return pa.Table.from_arrays(list(arrays.values()), names=[str(name) for name in arrays])


def _array(name: str, values: Any) -> pa.Array | pa.ChunkedArray:
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise _mixed(name, list(values), error) from error


def _mixed(name: str, values: list[Any], error: Exception) -> DataError:
    present = [(row, value) for row, value in enumerate(values) if not _is_missing(value)]
    kinds = Counter(type(value).__name__ for _, value in present)
    if len(kinds) < 2:
        return DataError(f"the column '{name}' cannot be read", got=str(error))
    rarest = min(kinds, key=lambda kind: (kinds[kind], kind))
    row, value = next((r, v) for r, v in present if type(v).__name__ == rarest)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return DataError(
        f"the column '{name}' mixes types",
        where=f"row {row}, the first {rarest}: {value!r}",
        expected="values of one type",
        got=counts,
        fix=f"make them one: frame['{name}'].astype(str), or correct these rows",
    )


def _is_missing(value: Any) -> bool:
    return value is None or value != value or type(value).__name__ == "NAType"
