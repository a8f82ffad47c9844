"""Prepared pictures kept in memory, up to a number of bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilth.ops.letterbox import Placement

__all__ = ["PictureCache", "Prepared"]


class Prepared(NamedTuple):
    """A picture at network size, where the original lies in it, and that one's width and height."""

    image_rgb: NDArray[np.uint8]
    placement: Placement
    size: tuple[int, int]


class PictureCache:
    """Shared by the threads that make batches; each process has its own.

    The first pictures that fit stay. Nothing is thrown out for a later one, because an epoch visits
    every picture once: whatever was used longest ago is what is needed next, and a cache of the
    most recent would never hit.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._pictures: dict[int, Prepared] = {}
        self._lock = threading.Lock()

    def get(self, key: int, prepare: Callable[[int], Prepared]) -> Prepared:
        """The picture of ``key``; ``prepare(key)`` makes it when it is not here."""
        found = self._pictures.get(key)
        if found is not None:
            return found
        made = prepare(key)
        with self._lock:
            fits = self._bytes + made.image_rgb.nbytes <= self._limit
            if fits and key not in self._pictures:
                self._bytes += made.image_rgb.nbytes
                self._pictures[key] = made
        return made
