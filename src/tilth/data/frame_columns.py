"""Which columns of a frame mean what, and whether their rows can be used.

Everything is checked once, on the way in: a missing value, an empty text or a text that is none is
an error with its rows, or is left out where that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.errors import DataError, EmptyDatasetError, SettingsError

__all__ = ["ColumnSettings", "Task", "refuse_duplicates", "refuse_nothing_left", "usable_rows"]

Task = Literal["classify", "regress"]

_SHOWN_ROWS = 5


@dataclass(frozen=True, kw_only=True)
class ColumnSettings:
    """The columns by their meaning, and what to do about rows that lack something.

    Attributes:
        text: the column of texts; None where there is none.
        label: the column of labels; None where nothing is known yet.
        numeric: columns of numbers, given to the model as they are.
        categorical: columns of categories, given as numbers from 1; 0 is missing or unknown.
        weight: the column of sample weights.
        index: the column whose values name the rows; they must differ.
        task: what a label is: one of several classes, or a number.
        on_missing: a missing text, label, number or weight is an error, or drops the row.
        on_empty: a text without any character but white space is an error, drops the row, or stays
            as a text of length 0.
        on_single: a class that only one row has is an error, a warning, or nothing.
    """

    text: str | None = "unstructured_text"
    label: str | None = "label"
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    weight: str | None = None
    index: str | None = None
    task: Task = "classify"
    on_missing: Literal["error", "drop"] = "error"
    on_empty: Literal["error", "drop", "keep"] = "error"
    on_single: Literal["error", "warn", "keep"] = "warn"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"{name} cannot be used",
                    expected=" or ".join(map(repr, choices)),
                    got=repr(getattr(self, name)),
                )
        if self.text is None and not (self.numeric or self.categorical):
            raise SettingsError(
                "there is no column to learn from",
                expected="a text column, or numeric or categorical ones",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        single = (self.text, self.label, self.weight, self.index)
        given = tuple(name for name in single if name is not None)
        return (*given, *self.numeric, *self.categorical)


_CHOICES: dict[str, Sequence[str]] = {
    "task": ("classify", "regress"),
    "on_missing": ("error", "drop"),
    "on_empty": ("error", "drop", "keep"),
    "on_single": ("error", "warn", "keep"),
}


def usable_rows(
    table: pa.Table, columns: ColumnSettings, *, first_row: int = 0
) -> tuple[pa.Table, NDArray[np.int64]]:
    """The rows that can be used, texts as large_string and numbers as float64; and which they are.

    Args:
        first_row: the number of the first row of ``table`` in the whole frame, for errors.

    Returns:
        The table, and int64 [n]: its rows counted in the whole frame.

    Raises:
        DataError: a column of another type, a missing value, an empty text, an infinite number.
    """
    kept = np.ones(len(table), dtype=bool)
    arrays = dict(zip(table.column_names, table.columns, strict=True))
    if columns.text is not None:
        arrays[columns.text] = _texts(columns.text, arrays[columns.text])
    numbers = list(columns.numeric)
    if columns.weight is not None:
        numbers.append(columns.weight)
    if columns.label is not None and columns.task == "regress":
        numbers.append(columns.label)
    for name in numbers:
        arrays[name] = _numbers(name, arrays[name])
    required = [*numbers, *(n for n in (columns.text, columns.label) if n and n not in numbers)]
    for name in required:
        bad = _mask(pc.is_null(arrays[name], nan_is_null=True))
        if columns.on_missing == "error":
            _refuse_missing(name, bad, first_row)
        kept &= ~bad
    _refuse_unusable_numbers(arrays, numbers, columns.weight, first_row)
    if columns.text is not None and columns.on_empty != "keep":
        empty = _empty_texts(arrays[columns.text])
        if columns.on_empty == "error":
            _refuse_empty(columns.text, empty & kept, first_row)
        kept &= ~empty
    clean = pa.table(arrays)
    rows = np.flatnonzero(kept)
    if len(rows) < len(table):
        clean = clean.filter(pa.array(kept))
    return clean, rows + first_row


def _texts(name: str, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = texts.type.value_type if pa.types.is_dictionary(texts.type) else texts.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise DataError(
            f"the text column '{name}' holds bytes",
            expected="strings",
            fix=f"decode them first: frame['{name}'].str.decode('utf-8')",
        )
    if not (_is_string(kind) or pa.types.is_null(kind)):
        first = next((value for value in texts.to_pylist() if value is not None), None)
        raise DataError(
            f"the text column '{name}' holds no texts",
            expected="strings",
            got=f"{kind}, for instance {first!r}",
            fix="name the column that holds the texts, or turn it into strings",
        )
    return texts.cast(pa.large_string())


def _is_string(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _numbers(name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = values.type
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    if not (any(test(kind) for test in known) or pa.types.is_null(kind)):
        raise DataError(
            f"the column '{name}' holds no numbers",
            expected="integers, floats or booleans",
            got=str(kind),
            fix="turn it into numbers, or name it under categorical",
        )
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    return values.cast(pa.float64(), safe=False)


def _refuse_missing(name: str, bad: NDArray[np.bool_], first_row: int) -> None:
    if bad.any():
        raise DataError(
            f"the column '{name}' has {int(bad.sum()):,} missing values in {len(bad):,} rows",
            where=_rows_text(bad, first_row),
            fix="fill them in, or pass on_missing='drop' to leave these rows out",
        )


def _refuse_empty(name: str, bad: NDArray[np.bool_], first_row: int) -> None:
    if bad.any():
        raise DataError(
            f"the text column '{name}' has {int(bad.sum()):,} empty texts in {len(bad):,} rows",
            where=_rows_text(bad, first_row),
            fix="pass on_empty='drop' to leave these rows out, or 'keep' for texts of length 0",
        )


def _refuse_unusable_numbers(
    arrays: dict[str, pa.ChunkedArray], numbers: list[str], weight: str | None, first_row: int
) -> None:
    for name in numbers:
        values = arrays[name].to_numpy()
        bad = np.isinf(values) | ((values < 0) if name == weight else False)
        if bad.any():
            kind = "a weight that is negative or infinite" if name == weight else "infinite values"
            raise DataError(f"the column '{name}' has {kind}", where=_rows_text(bad, first_row))


def _empty_texts(texts: pa.ChunkedArray) -> NDArray[np.bool_]:
    bare = pc.binary_length(pc.utf8_trim_whitespace(texts))
    return _mask(pc.fill_null(pc.equal(bare, 0), False))


def _rows_text(bad: NDArray[np.bool_], first_row: int) -> str:
    rows = np.flatnonzero(bad) + first_row
    more = ", ..." if len(rows) > _SHOWN_ROWS else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:_SHOWN_ROWS]))}{more}"


def _mask(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(), dtype=bool)


def refuse_nothing_left(num_rows: int, columns: ColumnSettings) -> None:
    """Raise `EmptyDatasetError` where no row can be used."""
    if not num_rows:
        raise EmptyDatasetError(
            "the frame has no row that can be used",
            got=f"columns {', '.join(columns.names)}",
            fix="look at the filter before it, or at on_missing='drop' and on_empty='drop'",
        )


def refuse_duplicates(values: pa.ChunkedArray, name: str, rows: NDArray[np.int64]) -> None:
    """Raise `DataError` where two rows have the same name."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    counted = pc.value_counts(values)
    repeated = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
    if len(repeated):
        again = rows[np.flatnonzero(np.asarray(pc.equal(values, repeated[0])))]
        listed = ", ".join(map(str, again[:_SHOWN_ROWS]))
        raise DataError(
            f"the index column '{name}' has {len(repeated):,} values more than once",
            where=f"{repeated[0].as_py()!r} in rows {listed}",
            expected="a value of its own for each row",
            fix="drop or renumber these rows, or leave index out: rows then go by their number",
        )
