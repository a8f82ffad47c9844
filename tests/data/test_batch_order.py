"""The order of an epoch: every row once, another each epoch, little padding when bucketed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.batch_order import WINDOW_BATCHES, epoch_rows


@given(lengths=st.lists(st.integers(0, 30), max_size=60), batch_size=st.integers(1, 9))
def test_every_row_comes_once(lengths: list[int], batch_size: int) -> None:
    order = epoch_rows(len(lengths), batch_size, seed=0, epoch=1, lengths=np.array(lengths, int))
    assert sorted(order.tolist()) == list(range(len(lengths)))


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 3000)

    def order(seed: int, epoch: int) -> list[int]:
        return epoch_rows(3000, 32, seed=seed, epoch=epoch, lengths=lengths).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def padding_share(order: np.ndarray, lengths: np.ndarray, batch_size: int) -> float:
    """A plain count: tokens that pad, over all tokens of the batches."""
    places = 0
    for start in range(0, len(order), batch_size):
        batch = lengths[order[start : start + batch_size]]
        places += len(batch) * batch.max()
    return 1 - lengths.sum() / places


def test_bucketing_saves_nine_tenths_of_the_padding() -> None:
    lengths = np.random.default_rng(0).lognormal(3, 0.6, 20_000).astype(int) + 1
    plain = epoch_rows(20_000, 32, seed=0, epoch=0)
    sorted_in = epoch_rows(20_000, 32, seed=0, epoch=0, lengths=lengths)
    assert padding_share(sorted_in, lengths, 32) < padding_share(plain, lengths, 32) / 10
    assert padding_share(sorted_in, lengths, 32) < 0.07


def test_bucketing_still_shuffles() -> None:
    """Batches fall apart from epoch to epoch, and lengths come in no order."""
    lengths = np.random.default_rng(0).integers(1, 200, 50_000)
    epochs = [epoch_rows(50_000, 32, seed=0, epoch=e, lengths=lengths) for e in (0, 1)]
    batch_of = np.empty((2, 50_000), int)
    for epoch, order in enumerate(epochs):
        batch_of[epoch, order] = np.arange(50_000) // 32
    first = epochs[0][: 50_000 // 32 * 32].reshape(-1, 32)
    shared = [32 - len(np.unique(batch_of[1, batch])) for batch in first]
    assert np.mean(shared) < 12, "of 32 rows of a batch; sorted over all rows it would be 30"
    means = lengths[first].mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.1


def test_what_is_left_over_is_of_all_lengths() -> None:
    lengths = np.arange(1000)
    size = 32
    left = np.concatenate(
        [
            epoch_rows(1000, size, seed=0, epoch=e, lengths=lengths)[-(1000 % size) :]
            for e in range(60)
        ]
    )
    assert abs(lengths[left].mean() - 499.5) < 45, "three standard errors; the longest would be 996"


def test_a_window_is_many_batches() -> None:
    """Rows of a batch are near in length only within their window of shuffled rows."""
    size, windows = 4, 10
    count = size * WINDOW_BATCHES * windows
    lengths = np.random.default_rng(1).permutation(count)
    order = epoch_rows(count, size, seed=3, epoch=0, lengths=lengths)
    spread = np.ptp(lengths[order.reshape(-1, size)], axis=1)
    assert np.median(spread) < 4 * windows * size
    assert np.median(spread) > windows, "sorted over all rows it would be 3"
