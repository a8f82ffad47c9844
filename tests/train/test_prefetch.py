"""Batches come in order whatever the threads do, and their errors come in turn."""

from __future__ import annotations

import threading
import time

import pytest

from tilth.train.prefetch import prefetched


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_order_is_kept_when_early_ones_are_slow(workers):
    def make(key):
        time.sleep(0.01 if key % 3 == 0 else 0.0)
        return key * 10

    assert list(prefetched(make, range(12), workers=workers)) == [(k, k * 10) for k in range(12)]


@pytest.mark.parametrize("workers", [0, 3])
def test_error_comes_in_its_turn(workers):
    def make(key):
        if key == 2:
            raise ValueError("two")
        return key

    stream = prefetched(make, range(5), workers=workers)
    assert [next(stream), next(stream)] == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="two"):
        next(stream)


def test_never_more_than_workers_ahead():
    made = []
    stream = prefetched(lambda key: made.append(key), range(100), workers=3)
    next(stream)
    time.sleep(0.05)
    assert len(made) <= 4
    stream.close()


def test_closing_ends_the_threads():
    before = threading.active_count()
    stream = prefetched(lambda key: key, range(100), workers=3)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_work_is_done_while_the_caller_is_busy():
    made = threading.Event()
    stream = prefetched(lambda key: made.set() if key == 1 else None, range(3), workers=1)
    next(stream)
    assert made.wait(timeout=5)
    stream.close()
