"""Where the work of this room runs: in this process, in several, or on a Dask cluster.

Everything takes any `concurrent.futures.Executor`; results never depend on which one it was.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import cv2

from tilth import lazy
from tilth.errors import SettingsError, TilthError

__all__ = ["InlineExecutor", "as_finished", "dask_executor", "process_executor"]

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT = 64  # enough batches to keep a small cluster busy, few enough to hold their results


class InlineExecutor(Executor):
    """Runs each call at once, in this thread: small jobs, debugging.

    >>> InlineExecutor().submit(pow, 2, 5).result()
    32
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn`` now; its result or its error is in the future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def process_executor(workers: int | None = None) -> ProcessPoolExecutor:
    """A pool of processes, one a core unless told otherwise; close it, or use it in a ``with``.

    Raises:
        SettingsError: fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise SettingsError(
            "this number of workers cannot be used", expected="1 or more", got=str(workers)
        )
    # Forking a process that holds database connections and OpenCV's threads can deadlock.
    return _ProcessPool(
        workers or len(os.sched_getaffinity(0)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_one_thread_each,
    )


@contextmanager
def dask_executor(address: str, *, timeout_s: float = 10.0) -> Iterator[Executor]:
    """The workers of a Dask cluster, by the address of its scheduler (``tcp://host:8786``).

    The workers must see the pictures under the same paths.

    Raises:
        MissingExtraError: the extra ``cluster`` is not installed.
        TilthError: no scheduler answers there within ``timeout_s``.
    """
    distributed: Any = lazy.require("distributed", extra="cluster")
    try:
        client = distributed.Client(address, timeout=timeout_s, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise TilthError(
            "no Dask scheduler answers", where=address, got=str(error), fix="dask scheduler"
        ) from error
    try:
        # pure=False: a file may have changed since a call with the same arguments.
        yield client.get_executor(pure=False)
    finally:
        client.close()


def as_finished(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Results of ``function`` over ``items`` in the order in which they are ready.

    At most 64 items are with the workers at any time, so that a long job neither piles up results
    nor loses more than those when it is killed.

    Raises:
        TilthError: a worker process died; and whatever ``function`` raised.
    """
    waiting: set[Future[Result]] = set()
    remaining = iter(items)
    try:
        while True:
            for item in remaining:
                future = executor.submit(function, item)
                waiting.add(future)
                if len(waiting) >= IN_FLIGHT or future.done():
                    break
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenExecutor as error:
        raise TilthError(
            "a worker process died",
            got=str(error),
            fix="it may have run out of memory: use fewer workers, then run again to go on",
        ) from error
    finally:
        for future in waiting:
            future.cancel()


def _one_thread_each() -> None:
    cv2.setNumThreads(1)  # the pool already fills the cores


class _ProcessPool(ProcessPoolExecutor):
    """A pool whose workers are deaf to Ctrl-C, from before their first line of Python.

    A terminal sends it to every process; the parent alone answers, by ending the pool, and the
    batches at work are finished and kept.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As the pool does; workers start in here, and inherit the signals that are blocked."""
        resource_tracker.ensure_running()  # would unblock the signal, were it started below
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
