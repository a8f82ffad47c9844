"""How many samples a second, and which share of the time was spent waiting for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["Throughput"]

Item = TypeVar("Item")


class Throughput:
    """Counts from one reading to the next."""

    def __init__(self) -> None:
        self._restart()

    def waiting(self, stream: Iterator[Item]) -> Iterator[Item]:
        """Pass ``stream`` on, counting the time until each item is there."""
        while True:
            asked = time.perf_counter()
            item = next(stream, None)
            self._waited += time.perf_counter() - asked
            if item is None:
                return
            yield item

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is neither training nor waiting: an evaluation, a checkpoint."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._started += time.perf_counter() - began

    def count(self, samples: int) -> None:
        """Add ``samples`` that were trained on."""
        self._samples += samples

    def read(self) -> dict[str, float]:
        """Samples a second and data-wait share (0 to 1) since the last reading."""
        elapsed = max(time.perf_counter() - self._started, 1e-9)
        reading = {
            "samples_per_second": self._samples / elapsed,
            "data_wait_share": self._waited / elapsed,
        }
        self._restart()
        return reading

    def _restart(self) -> None:
        self._started = time.perf_counter()
        self._waited = 0.0
        self._samples = 0
