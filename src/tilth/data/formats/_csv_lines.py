"""Rows of CSV out: cells quoted where they must be, and harmless in a spreadsheet where asked.

Spreadsheets run a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula. An apostrophe
before it makes it text (OWASP, "CSV injection"). Such an apostrophe is taken away again when a
cell is read; so that none of a name's own is lost, one that already looks like this gets another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.data.ragged import RaggedBytes
from tilth.errors import DataError

__all__ = ["Cells", "as_text", "json_cells", "numbers", "texts", "without_apostrophe", "write_rows"]

_ROWS_AT_ONCE = 65_536
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_APOSTROPHE = re.compile(r"'+[=+\-@\t\r]")

Cells = Callable[[NDArray[np.int64]], pa.Array]
"""The cells of these rows as Arrow strings; null for an empty one."""


def as_text(value: str, spreadsheet: bool) -> str:
    """A name as its cell says it, before quoting."""
    looks_so = (_FORMULA if spreadsheet else _APOSTROPHE).match(value)
    return f"'{value}" if looks_so else value


def without_apostrophe(cell: str) -> str:
    """The name that a cell says; undoes `as_text`."""
    return cell[1:] if _APOSTROPHE.match(cell) else cell


def texts(values: Sequence[str], codes: NDArray[np.int64], *, delimiter: str) -> Cells:
    """Cells of the different ``values``; code -1 is an empty cell.

    Raises:
        DataError: a name that is not Unicode, so that no text file holds it.
    """
    special = re.compile(f'[{delimiter}"\n\r]')
    cells = ['"{}"'.format(v.replace('"', '""')) if special.search(v) else v for v in values]
    try:
        different = pa.array(cells, pa.string())
    except UnicodeEncodeError as error:
        raise DataError("a name that is not Unicode", got=ascii(error.object)) from error
    return lambda rows: different.take(pa.array(codes[rows], mask=codes[rows] < 0))


def numbers(values: NDArray[np.generic], given: NDArray[np.bool_] | None = None) -> Cells:
    """Cells in the shortest decimals that read back as the same number; NaN is an empty cell."""

    def cells(rows: NDArray[np.int64]) -> pa.Array:
        chosen = values[rows]
        empty = np.isnan(chosen) if given is None else ~given[rows]
        return pc.cast(pa.array(chosen, mask=empty), pa.string())

    return cells


def json_cells(entries: Sequence[bytes | None], rows_of: NDArray[np.int64]) -> Cells:
    """Quoted JSON; ``rows_of`` gives the entry of each row, -1 for none."""
    packed = RaggedBytes.of(entries)

    def cells(rows: NDArray[np.int64]) -> pa.Array:
        wanted = rows_of[rows]
        some = np.flatnonzero(wanted >= 0)
        found: list[str | None] = [None] * len(rows)
        for at, text in zip(some.tolist(), packed.take(wanted[some]), strict=True):
            found[at] = None if text is None else '"{}"'.format(text.decode().replace('"', '""'))
        return pa.array(found, pa.string())

    if not packed.lengths.any():
        return lambda rows: pa.nulls(len(rows), pa.string())
    return cells


def write_rows(stream: BinaryIO, columns: Sequence[Cells], count: int, delimiter: str) -> None:
    """Write ``count`` rows, a block at a time."""
    for start in range(0, count, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, count))
        cells = [column(rows) for column in columns]
        replaced = {"null_handling": "replace", "null_replacement": ""}
        lines = pc.binary_join_element_wise(*cells, delimiter, **replaced)
        ended = pc.binary_join_element_wise(lines, "\n", "")
        stream.write(memoryview(ended.buffers()[2]))
