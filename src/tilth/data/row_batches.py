"""Batches of rows that can be picked freely: number ``i`` of an epoch is found by arithmetic.

As a sequence of batches it is what torch calls a map-style data set, so that
``DataLoader(batches, batch_size=None, num_workers=2)`` shares the batches out among its workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tilth.data.batch_order import epoch_rows
from tilth.data.ragged_tokens import RaggedTokens
from tilth.errors import SettingsError
from tilth.lazy import require

__all__ = ["BatchSettings", "RowBatches", "Rows", "as_tensors"]

Batch = dict[str, Any]

_GATHERED_ROWS = 2**15


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """How rows are put together.

    Attributes:
        batch_size: rows in a batch; the last of an epoch may have fewer.
        seed: of the orders of all epochs.
        shuffle: a new order each epoch; otherwise the order of the frame, without bucketing.
        bucket: put texts of similar length together, which saves most of the padding.
        pad: ``"batch"`` pads to the longest text of each batch, a number to that many tokens
            (longer texts lose their end).
        drop_last: leave out a last batch that is not full.
    """

    batch_size: int = 32
    seed: int = 0
    shuffle: bool = True
    bucket: bool = True
    pad: Literal["batch"] | int = "batch"
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(
                "the batch size cannot be used", expected="1 or more", got=str(self.batch_size)
            )
        if self.pad != "batch" and not (isinstance(self.pad, int) and self.pad > 0):
            raise SettingsError(
                "pad cannot be used",
                expected="'batch' or a number of tokens",
                got=repr(self.pad),
            )

    @property
    def width(self) -> int | None:
        """Tokens in each row of every batch; None for as many as needed."""
        return None if self.pad == "batch" else int(self.pad)


class Rows(Protocol):
    """What batches are made of: `EncodedRows`, or pictures."""

    @property
    def tokens(self) -> RaggedTokens | None:
        """Texts, whose lengths rows are put together by."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64], /) -> Self:
        """These rows, in this order."""

    def batch(self, start: int, stop: int, width: int | None, /) -> Batch:
        """Rows ``start`` to ``stop`` as arrays."""


class RowBatches:
    """The batches of one epoch after the other.

    ``for batch in batches`` runs through one epoch, the next such loop through the next epoch.
    `set_epoch` chooses one; with a `DataLoader` call it before each epoch (and leave
    ``persistent_workers`` off: workers that live on do not hear of it). `batch` numbers the batches
    of all epochs, for loops that count steps.

    Args:
        rows: all rows there are.
        convert: makes a framework's tensors of the arrays of a batch.
    """

    def __init__(
        self, rows: Rows, settings: BatchSettings, convert: Callable[[Batch], Batch] = dict
    ) -> None:
        if settings.drop_last and len(rows) < settings.batch_size:
            raise SettingsError(
                "no batch would be left",
                expected=f"a batch size of at most {len(rows):,}, the number of rows",
                got=f"{settings.batch_size:,} with drop_last=True",
            )
        self.settings = settings
        self.epoch = 0
        self._rows = rows
        self._convert = convert
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        size = self.settings.batch_size
        return len(self._rows) // size if self.settings.drop_last else -(-len(self._rows) // size)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next loop runs through."""
        self.epoch = epoch

    def batch(self, step: int) -> Batch:
        """Batch ``step`` of an endless row of epochs."""
        epoch, place = divmod(step, len(self))
        return next(self._gathered(epoch, place, place + 1))

    def __getitem__(self, place: int) -> Batch:
        """Batch ``place`` of the epoch that is set."""
        place = range(len(self))[place]
        return next(self._gathered(self.epoch, place, place + 1))

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        together = max(1, _GATHERED_ROWS // self.settings.batch_size)
        for place in range(0, len(self), together):
            yield from self._gathered(epoch, place, min(place + together, len(self)))

    def _gathered(self, epoch: int, start: int, stop: int) -> Iterator[Batch]:
        """Batches ``start`` to ``stop``, whose rows are picked from memory at once."""
        size = self.settings.batch_size
        rows = self._rows.take(self._epoch_order(epoch)[start * size : stop * size])
        for at in range(0, len(rows), size):
            yield self._convert(rows.batch(at, min(at + size, len(rows)), self.settings.width))

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, self._new_order(epoch))
        return self._order[1]

    def _new_order(self, epoch: int) -> NDArray[np.int64]:
        rows, settings = self._rows, self.settings
        if not settings.shuffle:
            return np.arange(len(rows))
        by_length = settings.bucket and settings.width is None and rows.tokens is not None
        return epoch_rows(
            len(rows),
            settings.batch_size,
            seed=settings.seed,
            epoch=epoch,
            lengths=rows.tokens.lengths if by_length and rows.tokens is not None else None,
        )


def as_tensors(batch: Batch) -> Batch:
    """The arrays of a batch as torch tensors over the same memory.

    Raises:
        MissingExtraError: torch is not installed.
    """
    from_numpy = require("torch", extra="train").from_numpy
    return {name: from_numpy(values) for name, values in batch.items()}
