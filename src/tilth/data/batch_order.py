"""Which rows stand together in which batch: a pure function of seed and epoch.

With bucketing, rows of similar length share a batch, so that little of it is padding, and yet two
epochs share hardly a batch: all rows are shuffled, cut into windows of many batches, sorted by
length only within a window, and the batches of all windows are shuffled again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilth.seeding import generator

__all__ = ["WINDOW_BATCHES", "bucketed", "epoch_rows"]

WINDOW_BATCHES = 64
"""Batches sorted together; at 64 a few per cent of the tokens of natural texts are padding."""


def epoch_rows(
    num_rows: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    lengths: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """int64 [n]: the rows of one epoch, to be cut into batches from the left.

    Args:
        lengths: int64 [n], tokens of each row; rows of similar length are put together if given.

    >>> sorted(epoch_rows(5, 2, seed=0, epoch=3).tolist())
    [0, 1, 2, 3, 4]
    """
    stream = generator(seed, "rows", epoch)
    order = stream.permutation(num_rows)
    return order if lengths is None else bucketed(order, lengths, batch_size, stream)


def bucketed(
    order: NDArray[np.int64],
    lengths: NDArray[np.int64],
    batch_size: int,
    stream: np.random.Generator,
) -> NDArray[np.int64]:
    """Shuffled rows in batches of similar length, the batches shuffled.

    What does not fill a batch stays at the end, a random choice of all lengths: sorted along, it
    would be the longest texts that ``drop_last`` drops.
    """
    whole = len(order) // batch_size * batch_size
    full, rest = order[:whole], order[whole:]
    window = batch_size * WINDOW_BATCHES
    parts = [
        part[np.argsort(lengths[part], kind="stable")]
        for part in (full[start : start + window] for start in range(0, whole, window))
    ]
    if not parts:
        return rest
    batches = np.concatenate(parts).reshape(-1, batch_size)
    return np.concatenate([batches[stream.permutation(len(batches))].ravel(), rest])
