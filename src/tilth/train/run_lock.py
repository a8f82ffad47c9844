"""One process at a time trains in a run's folder.

Two would write over each other's log and checkpoints. The lock is the kernel's: it ends with the
process that holds it, also on kill -9, so that a killed run is never locked out of its own folder.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tilth.errors import StorageError, TrainingError

__all__ = ["run_lock"]


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir/.lock`` while the run is trained; the file stays, only the lock goes.

    Raises:
        TrainingError: another process holds it.
        StorageError: the folder cannot be written to, or its file system has no locks.
    """
    path = run_dir / ".lock"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
    except OSError as error:
        raise StorageError(
            "the run's folder cannot be written to", where=str(run_dir), got=str(error)
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                "another process is training this run",
                where=str(run_dir),
                fix="wait for it, or train under another name",
            ) from error
        except OSError as error:
            raise StorageError(
                "the run's folder cannot be locked", where=str(path), got=str(error)
            ) from error
        yield
