"""Batches made ahead of time by threads, in order.

Threads, not processes: decoding, resizing and tensor arithmetic release the interpreter lock, and
what threads have made need not be sent to anybody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["prefetched"]

Key = TypeVar("Key")
Item = TypeVar("Item")


def prefetched(
    make: Callable[[Key], Item], keys: Iterable[Key], *, workers: int
) -> Iterator[tuple[Key, Item]]:
    """Yield ``(key, make(key))`` in the order of ``keys``, with ``workers`` threads working ahead.

    Since ``make`` is a pure function of its key, the number of workers changes nothing but time.
    An exception of ``make`` is raised here, when its turn comes.

    Args:
        workers: 0 makes each item in line, when it is asked for.

    >>> list(prefetched(lambda step: step * step, range(3), workers=2))
    [(0, 0), (1, 1), (2, 4)]
    """
    if workers == 0:
        for key in keys:
            yield key, make(key)
        return
    pending: deque[tuple[Key, Future[Item]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="tilth-batch") as pool:
        try:
            for key in keys:
                pending.append((key, pool.submit(make, key)))
                if len(pending) > workers:  # one is being used, the others are on their way
                    ready, future = pending.popleft()
                    yield ready, future.result()
            while pending:
                ready, future = pending.popleft()
                yield ready, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
