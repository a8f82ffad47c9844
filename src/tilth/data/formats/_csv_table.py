"""A CSV file as columns: encoding, delimiter and numbers checked, bad rows named by their line.

Parsed by Arrow. Only where Arrow refuses a file, or where a line number is asked for, the slower
`csv` of the standard library goes over it: they agree on what a record is.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from tilth.data.problems import LabelReport
from tilth.errors import LabelError, SettingsError

__all__ = [
    "DELIMITERS",
    "CsvTable",
    "Delimiter",
    "first_records",
    "parse_csv",
    "read_text",
    "sniff",
]

Delimiter = Literal["auto", "comma", "semicolon", "tab"]
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SNIFFED_BYTES = 65_536
_BLOCK_BYTES = 8 * 2**20
_LARGEST_BLOCK = 2**31 - 2


def read_text(path: Path, encoding: str = "utf-8") -> bytes:
    """The file as UTF-8 without a byte order mark; UTF-16 is known by its own mark.

    Raises:
        LabelError: it cannot be read, or is in another encoding.
        SettingsError: no encoding of that name.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        got = error.strerror
        raise LabelError("the label file cannot be read", where=str(path), got=got) from error
    if data.startswith(_UTF16):
        encoding = "utf-16"
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise SettingsError("no encoding of that name", got=encoding) from error
    except (UnicodeError, ValueError) as error:
        raise LabelError(
            f"the label file is not {encoding}",
            where=str(path),
            got=str(error),
            fix="save it as UTF-8, or name its encoding: --option encoding=cp1252",
        ) from error
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        data = text.encode("utf-8", errors="replace")
    return data.removeprefix(codecs.BOM_UTF8)


def first_records(data: bytes, delimiter: str, count: int = 50) -> list[list[str]]:
    """The first records that are not empty."""
    head = data[:_SNIFFED_BYTES].decode("utf-8", errors="replace")
    try:
        records = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
        found = list(islice(filter(None, records), count + 1))
    except csv.Error:
        return []
    # The last one of a head may be cut.
    return found[:count] if len(data) <= _SNIFFED_BYTES else found[:-1][:count]


def sniff(data: bytes, delimiter: Delimiter = "auto") -> str:
    """The character between cells: the one that divides the first records into most cells alike."""
    if delimiter != "auto":
        return DELIMITERS[delimiter]
    best, best_key = ",", (0, 0)
    for candidate in DELIMITERS.values():
        lengths = Counter(map(len, first_records(data, candidate)))
        if not lengths:
            continue
        cells, alike = max(lengths.items(), key=lambda item: (item[1], item[0]))
        if cells > 1 and (alike, cells) > best_key:
            best, best_key = candidate, (alike, cells)
    return best


@dataclass(frozen=True, kw_only=True, eq=False)
class CsvTable:
    """Columns of a file by their position, and the line that each row is from."""

    path: Path
    data: bytes
    delimiter: str
    has_header: bool
    columns: Mapping[int, Any]
    skipped: Sequence[int]
    decimal_comma: bool

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def place(self, row: int) -> str:
        """The file and the line where the row begins."""
        return f"{self.path.name}:{self._lines[row]}"

    @property
    def _lines(self) -> list[int]:
        found = self.__dict__.get("_found_lines")
        if found is None:
            lines = _record_lines(self.data, self.delimiter)
            left_out = set(self.skipped)
            kept = [line for at, line in enumerate(lines, start=1) if at not in left_out]
            found = self.__dict__["_found_lines"] = kept[int(self.has_header) :]
        return found

    def text(self, position: int) -> tuple[NDArray[np.int64], list[str]]:
        """Codes (int64 [n]) and the different values, in the order in which they first appear."""
        column = self.columns[position]
        return column.indices.to_numpy(zero_copy_only=False).astype(np.int64), (
            column.dictionary.to_pylist()
        )

    def strings(self, position: int) -> Any:
        """An Arrow string array [n]."""
        return self.columns[position]

    def number(
        self, position: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Values (float64 [n], NaN for none), which cells are empty, and which are no number."""
        column = self.columns[position]
        if pa.types.is_floating(column.type):
            empty = column.is_null().to_numpy(zero_copy_only=False)
            values = pc.fill_null(column, math.nan).to_numpy(zero_copy_only=False)
            return values, empty, np.zeros(len(values), dtype=np.bool_)
        values = np.full(len(column), np.nan)
        empty, bad = np.zeros((2, len(column)), dtype=np.bool_)
        for row, cell in enumerate(column.to_pylist()):
            cell = cell.strip()
            if not cell:
                empty[row] = True
                continue
            try:
                values[row] = float(cell.replace(",", ".") if self.decimal_comma else cell)
            except ValueError:
                bad[row] = True
            bad[row] |= "_" in cell
        return values, empty, bad


def parse_csv(
    path: Path,
    data: bytes,
    *,
    delimiter: str,
    has_header: bool,
    width: int,
    texts: Iterable[int] = (),
    strings: Iterable[int] = (),
    numbers: Iterable[int] = (),
    decimal_comma: bool = False,
    report: LabelReport,
) -> CsvTable:
    """Parse the columns that are wanted.

    Args:
        width: how many cells a row has; rows of another width are left out and reported.
        texts, strings, numbers: positions of columns; `texts` of few different values.
        decimal_comma: numbers are written as in ``12,5``.
    """
    dictionary = pa.dictionary(pa.int32(), pa.string())
    kinds = {
        **{at: dictionary for at in texts},
        **{at: pa.string() for at in strings},
        **{at: pa.float64() for at in numbers},
    }
    parser = _Parser(data, delimiter, has_header, width, decimal_comma)
    skipped: list[int] = []
    try:
        columns = parser.columns(kinds)
    except pa.ArrowInvalid:
        kinds = {at: pa.string() if kind == pa.float64() else kind for at, kind in kinds.items()}
        columns = parser.columns_tolerantly(kinds, skipped, str(path))
    table = CsvTable(
        path=path,
        data=data,
        delimiter=delimiter,
        has_header=has_header,
        columns=columns,
        skipped=skipped,
        decimal_comma=decimal_comma,
    )
    if skipped:
        shown = skipped if report.max_examples is None else skipped[: report.max_examples]
        lines = _record_lines(data, delimiter)
        places = [f"{path.name}:{lines[at - 1]}" for at in shown]
        kind = f"row that does not have {width} cells"
        report.add(kind, "left out", places, count=len(skipped))
    return table


@dataclass(frozen=True)
class _Parser:
    data: bytes
    delimiter: str
    has_header: bool
    width: int
    decimal_comma: bool

    def columns(self, kinds: Mapping[int, Any]) -> dict[int, Any]:
        return self._parsed(kinds, pv.ReadOptions(block_size=_BLOCK_BYTES), None)

    def columns_tolerantly(
        self, kinds: Mapping[int, Any], skipped: list[int], where: str
    ) -> dict[int, Any]:
        """Rows of another width are put aside; a cell may be longer than a block."""

        def put_aside(row: Any) -> str:
            skipped.append(row.number)
            return "skip"

        block = min(max(len(self.data) + 1, _BLOCK_BYTES), _LARGEST_BLOCK)
        options = pv.ReadOptions(block_size=block, use_threads=False)
        try:
            return self._parsed(kinds, options, put_aside)
        except pa.ArrowInvalid as error:
            raise LabelError("the label file is not CSV", where=where, got=str(error)) from error

    def _parsed(self, kinds: Mapping[int, Any], options: Any, handler: Any) -> dict[int, Any]:
        options.column_names = [str(at) for at in range(self.width)]
        options.skip_rows_after_names = int(self.has_header)
        if not self.data.strip():
            return {at: pa.array([], kind) for at, kind in kinds.items()}
        table = pv.read_csv(
            io.BytesIO(self.data),
            read_options=options,
            parse_options=pv.ParseOptions(
                delimiter=self.delimiter,
                newlines_in_values=b'"' in self.data,
                invalid_row_handler=handler,
            ),
            convert_options=pv.ConvertOptions(
                column_types={str(at): kind for at, kind in kinds.items()},
                include_columns=[str(at) for at in kinds],
                null_values=[""],
                strings_can_be_null=False,
                decimal_point="," if self.decimal_comma else ".",
            ),
        )
        return {at: _one_chunk(table.column(str(at))) for at in kinds}


def _one_chunk(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    chunk = column.combine_chunks()
    return chunk.chunk(0) if isinstance(chunk, pa.ChunkedArray) else chunk


def _record_lines(data: bytes, delimiter: str) -> list[int]:
    """The line, from 1, where each record that is not empty begins."""
    text = io.StringIO(data.decode("utf-8", errors="replace"), newline="")
    reader = csv.reader(text, delimiter=delimiter)
    limit = csv.field_size_limit(max(len(data), csv.field_size_limit()))
    lines, begin = [], 1
    try:
        for record in reader:
            if record:
                lines.append(begin)
            begin = reader.line_num + 1
    finally:
        csv.field_size_limit(limit)
    return lines
