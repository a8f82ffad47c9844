"""Lines of as many words each, one blank apart: what trainers write, and a table to a CSV parser.

Words of any number and any space between them are for `Tokens`, which takes three times as long;
so whatever is not a table of numbers to the letter is none here, and nothing is reported twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

__all__ = ["Grid", "grid_of"]

_OTHER_SPACE = (b"\t", b"\r", b"\x0b", b"\x0c")
_MOST_COLUMNS = 32
_LAYOUT = csv.ParseOptions(
    delimiter=" ", quote_char=False, double_quote=False, ignore_empty_lines=False
)


@dataclass(frozen=True)
class Grid:
    """Lines of c numbers each, or of a name and c numbers.

    Attributes:
        numbers: float64 [m, c], all finite.
        names: the names that occur, as their bytes, in the order in which they do.
        name: int64 [m], row among ``names``; -1 where lines have numbers alone.
        file: int64 [m], row of the file among all that are read.
        line: int64 [m], counted from 1.
    """

    numbers: NDArray[np.float64]
    names: list[bytes]
    name: NDArray[np.int64]
    file: NDArray[np.int64]
    line: NDArray[np.int64]


def grid_of(text: bytes, lines: NDArray[np.int64], first_file: int, *, named: bool) -> Grid | None:
    """The text of some files as one table; None where it is none, or not all numbers are finite.

    Args:
        text: the files, one after the other, each ended by a newline.
        lines: int64 [files]: newlines in each.
        first_file: row of the first among all that are read.
        named: the first word of a line is a name.
    """
    columns = text[: text.find(b"\n") + 1].count(b" ") + 1
    if not named < columns <= _MOST_COLUMNS or any(space in text for space in _OTHER_SPACE):
        return None
    table = _table(text, columns, named)
    if table is None or len(table) != lines.sum():
        return None
    names: list[bytes] = []
    name = np.full(len(table), -1, dtype=np.int64)
    if named:
        words = table.column(0).combine_chunks()
        names = words.dictionary.cast(pa.binary()).to_pylist()
        name = words.indices.to_numpy().astype(np.int64)
    numbers = np.empty((len(table), columns - named))
    for at in range(columns - named):
        numbers[:, at] = table.column(at + named).to_numpy()
    if b"" in names or not np.isfinite(numbers).all():
        return None
    begin = np.cumsum(lines) - lines
    return Grid(
        numbers=numbers,
        names=names,
        name=name,
        file=np.repeat(np.arange(first_file, first_file + len(lines)), lines),
        line=np.arange(1, len(table) + 1) - np.repeat(begin, lines),
    )


def _table(text: bytes, columns: int, named: bool) -> pa.Table | None:
    keys = [str(at) for at in range(columns)]
    types = dict.fromkeys(keys, pa.float64())
    if named:
        types["0"] = pa.dictionary(pa.int32(), pa.string())
    try:
        return csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(column_names=keys, use_threads=False),
            parse_options=_LAYOUT,
            convert_options=csv.ConvertOptions(column_types=types, null_values=[]),
        ).unify_dictionaries()
    except pa.ArrowInvalid:
        return None
