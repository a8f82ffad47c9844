"""One pass over files to learn what batches need: classes, vocabulary, categories, lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.data.encoded_rows import category_names
from tilth.data.frame_columns import ColumnSettings, refuse_nothing_left, usable_rows
from tilth.data.frame_labels import class_values, sorted_names
from tilth.data.frame_split import drawn_for_validation
from tilth.data.read_ahead import read_ahead
from tilth.data.row_bar import row_bar
from tilth.data.table_files import Piece, TableFiles
from tilth.data.tokenise import Tokeniser
from tilth.data.vocabulary import TokenCounts

__all__ = ["RowPart", "StreamFit", "fit_stream", "usable_tables"]


@dataclass(frozen=True)
class RowPart:
    """One part of a split of rows that are never all in memory: drawn by their number."""

    validation: float
    seed: int
    is_validation: bool

    def mask(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool [n]: which rows belong to this part."""
        return drawn_for_validation(rows, self.validation, seed=self.seed) == self.is_validation


@dataclass(frozen=True, eq=False)
class StreamFit:
    """What a pass has found.

    Attributes:
        all_names: classes of all rows, those of other parts among them.
        label_counts: rows of this part by the name of their class.
        tokens: counted over this part; None without a text column.
        categories: of each categorical column the values in this part.
        piece_rows: rows of each piece, usable or not.
        num_rows: usable rows of this part.
    """

    all_names: tuple[str, ...]
    label_counts: dict[str, int]
    tokens: TokenCounts | None
    categories: tuple[tuple[str, ...], ...]
    piece_rows: tuple[int, ...]
    num_rows: int


def usable_tables(
    files: TableFiles, piece: Piece, first_row: int
) -> Iterable[tuple[pa.Table, NDArray[np.int64], int]]:
    """Usable rows of a piece some at a time, their numbers, and how many were read for them."""
    for table in files.tables(piece):
        clean, rows = usable_rows(table, files.columns, first_row=first_row)
        yield clean, rows, len(table)
        first_row += len(table)


def fit_stream(
    files: TableFiles,
    *,
    part: RowPart | None,
    tokeniser: Tokeniser | None,
    progress: bool,
) -> StreamFit:
    """Read everything once.

    Args:
        part: the rows to fit on; all if None.
        tokeniser: counts tokens; None to leave them.

    Raises:
        DataError: values that cannot be used, with their rows; EmptyDatasetError if none is left.
    """
    columns = files.columns
    tokens = TokenCounts(tokeniser) if tokeniser is not None and columns.text else None
    all_counts: Counter[int | str] = Counter()
    own_counts: Counter[int | str] = Counter()
    categories: list[set[str]] = [set() for _ in columns.categorical]
    piece_rows: list[int] = []
    num_rows = 0
    with row_bar("reading once for classes and words", files.num_rows, visible=progress) as advance:
        for piece in files.pieces:
            first_row = sum(piece_rows)
            read = 0
            for table, rows, rows_read in read_ahead(usable_tables(files, piece, first_row)):
                all_counts.update(_label_counts(table, columns))
                if part is not None:
                    table = table.filter(pa.array(part.mask(rows)))
                own_counts.update(_label_counts(table, columns) if part is not None else {})
                if tokens is not None:
                    tokens.add(table[columns.text])
                for known, name in zip(categories, columns.categorical, strict=True):
                    known.update(category_names(table[name]))
                num_rows += len(table)
                read += rows_read
                advance(rows_read)
            piece_rows.append(read)
    refuse_nothing_left(num_rows, columns)
    counts = all_counts if part is None else own_counts
    return StreamFit(
        all_names=sorted_names(all_counts),
        label_counts={str(label): count for label, count in counts.items()},
        tokens=tokens,
        categories=tuple(tuple(sorted(known)) for known in categories),
        piece_rows=tuple(piece_rows),
        num_rows=num_rows,
    )


def _label_counts(table: pa.Table, columns: ColumnSettings) -> dict[int | str, int]:
    if columns.label is None or columns.task != "classify":
        return {}
    values = class_values(table[columns.label], column=columns.label)
    counted = pc.value_counts(values)
    names, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
    return dict(zip(names, counts, strict=True))
