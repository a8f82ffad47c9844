"""A folder that keeps remote files and frames of videos: bounded, verified, shared by processes.

An entry is two files: the content, and beside it a note with its hash and size, written last, so
that one without the other is no entry. Files are put in place by renaming, without waiting for the
disk: what a power cut spoils, the hash tells. Several processes may fetch the same file, and the
last one's copy stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tilth.errors import StorageError

__all__ = ["MediaCache"]

_GRACE_S = 60.0  # an entry used so lately may be open somewhere
_STRAY_S = 3600.0  # a temporary file that old belongs to nobody
_LOW_WATER = 0.9  # so that a full cache is not gone through for every file
_LOOK_AGAIN = 0.05  # other processes write too: of the bound, own bytes until the next look


class MediaCache:
    """Files by key, at most ``max_bytes`` of them; those unused for longest go first.

    Files used within the last minute stay even beyond the bound.

    Args:
        folder: made when the first file comes.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._verified: set[str] = set()
        self._lock = threading.Lock()
        self._room: float = 0  # bytes that may be added before the folder is looked at
        self._has_warned = False

    def get(self, key: str, suffix: str = "", *, content: str | None = None) -> Path | None:
        """The file of ``key``, or None; one that is not what was written is taken out.

        The size is compared each time, the hash at the first use in this process.

        Args:
            content: the hash that is wanted; a file of another is as good as none.
        """
        path, note = self._paths(key, suffix)
        try:
            expected = json.loads(note.read_bytes())
            if content not in (None, expected["hash"]):
                return None
            if path.stat().st_size != expected["bytes"]:
                raise ValueError("another size")
            if path.name not in self._verified:
                if _hash_of(path) != expected["hash"]:
                    raise ValueError("another content")
                self._verified.add(path.name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            # The note alone: the content may be another process's, in place since a moment ago.
            with suppress(OSError):
                note.unlink()
            return None
        with suppress(OSError):  # a cache that may only be read serves too
            os.utime(note)  # its age is what decides who goes first
        return path

    def put(
        self,
        key: str,
        write: Callable[[BinaryIO], object],
        suffix: str = "",
        *,
        content: str | None = None,
    ) -> Path:
        """The file of ``key``, written by ``write`` into an open file unless it is there.

        Args:
            content: as `get`.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        found = self.get(key, suffix, content=content)
        if found is not None:
            return found
        path, note = self._paths(key, suffix)
        with _placed(path) as stream:
            write(stream)
            stream.flush()
            num_bytes, digest = stream.tell(), _hash_of(Path(stream.name))
        with _placed(note) as stream:
            stream.write(json.dumps({"bytes": num_bytes, "hash": digest}).encode())
        self._verified.add(path.name)
        self._keep_bound(num_bytes)
        return path

    def _paths(self, key: str, suffix: str) -> tuple[Path, Path]:
        # The name is a hash: no key, however strange, leads out of the folder.
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        folder = self.folder / name[:2]
        return folder / f"{name}{suffix}", folder / f"{name}.note"

    def _keep_bound(self, added: int) -> None:
        with self._lock:
            self._room -= added
            if self._room < 0:
                left = self.max_bytes - self._evict()
                self._room = min(left, self.max_bytes * _LOOK_AGAIN)

    def _evict(self) -> int:
        """Delete what was used longest ago if the bound is passed; the bytes that stay."""
        now = time.time()
        entries = [entry for entry in _entries(self.folder).values() if not entry.sweep(now)]
        total = sum(entry.num_bytes for entry in entries)
        if total <= self.max_bytes:
            return total
        for entry in sorted(entries, key=lambda entry: entry.used):
            if total <= self.max_bytes * _LOW_WATER or now - entry.used < _GRACE_S:
                break
            if entry.is_temporary:
                continue  # somebody is at it
            entry.delete()
            total -= entry.num_bytes
            self._warn_if_ours(entry)
        return total

    def _warn_if_ours(self, entry: _Entry) -> None:
        ours = self._verified.intersection(os.path.basename(path) for path in entry.paths)
        self._verified -= ours
        if ours and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the media in use are larger than the cache of {self.max_bytes / 2**30:.3g} GB: "
                "files that were handed out are deleted again; raise media.cache_gb in tilth.toml",
                stacklevel=2,
            )


@dataclass(kw_only=True, eq=False)
class _Entry:
    """The files of one name: content, note, or a temporary file.

    Attributes:
        used: when the note was touched last; of a content without one, when that was written.
    """

    paths: list[str]
    num_bytes: int = 0
    used: float = 0.0
    has_note: bool = False
    is_temporary: bool = False

    def add(self, item: os.DirEntry[str]) -> None:
        status = item.stat(follow_symlinks=False)
        self.paths.append(item.path)
        self.num_bytes += status.st_size
        is_note = item.name.endswith(".note")
        if is_note or not self.has_note:
            self.used = status.st_mtime
        self.has_note |= is_note

    def sweep(self, now: float) -> bool:
        """Delete what a killed process left."""
        is_stray = not self.has_note and now - self.used > _STRAY_S
        if is_stray:
            self.delete()
        return is_stray

    def delete(self) -> None:
        # The note first: a content without one is no entry.
        for path in sorted(self.paths, key=lambda path: not path.endswith(".note")):
            with suppress(OSError):  # another process was faster
                os.unlink(path)


def _entries(folder: Path) -> dict[str, _Entry]:
    """By name; from the folders alone, no file is opened."""
    entries: dict[str, _Entry] = {}
    for parent in folder.glob("??"):
        with suppress(OSError), os.scandir(parent) as items:
            for item in items:
                is_temporary = item.name.endswith(".part")
                name = item.name if is_temporary else item.name.partition(".")[0]
                with suppress(OSError):
                    entry = entries.setdefault(name, _Entry(paths=[], is_temporary=is_temporary))
                    entry.add(item)
    return entries


@contextmanager
def _placed(path: Path) -> Iterator[BinaryIO]:
    """A temporary file that takes its place when the block ends without error."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(
            "a file cannot be kept in the cache",
            where=str(path.parent),
            got=error.strerror or str(error),
            fix="free some space, or lower media.cache_gb in tilth.toml",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _hash_of(path: Path) -> str:
    """As `tilth.data.images.content_hash`, of a file that need not fit into memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
