"""Work on small files in the background: in order, a few ahead, and together where files wait."""

from __future__ import annotations

import threading
import time

import pytest

from tilth.data.formats import _file_threads
from tilth.data.formats._file_threads import FileThreads


def test_results_come_in_order_and_few_are_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_file_threads, "_TASKS_AHEAD", 3)
    begun: list[int] = []

    def work(at: int) -> int:
        begun.append(at)
        return at

    with FileThreads[int]() as threads:
        results = threads.results(work, range(100))
        assert [next(results) for _ in range(10)] == list(range(10))
        assert len(begun) <= 10 + 3 + 1
        assert list(results) == list(range(10, 100))


@pytest.mark.parametrize(("slow_s", "at_most"), [(1e9, 1), (-1.0, 4)])
def test_one_works_until_a_file_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, slow_s: float, at_most: int
) -> None:
    monkeypatch.setattr(_file_threads, "_SLOW_S", slow_s)
    at_work, most, lock = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.01)
        with lock:
            at_work -= 1

    with FileThreads[None]() as threads:
        list(threads.results(work, range(40)))
    assert most == at_most


def test_an_error_reaches_whoever_asked_and_ends_the_rest() -> None:
    done: list[int] = []

    def work(at: int) -> None:
        if at == 2:
            raise OSError("disk full")
        done.append(at)

    with pytest.raises(OSError, match="disk full"), FileThreads[None]() as threads:
        list(threads.results(work, range(1000)))
    assert len(done) < 100
