"""Parquet and CSV files, here or behind a URL, as pieces that are read on their own.

A piece is a row group of a Parquet file, or a whole CSV file. What is remembered of one is plain
(path and place), so that it can go to another process, which opens the file for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from pyarrow import csv as pacsv
from pyarrow import fs as pafs

from tilth.data.frame_columns import ColumnSettings
from tilth.data.frame_table import refuse_missing_columns
from tilth.errors import DataError, EmptyDatasetError, MissingExtraError

__all__ = ["CsvDialect", "Piece", "TableFiles"]

_BATCH_ROWS = 2**16
_CSV_BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class Piece:
    """A part of a file.

    Attributes:
        num_rows: None where only reading would tell.
    """

    path: str
    row_group: int | None = None
    num_rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class CsvDialect:
    """How a CSV file is written; fields may be quoted and then hold line breaks."""

    delimiter: str = ","
    encoding: str = "utf8"


@dataclass(frozen=True, kw_only=True, eq=False)
class TableFiles:
    """Files of one kind that hold the same columns.

    Attributes:
        protocol, storage_options: the file system of fsspec.
        pieces: in the order of the paths.
    """

    kind: Literal["parquet", "csv"]
    columns: ColumnSettings
    protocol: str
    storage_options: Mapping[str, Any] = field(repr=False)
    pieces: tuple[Piece, ...]
    dialect: CsvDialect = CsvDialect()

    @classmethod
    def open(
        cls,
        paths: str | Path | Sequence[str | Path],
        kind: Literal["parquet", "csv"],
        columns: ColumnSettings,
        *,
        storage_options: Mapping[str, Any] | None = None,
        dialect: CsvDialect = CsvDialect(),
    ) -> TableFiles:
        """Find the files and check that they have the columns.

        Args:
            paths: files, folders, globs or URLs of one file system.

        Raises:
            EmptyDatasetError: no such file.
            DataError: a file that cannot be read, or lacks a column.
            MissingExtraError: the library for a URL is not installed.
        """
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        options = dict(storage_options or {})
        system, found = _expanded([str(path) for path in given], kind, options)
        files = cls(
            kind=kind,
            columns=columns,
            protocol=system.protocol if isinstance(system.protocol, str) else system.protocol[0],
            storage_options=options,
            pieces=tuple(Piece(path) for path in found),
            dialect=dialect,
        )
        return files._divided()

    @property
    def num_rows(self) -> int | None:
        """Rows of all pieces; None where only reading would tell."""
        counts = [piece.num_rows for piece in self.pieces]
        return None if None in counts else sum(count or 0 for count in counts)

    def tables(self, piece: Piece) -> Iterator[pa.Table]:
        """The columns of one piece, some ten thousand rows at a time.

        Raises:
            DataError: the file cannot be read, or a value is not of its column's type.
        """
        try:
            batches = self._fragment(piece).to_batches(
                schema=self._schema(piece),
                columns=list(self.columns.names),
                batch_size=_BATCH_ROWS,
                batch_readahead=2,
            )
            for batch in batches:
                yield self._plain(pa.Table.from_batches([batch]))
        except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise _unreadable(piece.path, error) from error

    def _divided(self) -> TableFiles:
        """With Parquet files cut into row groups, whose lengths their footers tell."""
        pieces: list[Piece] = []
        for piece in self.pieces:
            try:
                fragment = self._fragment(piece)
                refuse_missing_columns(self.columns.names, fragment.physical_schema.names)
                groups = fragment.row_groups if self.kind == "parquet" else None
            except (OSError, pa.ArrowInvalid) as error:
                raise _unreadable(piece.path, error) from error
            if groups is None:
                pieces.append(piece)
            else:
                pieces += [Piece(piece.path, group.id, group.num_rows) for group in groups]
        return TableFiles(**{**self.__dict__, "pieces": tuple(pieces)})

    def _fragment(self, piece: Piece) -> Any:
        groups = None if piece.row_group is None else [piece.row_group]
        if self.kind == "csv":
            return self._format().make_fragment(piece.path, self._system())
        return self._format().make_fragment(piece.path, self._system(), row_groups=groups)

    def _format(self) -> Any:
        if self.kind == "parquet":
            return pads.ParquetFileFormat()
        return pads.CsvFileFormat(
            parse_options=pacsv.ParseOptions(
                delimiter=self.dialect.delimiter, newlines_in_values=True
            ),
            read_options=pacsv.ReadOptions(
                block_size=_CSV_BLOCK_BYTES, encoding=self.dialect.encoding
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=self._csv_types(), strings_can_be_null=False
            ),
        )

    def _csv_types(self) -> dict[str, pa.DataType]:
        """Said beforehand: a guess from the first block could be wrong for the last."""
        columns = self.columns
        words = [columns.text, *columns.categorical]
        numbers = [columns.weight, *columns.numeric]
        (words if columns.task == "classify" else numbers).append(columns.label)
        return {
            **{name: pa.large_string() for name in words if name is not None},
            **{name: pa.float64() for name in numbers if name is not None},
        }

    def _schema(self, piece: Piece) -> pa.Schema | None:
        if self.kind == "parquet":
            return None
        known = self._csv_types()
        names = self._fragment(piece).physical_schema.names
        return pa.schema([(name, known[name]) for name in names if name in known])

    def _plain(self, table: pa.Table) -> pa.Table:
        """An empty field of a CSV is a missing label or category, but an empty text is a text."""
        if self.kind != "csv":
            return table
        names = [*self.columns.categorical]
        if self.columns.label is not None and self.columns.task == "classify":
            names.append(self.columns.label)
        for name in names:
            filled = pc.if_else(pc.equal(table[name], ""), None, table[name])
            table = table.set_column(table.column_names.index(name), name, filled)
        return table

    def _system(self) -> Any:
        if self.protocol in ("file", "local"):
            return pafs.LocalFileSystem()
        system = fsspec.filesystem(self.protocol, **self.storage_options)
        return pafs.PyFileSystem(pafs.FSSpecHandler(system))


def _expanded(paths: Sequence[str], kind: str, options: dict[str, Any]) -> tuple[Any, list[str]]:
    found: list[str] = []
    system: Any = None
    for path in paths:
        try:
            system, plain = fsspec.core.url_to_fs(path, **options)
        except ImportError as error:
            raise MissingExtraError(
                f"the library for {path.partition(':')[0]} is not installed",
                got=str(error),
                fix="pip install 'tilth[remote]'",
            ) from error
        if any(character in plain for character in "*?["):
            own = sorted(system.glob(plain))
        elif system.isdir(plain):
            own = sorted(system.glob(f"{plain.rstrip('/')}/**/*.{kind}"))
        else:
            own = [plain] if system.exists(plain) else []
        if not own:
            raise EmptyDatasetError(f"there is no {kind} file", where=path)
        found += own
    if not found:
        raise EmptyDatasetError(f"no {kind} file was named")
    return system, found


def _unreadable(path: str, error: Exception) -> DataError:
    return DataError("the file cannot be read", where=path, got=str(error).splitlines()[0][:300])
