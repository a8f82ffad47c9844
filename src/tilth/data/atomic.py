"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tilth.errors import SettingsError, StorageError

__all__ = ["atomic_folder", "atomic_writer"]


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that replaces it when the block ends without error.

    Raises:
        StorageError: the write failed (disk full, no permission); ``path`` is as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise StorageError(
            "the file could not be written; what was there before is unchanged",
            where=str(path),
            got=error.strerror or str(error),
            fix="free some space or choose another folder",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _write_back(folder: Path) -> None:
    """Wait until all that was written to the folder's file system is on its medium.

    Raises:
        OSError: some of it is not.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:  # not on Linux: all file systems, and no word of what failed
            os.sync()
        elif syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make a temporary folder beside ``path`` that takes its place when the block ends well.

    Args:
        replace: a folder that is there, and holds something, is replaced whole.

    Raises:
        SettingsError: the folder holds something and ``replace`` is false.
        StorageError: a write failed; what was there before is unchanged.
    """
    if not replace and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise SettingsError(
            "the folder to write is there already, and holds something",
            where=str(path),
            fix="name a new folder, or pass --overwrite to replace it whole",
        )
    token = secrets.token_hex(6)
    temporary, old = (path.with_name(f".{path.name}.{token}.{end}") for end in ("part", "old"))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _write_back(temporary)  # once for all files: for each it would cost more than the writing
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        raise StorageError(
            "the folder could not be written; what was there before is unchanged",
            where=str(path),
            got=error.strerror or str(error),
            fix="free some space or choose another folder",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
