"""Executors: any of them gives the same results, and none hides what went wrong."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from tilth.curate.executors import (
    IN_FLIGHT,
    InlineExecutor,
    as_finished,
    dask_executor,
    process_executor,
)
from tilth.errors import DataError, SettingsError, TilthError


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    raise DataError("odd", got=str(number), where="here")


def die(_number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.parametrize("make", [InlineExecutor, ThreadPoolExecutor, lambda: process_executor(2)])
def test_every_result_comes_back_once(make: type[Executor]) -> None:
    with make() as executor:
        results = list(as_finished(executor, square, range(200)))
    assert sorted(results) == [n * n for n in range(200)]


def blocked_signals(_number: int) -> set[int]:
    return {int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def test_workers_are_deaf_to_ctrl_c_and_the_parent_is_not() -> None:
    with process_executor(2) as executor:
        masks = list(as_finished(executor, blocked_signals, range(8)))
    assert all(signal.SIGINT in mask for mask in masks)
    assert signal.SIGINT not in blocked_signals(0)


def test_nothing_in_gives_nothing_out() -> None:
    assert list(as_finished(InlineExecutor(), square, [])) == []


def test_inline_work_is_handed_over_before_the_next_begins() -> None:
    events: list[str] = []

    def work(number: int) -> int:
        events.append(f"work {number}")
        return number

    for number in as_finished(InlineExecutor(), work, range(3)):
        events.append(f"kept {number}")
    assert events == ["work 0", "kept 0", "work 1", "kept 1", "work 2", "kept 2"]


def test_no_more_than_the_limit_is_in_flight() -> None:
    gate, taken = threading.Event(), 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(10 * IN_FLIGHT):
            taken = number + 1
            yield number

    with ThreadPoolExecutor(2) as executor:
        results = as_finished(executor, lambda _: gate.wait(30), items())
        threading.Timer(0.2, gate.set).start()
        next(results)
        assert taken == IN_FLIGHT
        results.close()


def test_errors_cross_process_borders_whole() -> None:
    with process_executor(1) as executor, pytest.raises(DataError) as caught:
        list(as_finished(executor, refuse, [3]))
    assert (caught.value.got, caught.value.where) == ("3", "here")


def test_a_dead_worker_is_an_error_one_can_read() -> None:
    with process_executor(1) as executor, pytest.raises(TilthError, match="worker process died"):
        list(as_finished(executor, die, [0]))


def test_refuses_no_workers() -> None:
    with pytest.raises(SettingsError, match="workers"):
        process_executor(0)


@pytest.mark.cluster
def test_no_scheduler_is_an_error_one_can_read() -> None:
    pytest.importorskip("distributed")
    with (
        pytest.raises(TilthError, match="no Dask scheduler"),
        dask_executor("tcp://127.0.0.1:9", timeout_s=0.5),
    ):
        pass
