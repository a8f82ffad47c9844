"""The rows of YOLO label files as columns, and boxes as shares of their picture.

A row is a class, counted from 0, and numbers: ``class cx cy w h`` with centre and size divided by
the picture's width and height. What further numbers mean is for the format to say.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset, MediaColumns
from tilth.data.formats._columns import report_rows
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.formats._text_files import TextBlock, read_blocks
from tilth.data.formats._text_tokens import Tokens, finite_numbers
from tilth.data.problems import LabelReport
from tilth.errors import LabelError

__all__ = [
    "YoloRows",
    "boxes_of",
    "known_classes",
    "of_sized_pictures",
    "pixels",
    "read_rows",
    "report_skipped",
    "shares_of",
    "sized",
    "sizes_of",
]

_LEAST = 5  # words in a row
_MOST_CLASSES = 2**31
# A share times a width is off by less than 1e-11 px; this gives back the 0.5 that was divided.
_DECIMALS = 9


@dataclass(frozen=True)
class YoloRows:
    """Rows whose words are all finite numbers, with a class in front.

    Attributes:
        file, line: int64 [m]; the line is counted from 1.
        category: int64 [m].
        first: int64 [m + 1]; row i has the numbers ``first[i]:first[i + 1]``.
        numbers: float64, after the class.
        files: names of the files.
    """

    file: NDArray[np.int64]
    line: NDArray[np.int64]
    category: NDArray[np.int64]
    first: NDArray[np.int64]
    numbers: NDArray[np.float64]
    files: Sequence[str]

    def __len__(self) -> int:
        return len(self.file)

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [m]: numbers in each row."""
        return np.diff(self.first)

    def place(self, row: int) -> str:
        """Where a row stands, as in ``train/0004.txt:3``."""
        return f"{self.files[self.file[row]]}:{self.line[row]}"

    def keep(self, rows: NDArray[np.bool_]) -> YoloRows:
        """The rows where bool [m] is true."""
        if rows.all():
            return self
        counts = self.counts
        return replace(
            self,
            file=self.file[rows],
            line=self.line[rows],
            category=self.category[rows],
            first=_offsets(counts[rows]),
            numbers=self.numbers[np.repeat(rows, counts)],
        )

    def block(self, rows: NDArray[np.int64], columns: slice) -> NDArray[np.float64]:
        """float64 [k, c]: these numbers of the rows, which rise."""
        counts = self.counts
        if len(rows) == len(self) > 0 and (counts == counts[0]).all():
            return self.numbers.reshape(len(self), -1)[:, columns]
        at = self.first[rows, None] + np.arange(columns.start, columns.stop)
        return self.numbers[at]


def read_rows(root: Path, files: Sequence[str], report: LabelReport) -> YoloRows:
    """All rows of the files.

    Args:
        files: paths below ``root``; an empty one is a file that is not there.
        report: takes the lines that are no rows.
    """
    numbers = io.BytesIO()  # grows in place, where joined arrays would be there twice
    blocks = []
    for texts in read_blocks(root, files, report):
        block = _rows_of_grid(texts, files)
        block = block if block is not None else _rows(texts.tokens(), files, report)
        numbers.write(block.numbers.data)
        blocks.append(replace(block, numbers=np.empty(0)))
    counts = np.concatenate([block.counts for block in blocks])
    return YoloRows(
        file=np.concatenate([block.file for block in blocks]),
        line=np.concatenate([block.line for block in blocks]),
        category=np.concatenate([block.category for block in blocks]),
        first=_offsets(counts),
        numbers=np.frombuffer(numbers.getvalue(), np.float64),
        files=files,
    )


def _rows_of_grid(texts: TextBlock, files: Sequence[str]) -> YoloRows | None:
    """The rows of files whose lines all have as many numbers; None for any others."""
    grid = texts.grid(named=False)
    if grid is None or grid.numbers.shape[1] < _LEAST:
        return None
    category, numbers = grid.numbers[:, 0], grid.numbers[:, 1:]
    if not _are_classes(category).all():
        return None
    first = np.arange(len(numbers) + 1) * numbers.shape[1]
    whole = category.astype(np.int64)
    return YoloRows(grid.file, grid.line, whole, first, numbers.ravel(), files)


def _are_classes(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        is_whole = numbers == np.floor(numbers)
        return np.asarray((numbers >= 0) & (numbers < _MOST_CLASSES) & is_whole)


def _rows(tokens: Tokens, files: Sequence[str], report: LabelReport) -> YoloRows:
    numbers, counts = finite_numbers(tokens.words), tokens.counts
    starts = tokens.first[:-1]
    category = numbers[starts]
    bad = counts < _LEAST
    bad[np.searchsorted(tokens.first, np.flatnonzero(np.isnan(numbers)), side="right") - 1] = True
    bad |= ~_are_classes(category)

    def place(row: int) -> str:
        return f"{files[tokens.file[row]]}:{tokens.line[row]}"

    kind = "row that is not a class and four or more numbers"
    report_rows(report, kind, "left out; Darknet reads nothing after it", bad, place)
    good = ~bad
    words = np.repeat(good, counts)
    words[starts] = False
    return YoloRows(
        file=tokens.file[good],
        line=tokens.line[good],
        category=category[good].astype(np.int64),
        first=_offsets(counts[good] - 1),
        numbers=numbers[words],
        files=files,
    )


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def known_classes(
    rows: YoloRows, numbers: Sequence[int], names: str, on_unknown: str, report: LabelReport
) -> YoloRows:
    """The rows of known classes, with the class as its row among ``numbers``.

    Args:
        names: the file that has the names, for the error.

    Raises:
        LabelError: another class, unless it is to be skipped.
    """
    wanted = np.asarray(numbers, np.int64)
    order = np.argsort(wanted, kind="stable")
    at = np.searchsorted(wanted[order], rows.category)
    found = at < len(wanted)
    found[found] = wanted[order][at[found]] == rows.category[found]
    if not found.all() and on_unknown == "error":
        row = int(np.flatnonzero(~found)[0])
        raise LabelError(
            f"class {rows.category[row]} is not among the {len(wanted)} of {names}",
            where=f"{rows.place(row)} ({int((~found).sum())} such labels)",
            expected=f"0 to {len(wanted) - 1}" if len(wanted) else "no class at all",
            fix="add its name, or pass --on-unknown skip",
        )
    report_rows(report, "label of an unknown class", "left out", ~found, rows.place)
    kept = rows.keep(found)
    return replace(kept, category=order[at[found]].astype(np.int64))


def of_sized_pictures(rows: YoloRows, media: MediaColumns, report: LabelReport) -> YoloRows:
    """The rows of pictures whose size is known: shares of an unknown size are no pixels."""
    known = (media.width[rows.file] > 0) & (media.height[rows.file] > 0)
    kind = "label in a picture of unknown size"
    report_rows(report, kind, "left out: its pixels cannot be computed", ~known, rows.place)
    return rows.keep(known)


def pixels(shares: NDArray[np.float64], side: NDArray[np.int32]) -> NDArray[np.float64]:
    """Shares of a side, in pixels."""
    with np.errstate(over="ignore"):
        return np.round(shares * side, _DECIMALS)


def boxes_of(
    shares: NDArray[np.float64], width: NDArray[np.int32], height: NDArray[np.int32]
) -> NDArray[np.float64]:
    """float64 [m, 4] edges in pixels of ``cx cy w h``."""
    centre, half = shares[:, :2], shares[:, 2:] / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)
    return pixels(corners, np.stack([width, height, width, height], axis=1))


def shares_of(
    boxes_xyxy: NDArray[np.float64], width: NDArray[np.int32], height: NDArray[np.int32]
) -> NDArray[np.float64]:
    """float64 [m, 4] ``cx cy w h`` of edges in pixels."""
    sides = np.stack([width, height], axis=1)
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    return np.concatenate([(low + high) / 2 / sides, (high - low) / sides], axis=1)


def sizes_of(
    uris: Sequence[str], width: int, height: int, report: LabelReport
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Width and height of each picture: the given ones, or those of its header where one is 0."""
    if width > 0 and height > 0:
        return np.full(len(uris), width, np.int32), np.full(len(uris), height, np.int32)
    return picture_sizes(uris, report)


def sized(dataset: Dataset, report: LabelReport) -> Dataset:
    """The data set with sizes that were not known read from the pictures' headers.

    Labels of pictures that are still without one are left out, and reported.
    """
    media, labels = dataset.media, dataset.annotations
    width, height = media.width.copy(), media.height.copy()
    labelled = np.diff(dataset.offsets) > 0
    rows = np.flatnonzero(labelled & ((width <= 0) | (height <= 0)))
    if not len(rows):
        return dataset
    width[rows], height[rows] = picture_sizes([media.uri[row] for row in rows.tolist()], report)
    dataset = replace(dataset, media=replace(media, width=width, height=height))
    known = (width[labels.media_index] > 0) & (height[labels.media_index] > 0)
    kind = "label in a picture of unknown size"
    report_rows(report, kind, "left out", ~known, lambda row: f"label {labels.id[row]}")
    return dataset if known.all() else dataset.keep_annotations(known)


def report_skipped(
    shares: NDArray[np.float64], report: LabelReport, place: Callable[[int], str], action: str
) -> None:
    """Report the boxes that Darknet skips (centre outside (0, 1]) or cuts (larger than 1)."""
    centre, size = shares[:, :2], shares[:, 2:]
    outside = np.asarray(((centre <= 0) | (centre > 1)).any(axis=1))
    large = np.asarray((size > 1).any(axis=1)) & ~outside
    kind = "box whose centre is outside its picture"
    report_rows(report, kind, f"{action}; Darknet skips it", outside, place)
    kind = "box that is larger than its picture"
    report_rows(report, kind, f"{action}; Darknet cuts it", large, place)
