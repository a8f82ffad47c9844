"""The next part is made in a thread while this one is used: Arrow and NumPy leave it a core."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["read_ahead"]

Part = TypeVar("Part")


def read_ahead(parts: Iterable[Part]) -> Iterator[Part]:
    """The same parts, one of them made ahead; an error comes where its part would have come.

    >>> list(read_ahead("abc"))
    ['a', 'b', 'c']
    """
    source, end = iter(parts), object()
    with ThreadPoolExecutor(1, thread_name_prefix="tilth-read-ahead") as thread:
        waiting = thread.submit(next, source, end)
        while (part := waiting.result()) is not end:
            waiting = thread.submit(next, source, end)
            yield part  # type: ignore[misc]
