"""Batches of files that are larger than memory.

Pieces of the files come in a new order each epoch. Their rows pass through a pool of
``shuffle_rows`` rows: whenever it is full, a random half leaves it as batches, so that neighbours
in a file are spread over several fillings of the pool. Memory holds the pool, never the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilth.data.batch_order import bucketed
from tilth.data.encoded_rows import EncodedRows
from tilth.data.read_ahead import read_ahead
from tilth.data.row_batches import Batch, BatchSettings
from tilth.errors import SettingsError
from tilth.lazy import require
from tilth.seeding import generator

__all__ = ["StreamBatches", "StreamSettings", "torch_batches"]

Read = Callable[[int], Iterable[EncodedRows]]


@dataclass(frozen=True, kw_only=True)
class StreamSettings(BatchSettings):
    """As `BatchSettings`, for files.

    Attributes:
        shuffle_rows: rows held in memory to be shuffled among one another.
    """

    shuffle_rows: int = 2**17

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shuffle and self.shuffle_rows < 2 * self.batch_size:
            raise SettingsError(
                "shuffle_rows cannot be used",
                expected=f"2 batches or more, {2 * self.batch_size:,}",
                got=str(self.shuffle_rows),
            )


class StreamBatches:
    """The batches of one epoch after the other, as `RowBatches` but without numbers.

    In the workers of a `DataLoader` (``batch_size=None``) each reads its own pieces, so that every
    row comes once; with fewer pieces than workers some have nothing to do.

    Args:
        num_pieces: how many pieces there are.
        read: the encoded rows of a piece, some at a time.
        convert: makes a framework's tensors of the arrays of a batch.
    """

    def __init__(
        self,
        num_pieces: int,
        read: Read,
        settings: StreamSettings,
        convert: Callable[[Batch], Any] = dict,
    ) -> None:
        self.settings = settings
        self.epoch = 0
        self._num_pieces = num_pieces
        self._read = read
        self._convert = convert

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next loop runs through."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        worker, workers = _worker()
        settings = self.settings
        pieces = np.arange(self._num_pieces)
        if settings.shuffle:
            pieces = generator(settings.seed, "pieces", epoch).permutation(self._num_pieces)
        rows = (part for piece in pieces[worker::workers] for part in self._read(int(piece)))
        if settings.shuffle:
            stream = generator(settings.seed, "pool", epoch, worker)
            laid_out = _through_pool(read_ahead(rows), settings, stream)
        else:
            laid_out = _in_order(read_ahead(rows), settings)
        for part in laid_out:
            yield from self._cut(part)

    def _cut(self, rows: EncodedRows) -> Iterator[Any]:
        size = self.settings.batch_size
        end = len(rows) // size * size if self.settings.drop_last else len(rows)
        for start in range(0, end, size):
            stop = min(start + size, len(rows))
            yield self._convert(rows.batch(start, stop, self.settings.width))


def torch_batches(batches: StreamBatches) -> StreamBatches:
    """The same batches, known to torch's `DataLoader` as a data set that can only be iterated.

    Raises:
        MissingExtraError: torch is not installed.
    """
    # A base class would need torch when this file is imported; torch asks with isinstance only.
    require("torch.utils.data", extra="train").IterableDataset.register(StreamBatches)
    return batches


def _worker() -> tuple[int, int]:
    """Number of this `DataLoader` worker, and how many there are."""
    import sys

    data = sys.modules.get("torch.utils.data")
    info = None if data is None else data.get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def _through_pool(
    parts: Iterable[EncodedRows], settings: StreamSettings, stream: np.random.Generator
) -> Iterator[EncodedRows]:
    """Rows in whole batches, all but the last time."""
    pool: list[EncodedRows] = []
    held = 0
    for part in parts:
        pool.append(part)
        held += len(part)
        if held >= settings.shuffle_rows:
            rows = EncodedRows.concatenate(pool)
            order = stream.permutation(held)
            leaving = max(held // 2 // settings.batch_size, 1) * settings.batch_size
            yield _laid_out(rows, order[:leaving], settings, stream)
            pool, held = [rows.take(order[leaving:])], held - leaving
    if held:
        rows = EncodedRows.concatenate(pool)
        yield _laid_out(rows, stream.permutation(held), settings, stream)


def _laid_out(
    rows: EncodedRows, order: Any, settings: StreamSettings, stream: np.random.Generator
) -> EncodedRows:
    if settings.bucket and settings.width is None and rows.tokens is not None:
        order = bucketed(order, rows.tokens.lengths, settings.batch_size, stream)
    return rows.take(order)


def _in_order(parts: Iterable[EncodedRows], settings: StreamSettings) -> Iterator[EncodedRows]:
    """Whole batches, and at the end what is left."""
    left: list[EncodedRows] = []
    for part in parts:
        rows = EncodedRows.concatenate([*left, part])
        whole = len(rows) // settings.batch_size * settings.batch_size
        if whole:
            yield rows.take(np.arange(whole))
        left = [rows.take(np.arange(whole, len(rows)))]
    if left and len(left[0]):
        yield left[0]
