"""Probabilities that somebody has already: read from a table, or from NumPy's files.

A table has a column ``probability of NAME`` for each class, as `tilth classify` and `tilth noise
find` write it, and may have a column ``row``. An ``.npz`` or ``.npy`` has one array [n, k] in the
order of the class names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tilth.errors import DataError
from tilth.recipes.table_files import TABLE_SUFFIXES, read_table

__all__ = ["read_probabilities"]


def read_probabilities(
    path: Path, class_names: tuple[str, ...], rows: NDArray[np.int64]
) -> NDArray[np.floating]:
    """[n, k]: the probabilities of these rows, in the order of the class names.

    Args:
        rows: int64 [n], places in the data that the file is of; a file without a column ``row`` is
            in its order, and may hold these rows alone.

    Raises:
        DataError: no such file, a class without a column, or other rows than these.
    """
    if path.suffix in (".npz", ".npy"):
        return _placed(_read_array(path, len(class_names)), None, rows, path)
    if path.suffix not in TABLE_SUFFIXES:
        raise DataError(
            "probabilities of this kind cannot be read",
            where=str(path),
            expected=", ".join((*TABLE_SUFFIXES, ".npz", ".npy")),
            got=path.suffix or "no suffix",
        )
    table = read_table(path)
    values = np.stack([_column(table, name, path) for name in class_names], axis=1)
    known = table["row"].to_numpy() if "row" in table.column_names else None
    return _placed(values, known, rows, path)


def _column(table: pa.Table, class_name: str, path: Path) -> NDArray[np.floating]:
    for name in (f"probability of {class_name}", class_name):
        if name in table.column_names:
            return np.asarray(table[name].to_numpy(), dtype=np.float32)  # null becomes NaN
    raise DataError(
        "a class has no column of probabilities",
        where=str(path),
        expected=f"'probability of {class_name}'",
        got=", ".join(table.column_names[:20]),
    )


def _read_array(path: Path, num_classes: int) -> NDArray[np.floating]:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError) as error:
        raise DataError(
            "the probabilities cannot be read", where=str(path), got=str(error)
        ) from error
    fitting = {
        name: array
        for name, array in arrays.items()
        if array.ndim == 2 and array.shape[1] == num_classes and array.dtype.kind == "f"
    }
    if len(fitting) != 1:
        raise DataError(
            "the file holds no one array of probabilities",
            where=str(path),
            expected=f"one array of floats [examples, {num_classes}]",
            got=", ".join(f"{n or 'array'} {a.dtype} {list(a.shape)}" for n, a in arrays.items()),
        )
    return next(iter(fitting.values()))


def _placed(
    values: NDArray[np.floating],
    known: NDArray[np.int64] | None,
    rows: NDArray[np.int64],
    path: Path,
) -> NDArray[np.floating]:
    """The rows asked for, by their number where the file has it, else by their place."""
    if known is None:
        if len(values) == len(rows):
            return values
        known = np.arange(len(values))
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known[order], rows), len(known) - 1)
    missing = known[order[at]] != rows
    if missing.any():
        raise DataError(
            "the file lacks probabilities of some rows",
            where=str(path),
            expected=f"{len(rows):,} rows",
            got=f"{len(values):,}; row {int(rows[missing][0])} is not among them",
        )
    return values[order[at]]
