"""Threads for work on many small files: one while files come at once, more where they are awaited.

A file in memory is opened and read in some microseconds, and threads that take turns at that spend
more on the turns; a disk or a network lets each of them wait, and then they wait together. So one
works, beside whoever asked, until a task takes longer than files in memory do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock, Semaphore
from typing import Any, Generic, TypeVar

__all__ = ["FILES_A_TASK", "FileThreads"]

FILES_A_TASK = 256
_THREADS = 4
_TASKS_AHEAD = 8 * _THREADS  # of them results may be kept: small files, so some megabytes
_SLOW_S = 1e-4  # for one file; from memory it is a tenth of that, from a fast disk as much

Result = TypeVar("Result")


class FileThreads(Generic[Result]):
    """Tasks on some files each, done in the background; their results come in order.

    >>> with FileThreads() as threads:
    ...     list(threads.results(lambda start: [start], [0, 256]))
    [[0], [256]]
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS)
        self._turn = Semaphore(1)
        self._lock = Lock()
        self._together = False
        self._tasks: deque[Future[Result]] = deque()

    def __enter__(self) -> FileThreads[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, work: Callable[..., Result], *args: Any) -> list[Result]:
        """Begin a task; the results of those that have to end first, so that few are ahead."""
        self._tasks.append(self._pool.submit(self._do, work, args))
        return [self._tasks.popleft().result() for _ in range(len(self._tasks) - _TASKS_AHEAD)]

    def rest(self) -> Iterator[Result]:
        """The results that are still to come."""
        while self._tasks:
            yield self._tasks.popleft().result()

    def results(self, work: Callable[[Any], Result], each: Any) -> Iterator[Result]:
        """The result of the work on each of many, in order."""
        for one in each:
            yield from self.submit(work, one)
        yield from self.rest()

    def _do(self, work: Callable[..., Result], args: tuple[Any, ...]) -> Result:
        with self._turn:
            begin = time.perf_counter()
            result = work(*args)
            slow = time.perf_counter() - begin > _SLOW_S * FILES_A_TASK
        if slow:
            self._all_together()
        return result

    def _all_together(self) -> None:
        with self._lock:
            if not self._together:
                self._together = True
                self._turn.release(_THREADS - 1)
