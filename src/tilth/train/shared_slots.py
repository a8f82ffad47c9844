"""Byte strings of known lengths that are made once and read by every process of a machine.

A file holds a checksum a slot (0: not made yet) and then the slots. Whoever first needs one makes
it, writes it, and then its checksum; everybody reads it through a memory map, without a copy and
without a message. So a process that is killed leaves nothing half-made that counts: the next one
goes on. The system keeps the pages in memory while there is room for them.

The kernel's locks say who is making what, and who uses the file: it is deleted when the last
process lets it go. What a killed one leaves is deleted by the next one that looks into the folder.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.errors import StorageError

__all__ = ["SharedSlots", "swept"]

_PAGE = 4096
_STRIPES = 64


class SharedSlots:
    """Slots in a file, or in memory of this process alone where there is no path.

    Args:
        path: of the file; made where it is missing. Its name must say what is in it, since whoever
            names the same file gets the same slots.
        lengths: int64 [n], bytes in each slot; a slot of 0 is never kept.
        keep: leave the file behind for later runs.

    Raises:
        StorageError: the file cannot be made.
    """

    def __init__(self, path: Path | None, lengths: NDArray[np.int64], *, keep: bool = False):
        self._lengths = np.asarray(lengths, dtype=np.int64)
        first = -(-4 * len(lengths) // _PAGE) * _PAGE
        self._starts = first + np.cumsum(self._lengths) - self._lengths
        num_bytes = max(_PAGE, first + int(self._lengths.sum()))
        try:
            self._file, lock = _in_memory() if path is None else _opened(path)
            if os.fstat(self._file).st_size < num_bytes:  # others may have room for more slots
                os.ftruncate(self._file, num_bytes)
            self._map = mmap.mmap(self._file, num_bytes, access=mmap.ACCESS_READ)
        except OSError as error:
            raise StorageError(
                "decoded pictures cannot be kept",
                where=str(path),
                got=error.strerror or str(error),
                fix="name another folder for them, or free some space",
            ) from error
        self._sums = np.frombuffer(self._map, dtype=np.uint32, count=len(lengths))
        self._is_checked = np.zeros(len(lengths), dtype=bool)
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self.is_full = False
        self._close = weakref.finalize(self, _let_go, self._file, lock, path, keep, os.getpid())

    def get(self, slot: int, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """uint8 [length], read-only: what is in the slot; ``make()`` gives it the first time.

        In all processes and threads together a slot is made once, unless the disk is full.
        """
        if self._is_checked[slot]:
            return self._view(slot)
        if not self._lengths[slot]:
            return make().reshape(-1)
        with self._stripes[slot % _STRIPES]:
            if self._is_made(slot):
                return self._view(slot)
            with self._being_made(slot):
                if self._is_made(slot):  # by whoever held the lock
                    return self._view(slot)
                made = np.ascontiguousarray(make()).reshape(-1)
                return self._view(slot) if self._wrote(slot, made) else made

    def is_made(self, slot: int) -> bool:
        """Whether somebody has made it."""
        return bool(self._sums[slot])

    def close(self) -> None:
        """Let the file go; arrays that were handed out stay valid."""
        self._close()

    def _view(self, slot: int) -> NDArray[np.uint8]:
        return np.frombuffer(self._map, np.uint8, int(self._lengths[slot]), int(self._starts[slot]))

    def _is_made(self, slot: int) -> bool:
        """Whether it is there and what was written: a power cut may keep one without the other."""
        expected = int(self._sums[slot])
        if expected and expected == _checksum(self._view(slot)):
            self._is_checked[slot] = True
        return bool(self._is_checked[slot])

    def _wrote(self, slot: int, made: NDArray[np.uint8]) -> bool:
        if self.is_full:
            return False
        try:
            # Not through the map: with a full disk that would end the process, this says so.
            _write(self._file, made, int(self._starts[slot]))
            _write(self._file, np.array([_checksum(made)], dtype=np.uint32), 4 * slot)
        except OSError:
            self.is_full = True
            return False
        self._is_checked[slot] = True
        return True

    @contextmanager
    def _being_made(self, slot: int) -> Iterator[None]:
        with _let_other_processes_finish(self._file, slot):
            yield


def swept(folder: Path, *, older_than_s: float) -> int:
    """Delete the files in ``folder`` that nobody uses; how many there were.

    Args:
        older_than_s: seconds since somebody began to use it last.
    """
    count, now = 0, time.time()
    for lock_path in folder.glob("*.lock"):
        with suppress(OSError), lock_path.open("rb") as lock:
            if now - os.fstat(lock.fileno()).st_mtime < older_than_s:
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock_path.with_suffix(".slots").unlink(missing_ok=True)
            lock_path.unlink(missing_ok=True)
            count += 1
    return count


def _opened(path: Path) -> tuple[int, int]:
    """The file and its lock, held together with others who use it."""
    lock_path = path.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        # Whoever used it last may have deleted it between the two lines above.
        with suppress(FileNotFoundError):
            if os.fstat(lock).st_ino == os.stat(lock_path).st_ino:
                break
        os.close(lock)
    os.utime(lock)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600), lock


def _in_memory() -> tuple[int, int]:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tilth-slots"), -1
    with tempfile.TemporaryFile() as stream:  # elsewhere than on Linux
        return os.dup(stream.fileno()), -1


def _let_go(file: int, lock: int, path: Path | None, keep: bool, owner: int) -> None:
    if os.getpid() != owner:  # a fork: the file is its parent's
        return
    with suppress(OSError):
        if path is not None and not keep:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else uses it
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)
    for handle in (file, lock):
        if handle >= 0:
            os.close(handle)


@contextmanager
def _let_other_processes_finish(file: int, slot: int) -> Iterator[None]:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, slot)
    except OSError:
        # No such locks on this file system, or the kernel takes two waiting processes of several
        # threads for a deadlock. Made twice is the same bytes.
        yield
        return
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, slot)


def _write(file: int, data: NDArray[np.generic], start: int) -> None:
    left = memoryview(data).cast("B")  # type: ignore[arg-type]
    while left:
        done = os.pwrite(file, left, start)
        left, start = left[done:], start + done


def _checksum(data: NDArray[np.uint8]) -> int:
    return zlib.crc32(data) or 1  # type: ignore[arg-type]
