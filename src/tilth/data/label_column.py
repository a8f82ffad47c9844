"""The labels in one column of a table file, and the same table with others in their place.

All other cells stay as they are: of a CSV or TSV file their text (a code ``007`` is no number
here), of a Parquet file their types.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from pyarrow import csv as pacsv

from tilth.data.atomic import atomic_writer
from tilth.data.frame_labels import class_codes, class_values, sorted_names
from tilth.errors import DataError, EmptyDatasetError

__all__ = ["TABLE_SUFFIXES", "LabelColumn", "read_label_column"]

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
_BLOCK_BYTES = 2**24  # a row must fit into one


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelColumn:
    """The labels of a table.

    Attributes:
        path: the file that was read.
        name: of the column.
        class_names: the different labels, numbers by value, else by their text.
        labels: int64 [n], places in ``class_names``; -1 where a row has none.
        table: all columns; of a CSV or TSV file all are text.
    """

    path: Path
    name: str
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    table: pa.Table

    def numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """float64 [n, d]: other columns as numbers.

        Raises:
            DataError: no such column, or a cell that is no number.
        """
        columns = []
        for name in names:
            _require_column(self.table, name, self.path)
            try:
                columns.append(self.table.column(name).cast(pa.float64()).to_numpy())
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"the column '{name}' does not hold numbers",
                    where=str(self.path),
                    got=str(error),
                ) from error
        return np.stack(columns, axis=1)

    def write(self, target: Path, labels: NDArray[np.int64]) -> None:
        """Write the table with ``labels`` (int64 [n], -1 for none) in place of its own.

        Raises:
            DataError: another kind of file than the one that was read.
            StorageError: the disk refused.
        """
        if target.suffix != self.path.suffix:
            raise DataError(
                "a table is written as the kind of file that it was",
                where=str(target),
                expected=self.path.suffix,
                got=target.suffix or "no suffix",
            )
        at = self.table.column_names.index(self.name)
        own = self.table.column(at)
        values = own.cast(own.type.value_type) if pa.types.is_dictionary(own.type) else own
        rows = np.flatnonzero(self.labels >= 0)
        _, first = np.unique(self.labels[rows], return_index=True)  # one row of each class
        words = values.take(pa.array(rows[first])).combine_chunks()
        column = words.take(pa.array(labels, mask=labels < 0))
        if pa.types.is_dictionary(own.type):
            column = column.dictionary_encode()
        field = pa.field(self.name, column.type, metadata=self.table.schema.field(at).metadata)
        _write_plain_table(self.table.set_column(at, field, column), target)


def read_label_column(path: Path, name: str) -> LabelColumn:
    """The labels in the column ``name`` of a table file.

    Raises:
        DataError: no such file or column, another suffix, a broken file, numbers with a fraction.
        EmptyDatasetError: no row with a label.
    """
    table = _read(path)
    _require_column(table, name, path)
    own = table.column(name)
    if path.suffix != ".parquet":
        own = pa.chunked_array([pa.array([cell or None for cell in own.to_pylist()], pa.string())])
    present = np.flatnonzero(np.asarray(own.is_valid()))
    if not len(present):
        raise EmptyDatasetError("no row has a label", where=f"{path}, column '{name}'")
    labelled = own.take(pa.array(present))
    if path.suffix != ".parquet":
        _refuse_measurements(labelled, name, path)
    values = class_values(labelled, column=name)
    names = sorted_names(values.unique().to_pylist())
    labels = np.full(len(table), -1, dtype=np.int64)
    labels[present] = class_codes(values, names, rows=present, column=name)
    return LabelColumn(path=path, name=name, class_names=names, labels=labels, table=table)


def _read(path: Path) -> pa.Table:
    if path.suffix not in TABLE_SUFFIXES:
        raise DataError(
            "a table of this kind cannot be used",
            where=str(path),
            expected=", ".join(TABLE_SUFFIXES),
            got=path.suffix or "no suffix",
        )
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        return _from_text(path)
    except FileNotFoundError as error:
        raise DataError("the table is not there", where=str(path)) from error
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("the table cannot be read", where=str(path), got=str(error)) from error


def _from_text(path: Path) -> pa.Table:
    """All cells as text; a cell may hold line breaks."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        header = next(csv.reader(stream, delimiter=_delimiter(path)), [])
    if len(set(header)) < len(header) or not header:
        raise DataError(
            "the first line must name the columns, each once",
            where=str(path),
            got=", ".join(header) or "nothing",
        )
    return pacsv.read_csv(
        path,
        read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=pacsv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.large_string()), strings_can_be_null=False
        ),
    )


def _write_plain_table(table: pa.Table, target: Path) -> None:
    """Write a table, whole or not at all; the suffix says as what, and text is quoted where needed.

    Raises:
        StorageError: the disk refused.
    """
    with atomic_writer(target) as stream:
        if target.suffix == ".parquet":
            pyarrow.parquet.write_table(table, stream)
            return
        lines = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        writer = csv.writer(lines, delimiter=_delimiter(target), lineterminator="\n")
        writer.writerow(table.column_names)
        columns = (column.to_pylist() for column in table.columns)
        writer.writerows(zip(*columns, strict=True))
        lines.flush()
        lines.detach()  # the stream is the atomic writer's to close


def _refuse_measurements(cells: pa.ChunkedArray, name: str, path: Path) -> None:
    """Refuse a text file's column of numbers with a fraction, as `class_values` does of Parquet."""
    try:
        numbers = cells.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        return
    fractional = np.flatnonzero(np.isfinite(numbers) & (numbers != np.floor(numbers)))
    if len(fractional):
        raise DataError(
            f"the column '{name}' holds numbers with a fraction, which are no classes",
            where=str(path),
            got=cells[int(fractional[0])].as_py(),
        )


def _require_column(table: pa.Table, name: str, path: Path) -> None:
    if name not in table.column_names:
        raise DataError(
            f"the table has no column '{name}'",
            where=str(path),
            expected=", ".join(table.column_names),
        )


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","
