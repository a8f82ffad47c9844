"""The rows of KITTI label files as columns: 15 or 16 of them, counted from the right.

From the right, because a class name may hold spaces. Whether the last number is a score is seen
row by row: with one, there is a number more in front of the box, and `truncated` and `occluded`
are what they may be only in the right reading.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tilth.data.formats._number_grid import Grid
from tilth.data.formats._text_tokens import Tokens, finite_numbers
from tilth.data.ragged import RaggedBytes
from tilth.errors import LabelError

__all__ = ["NUM_COLUMNS", "Rows", "attributes_of", "rows_of", "rows_of_grid"]

NUM_COLUMNS = 15  # and a score
_NUMBERS = 14  # after the type
_OCCLUDED = (-1, 0, 1, 2, 3)
_TRACKING_COLUMNS = (17, 18)
_SIZE_3D = slice(7, 10)  # height, width, length


@dataclass(frozen=True)
class Rows:
    """The rows that can be read.

    Attributes:
        file, line: int64 [m]; the line is counted from 1.
        names: the class names that occur, as their bytes, in the order in which they do.
        name: int64 [m], row among ``names``.
        numbers: float64 [m, 14]: truncated, occluded, alpha, left, top, right, bottom, height,
            width, length, x, y, z, rotation_y.
        score: float64 [m], NaN where there is none.
        malformed: bool [lines], the lines that are no rows, among all with words.
        ambiguous: bool [m], 15 and 16 columns would both do.
    """

    file: NDArray[np.int64]
    line: NDArray[np.int64]
    names: list[bytes]
    name: NDArray[np.int64]
    numbers: NDArray[np.float64]
    score: NDArray[np.float64]
    malformed: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]


def rows_of_grid(grid: Grid, columns: str) -> Rows | None:
    """The rows of a table that can be read in one way only; None for any other.

    Args:
        columns: as for `rows_of`.
    """
    count, width = grid.numbers.shape
    numbers, score = grid.numbers, np.full(count, np.nan)
    if width == _NUMBERS + 1 and columns != "15":
        numbers, score = grid.numbers[:, :-1], grid.numbers[:, -1]
        only_scored = _sensible(numbers) & ~_sensible(grid.numbers[:, 1:])
        if columns == "auto" and not only_scored.all():
            return None
    elif width != _NUMBERS:
        return None
    return Rows(
        file=grid.file,
        line=grid.line,
        names=grid.names,
        name=grid.name,
        numbers=numbers,
        score=score,
        malformed=np.zeros(count, np.bool_),
        ambiguous=np.zeros(count, np.bool_),
    )


def rows_of(tokens: Tokens, columns: str, known: frozenset[bytes], where: list[str]) -> Rows:
    """Every line taken apart.

    Args:
        columns: "15", "16", or "auto" for whichever reading makes sense.
        known: class names, which decide where both readings make sense.
        where: names of the files, for errors.

    Raises:
        LabelError: the tracking benchmark's columns.
    """
    counts, ends = tokens.counts, tokens.first[1:]
    enough = counts >= NUM_COLUMNS
    values = np.full((len(counts), _NUMBERS + 1), np.nan)
    _fill(values, tokens, ends, np.flatnonzero(counts == NUM_COLUMNS), _NUMBERS)
    _fill(values, tokens, ends, np.flatnonzero(counts > NUM_COLUMNS), _NUMBERS + 1)
    _refuse_tracking(tokens, counts, values, where)
    plain, scored = values[:, 1:], values[:, :-1]
    plain_reads, scored_reads = np.isfinite(plain).all(axis=1), np.isfinite(values).all(axis=1)
    plain_fits, scored_fits = plain_reads & _sensible(plain), scored_reads & _sensible(scored)
    both = plain_fits & scored_fits
    has_score = scored_fits | (scored_reads & ~plain_fits)
    for line in np.flatnonzero(both).tolist() if known else ():
        both[line] = (_name(tokens, line, 15) in known) == (_name(tokens, line, 14) in known)
        has_score[line] = both[line] or _name(tokens, line, 15) in known
    if columns != "auto":
        has_score = np.full(len(counts), columns == "16") & (counts > NUM_COLUMNS)
        both[:] = False
    good = enough & np.where(has_score, scored_reads, plain_reads)
    row = np.flatnonzero(good)
    with_score = has_score[row]
    each = _names(tokens, row, counts[row] - _NUMBERS - with_score)
    at = {name: at for at, name in enumerate(dict.fromkeys(each))}
    return Rows(
        file=tokens.file[row],
        line=tokens.line[row],
        names=list(at),
        name=np.fromiter(map(at.__getitem__, each), np.int64, len(each)),
        numbers=np.where(with_score[:, None], scored[row], plain[row]),
        score=np.where(with_score, values[row, -1], np.nan),
        malformed=~good,
        ambiguous=both[row],
    )


def _fill(
    values: NDArray[np.float64],
    tokens: Tokens,
    ends: NDArray[np.int64],
    lines: NDArray[np.int64],
    count: int,
) -> None:
    """The last ``count`` words of the lines, as numbers, into the last columns."""
    at = ends[lines, None] + np.arange(-count, 0)
    numbers = finite_numbers(tokens.words.take(pa.array(at.ravel())))
    values[lines, _NUMBERS + 1 - count :] = numbers.reshape(len(lines), count)


def _sensible(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool [m]: truncated is a share and occluded a code, or -1 for not known."""
    truncated, occluded = numbers[:, 0], numbers[:, 1]
    share = (truncated == -1) | ((truncated >= 0) & (truncated <= 1))
    return share & np.isin(occluded, _OCCLUDED)


def _refuse_tracking(
    tokens: Tokens, counts: NDArray[np.int64], values: NDArray[np.float64], where: list[str]
) -> None:
    if not len(counts) or not np.isin(counts, _TRACKING_COLUMNS).all():
        return
    leading = tokens.words.take(pa.array((tokens.first[:-1, None] + np.arange(2)).ravel()))
    if np.isfinite(finite_numbers(leading)).all() and np.isfinite(values[:, 1:]).all():
        raise LabelError(
            "these are labels of the KITTI tracking benchmark: frame and track come first",
            where=where[int(tokens.file[0])],
            expected="object labels, one file a picture, with the type first",
            got=tokens.text(0),
        )


def _name(tokens: Tokens, line: int, numbers: int) -> bytes:
    words = tokens.words[int(tokens.first[line]) : int(tokens.first[line + 1]) - numbers]
    return b" ".join(words.cast(pa.binary()).to_pylist())


def _names(tokens: Tokens, lines: NDArray[np.int64], words: NDArray[np.int64]) -> list[bytes]:
    first = tokens.words.take(pa.array(tokens.first[lines])).cast(pa.binary())
    names: list[bytes] = first.to_pylist()
    for at in np.flatnonzero(words > 1).tolist():
        line = int(lines[at])
        names[at] = _name(tokens, line, int(tokens.counts[line] - words[at]))
    return names


def attributes_of(numbers: NDArray[np.float64]) -> RaggedBytes:
    """What the numbers say beyond the box, as JSON; numbers that fill their column say nothing.

    The devkit fills with -1, -1, -10, -1, -1000 and -10; others with zeros. So a 0 says something
    only where the row has a size in metres.
    """
    has_size = np.asarray((numbers[:, _SIZE_3D] > 0).all(axis=1))
    truncated = _said(numbers[:, 0], -1, has_size)
    occluded = _said(numbers[:, 1], -1, has_size)
    alpha, rotation = _said(numbers[:, 2], -10, has_size), _said(numbers[:, 13], -10, has_size)
    location = ~_is_filling(numbers[:, 10:13], has_size)
    said = np.stack([truncated, occluded, alpha, has_size, location, rotation], axis=1)
    rows = np.flatnonzero(said.any(axis=1)).tolist()
    if not rows:
        return RaggedBytes.empty(len(numbers))
    texts: list[bytes | None] = [None] * len(numbers)
    for row in rows:
        texts[row] = _json(numbers[row].tolist(), said[row].tolist())
    return RaggedBytes.of(texts)


def _said(
    values: NDArray[np.float64], filling: float, has_size: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    return (values != filling) & (has_size | (values != 0))


def _is_filling(location: NDArray[np.float64], has_size: NDArray[np.bool_]) -> NDArray[np.bool_]:
    empty = (location == 0).all(axis=1) | (location == -1).all(axis=1)
    return (location == -1000).all(axis=1) | (empty & ~has_size)


def _json(numbers: list[float], said: list[bool]) -> bytes:
    occluded = numbers[1]
    fields = {
        "truncated": numbers[0],
        "occluded": int(occluded) if occluded in _OCCLUDED else occluded,
        "alpha": numbers[2],
        "dimensions": numbers[7:10],
        "location": numbers[10:13],
        "rotation_y": numbers[13],
    }
    return msgspec.json.encode(
        {name: value for (name, value), there in zip(fields.items(), said, strict=True) if there}
    )
