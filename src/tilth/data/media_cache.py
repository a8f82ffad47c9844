"""A folder that keeps remote files and frames of videos: bounded, verified, shared by processes.

An entry is two files: the content, and beside it a note with its hash and size, written last, so
that one without the other is no entry. Files are put in place by renaming; several processes may
fetch the same file, and the last one's copy stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tilth.data.atomic import atomic_writer
from tilth.data.images import content_hash
from tilth.errors import StorageError

__all__ = ["MediaCache"]

_GRACE_S = 60.0  # an entry used so lately may be open somewhere
_STRAY_S = 3600.0  # a temporary file that old belongs to nobody


class MediaCache:
    """Files by key, at most ``max_bytes`` of them; those unused for longest go first.

    Args:
        folder: made when the first file comes.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._verified: set[str] = set()
        self._lock = threading.Lock()
        self._bytes_seen: int | None = None

    def get(self, key: str, suffix: str = "") -> Path | None:
        """The file of ``key``, or None; one that is not what was written is taken out.

        The size is compared each time, the hash at the first use in this process.
        """
        path, note = self._paths(key, suffix)
        try:
            expected = json.loads(note.read_bytes())
            if path.stat().st_size != expected["bytes"]:
                raise ValueError("another size")
            if path.name not in self._verified:
                if content_hash(path.read_bytes()) != expected["hash"]:
                    raise ValueError("another content")
                self._verified.add(path.name)
            os.utime(note)  # its age is what decides who goes first
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            note.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            return None
        return path

    def put(self, key: str, write: Callable[[BinaryIO], object], suffix: str = "") -> Path:
        """The file of ``key``, written by ``write`` into an open file unless it is there.

        Raises:
            StorageError: the disk is full.
        """
        found = self.get(key, suffix)
        if found is not None:
            return found
        path, note = self._paths(key, suffix)
        with atomic_writer(path) as stream:
            write(stream)
            size = stream.tell()
        entry = {"bytes": size, "hash": _hash_of(path)}
        with atomic_writer(note) as stream:
            stream.write(json.dumps(entry).encode())
        self._verified.add(path.name)
        self._keep_bound(size)
        return path

    def _paths(self, key: str, suffix: str) -> tuple[Path, Path]:
        # The name is a hash: no key, however strange, leads out of the folder.
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        folder = self.folder / name[:2]
        return folder / f"{name}{suffix}", folder / f"{name}.note"

    def _keep_bound(self, added: int) -> None:
        with self._lock:
            if self._bytes_seen is not None and self._bytes_seen + added <= self.max_bytes:
                self._bytes_seen += added
                return
            self._bytes_seen = self._evict()

    def _evict(self) -> int:
        """Delete what was used longest ago until the rest fits; the bytes that stay."""
        now, entries = time.time(), []
        for path in self.folder.glob("*/*"):
            try:
                status = path.stat()
            except OSError:
                continue  # another process was faster
            if path.name.endswith(".part"):
                if now - status.st_mtime > _STRAY_S:
                    path.unlink(missing_ok=True)
            elif path.suffix == ".note":
                entries.append((status.st_mtime, path))
        sizes = {note: _noted_bytes(note) for _, note in entries}
        total = sum(sizes.values())
        for used, note in sorted(entries):
            if total <= self.max_bytes or now - used < _GRACE_S:
                break
            note.unlink(missing_ok=True)
            for path in note.parent.glob(f"{note.stem}*"):
                path.unlink(missing_ok=True)
            total -= sizes[note]
        return total


def _noted_bytes(note: Path) -> int:
    try:
        return int(json.loads(note.read_bytes())["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _hash_of(path: Path) -> str:
    try:
        return content_hash(path.read_bytes())
    except OSError as error:
        raise StorageError(
            "a file of the cache went away while it was written", where=str(path)
        ) from error
