"""Labels of a frame: the classes that there are, and the number of each row's.

Classes are sorted (numbers by value, texts by code points) unless their order is given, so that the
same labels have the same numbers whichever frame library they come from.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.errors import DataError, EmptyDatasetError

__all__ = ["balanced_weights", "class_codes", "class_values", "refuse_unlearnable", "sorted_names"]

_SHOWN = 5
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")


def class_values(labels: pa.ChunkedArray, *, column: str = "label") -> pa.ChunkedArray:
    """Labels as plain int64, or as large_string; floats without a fraction are integers.

    Args:
        labels: without missing values.

    Raises:
        DataError: labels with a fraction, or of a type that names no class.
    """
    kind = labels.type
    if pa.types.is_dictionary(kind):
        return class_values(labels.cast(kind.value_type), column=column)
    if pa.types.is_boolean(kind):
        named = pc.if_else(labels, "True", "False")  # as Python and pandas' CSV files write them
        return named.cast(pa.large_string())
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return labels.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _whole_numbers(labels.cast(pa.float64()), column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return labels.cast(pa.large_string())
    raise DataError(
        f"the column '{column}' cannot be labels of classes",
        expected="strings, integers, booleans or categories",
        got=str(kind),
    )


def class_codes(
    values: pa.ChunkedArray,
    class_names: Sequence[str],
    *,
    rows: NDArray[np.int64],
    column: str = "label",
) -> NDArray[np.int64]:
    """int64 [n]: the place of each label in ``class_names``.

    Args:
        values: as `class_values` gives them.
        rows: int64 [n], their rows in the frame, for errors.

    Raises:
        DataError: a label that is no known class, with its rows.
    """
    known = pa.array(class_names, type=pa.large_string())
    codes = pc.index_in(values.cast(pa.large_string()), value_set=known)
    if codes.null_count:
        bad = np.flatnonzero(np.asarray(codes.is_null()))
        unknown = pc.value_counts(values.take(pa.array(bad)).combine_chunks()).to_pylist()
        listed = ", ".join(f"{one['values']!r} ({one['counts']:,})" for one in unknown[:_SHOWN])
        raise DataError(
            f"the column '{column}' has labels that are none of the {len(class_names)} classes",
            where=f"first in row {int(rows[bad[0]])}",
            expected=", ".join(map(repr, class_names[:20])),
            got=listed + (", ..." if len(unknown) > _SHOWN else ""),
            fix="correct these rows, or name all classes in class_names",
        )
    return codes.to_numpy().astype(np.int64)


def sorted_names(values: Iterable[int | str]) -> tuple[str, ...]:
    """The different labels as names: whole numbers by value, also those of a CSV; else as text.

    >>> sorted_names(["10", "9"]), sorted_names(["10", "9", "b"])
    (('9', '10'), ('10', '9', 'b'))
    """
    names = {str(value) for value in values}
    if all(_WHOLE.fullmatch(name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def refuse_unlearnable(
    counts: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    on_single: Literal["error", "warn", "keep"],
    classes_given: bool,
) -> None:
    """Refuse labels that say nothing, and report classes of a single row.

    Args:
        counts: int64 [k], rows of each class.
        classes_given: whether the classes were named, so that one of them alone may be meant.

    Raises:
        DataError: all rows of one class, or a class of one row where that is an error.
    """
    present = np.flatnonzero(counts)
    if not classes_given and len(present) == 1:
        raise DataError(
            f"all {int(counts.sum()):,} rows have the label {class_names[int(present[0])]!r}",
            expected="two classes or more",
            fix="name all classes in class_names, where others exist that this frame lacks",
        )
    single = [class_names[code] for code in np.flatnonzero(counts == 1).tolist()]
    if not single or on_single == "keep":
        return
    listed = ", ".join(map(repr, single[:_SHOWN])) + (", ..." if len(single) > _SHOWN else "")
    error = DataError(
        f"{len(single)} of the classes {'has' if len(single) == 1 else 'have'} a single row",
        got=listed,
        expected="two rows or more a class: one to learn from, one to check with",
        fix="add rows, correct a misspelt label, or pass on_single='keep'",
    )
    if on_single == "error":
        raise error
    warnings.warn(str(error), UserWarning, stacklevel=4)


def balanced_weights(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [k]: n / (classes with rows * rows of the class), 0 for a class without rows.

    With them every class counts alike in a mean over rows, and the mean weight of a row is 1.

    >>> balanced_weights(np.array([1, 3])).round(3).tolist()
    [2.0, 0.667]
    """
    present = counts > 0
    if not present.any():
        raise EmptyDatasetError("no row has a label", fix="give a frame with a label column")
    weights = np.zeros(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights


def _whole_numbers(labels: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
    values = labels.to_numpy()
    fractional = np.isfinite(values) & (values != np.floor(values))
    if fractional.any() or np.isinf(values).any():
        row = int(np.flatnonzero(fractional | np.isinf(values))[0])
        raise DataError(
            f"the column '{column}' holds numbers with a fraction, which are no classes",
            got=f"{values[row]} in row {row}",
            fix="pass task='regress' to learn the numbers themselves",
        )
    return labels.cast(pa.int64())
