"""Columns of numbers as columns of texts, and these side by side as lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["column", "column_or_word", "lines_of"]

_MOST_HUNDREDTHS = 2**18  # of pixels: the texts of all of them are some megabytes
_A_LOOK = 64


def column(values: NDArray[Any]) -> pa.Array:
    """Numbers as the shortest texts that read back as the same numbers."""
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # a minus before 0 says nothing
    steps = _hundredths(values)
    if steps is not None:
        return _texts_of_hundredths().take(pa.array(steps))
    return pc.cast(pa.array(values), pa.large_string())


def _hundredths(values: NDArray[Any]) -> NDArray[np.int32] | None:
    """Numbers of two decimals, as boxes often are, in whole hundredths; None where some are not."""
    if values.dtype != np.float64:
        return None
    for part in (values[:_A_LOOK], values):  # most columns show what they are at a glance
        with np.errstate(invalid="ignore", over="ignore"):
            steps = np.rint(part * 100)
            fits = (steps >= 0) & (steps < _MOST_HUNDREDTHS) & (steps / 100 == part)
        if not fits.all():
            return None
    return steps.astype(np.int32)


@lru_cache(maxsize=1)
def _texts_of_hundredths() -> pa.Array:
    return pc.cast(pa.array(np.arange(_MOST_HUNDREDTHS) / 100), pa.large_string())


def column_or_word(values: NDArray[Any]) -> pa.Array | pa.Scalar:
    """`column`, or one text where all rows have the same."""
    if len(values) and values[0] == values[-1] and (values == values[0]).all():
        return column(values[:1])[0]
    return column(values)


def lines_of(columns: Sequence[Any]) -> pa.LargeStringArray:
    """Each row as a line, with its newline; a null leaves its column out of the row.

    Args:
        columns: arrays of texts; but for the first, a scalar stands for as many equal ones.
    """
    space, newline, nothing = (pa.scalar(text, pa.large_string()) for text in (" ", "\n", ""))
    merged: list[Any] = []
    for words in columns:
        if merged and isinstance(words, pa.Scalar) and isinstance(merged[-1], pa.Scalar):
            words = pa.scalar(f"{merged.pop()} {words}", pa.large_string())
        merged.append(words)
    joined = pc.binary_join_element_wise(*merged, space, null_handling="skip")
    return pc.binary_join_element_wise(joined, nothing, newline)
