"""The cache of remote files: bounded, verified, and never outside its folder."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from tilth.data.media_cache import MediaCache
from tilth.errors import MediaError


def writes(content: bytes) -> Callable[[BinaryIO], object]:
    return lambda stream: stream.write(content)


def never(stream: BinaryIO) -> object:
    raise AssertionError("the file is there already")


def age(cache: MediaCache, seconds: float) -> None:
    """Make every entry look as if it was used that long ago."""
    then = time.time() - seconds
    for path in cache.folder.glob("*/*"):
        os.utime(path, (then, then))


def used(cache: MediaCache) -> int:
    return sum(p.stat().st_size for p in cache.folder.glob("*/*") if p.suffix != ".note")


def test_what_was_put_is_there_once(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path / "cache", 1000)
    assert cache.get("k", ".jpg") is None
    path = cache.put("k", writes(b"content"), ".jpg")
    assert (path.suffix, path.read_bytes()) == (".jpg", b"content")
    assert cache.put("k", never, ".jpg") == path
    assert MediaCache(tmp_path / "cache", 1000).get("k", ".jpg") == path


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000, ""])
def test_no_key_leads_out_of_the_folder(key: str, tmp_path: Path) -> None:
    cache = MediaCache(tmp_path / "cache", 1000)
    assert cache.put(key, writes(b"content")).is_relative_to(tmp_path / "cache")


@pytest.mark.parametrize("spoilt", [b"contenT", b"conten", b""])
def test_a_file_that_changed_is_taken_out(spoilt: bytes, tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 1000)
    cache.put("k", writes(b"content")).write_bytes(spoilt)
    again = MediaCache(tmp_path, 1000)  # a new process verifies the hash at its first use
    assert again.get("k") is None
    assert again.put("k", writes(b"content")).read_bytes() == b"content"


def test_a_file_without_its_note_is_no_entry(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 1000)
    path = cache.put("k", writes(b"content"))
    path.with_suffix(".note").unlink()
    assert cache.get("k") is None
    path = cache.put("k", writes(b"content"))
    path.with_suffix(".note").write_bytes(b"{")
    assert cache.get("k") is None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 250)
    for name in "ab":
        cache.put(name, writes(bytes(100)))
        age(cache, 200)
    assert cache.get("a") is not None  # used now
    cache.put("c", writes(bytes(100)))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.get("c") is not None
    assert used(cache) <= 250


def test_a_file_in_use_is_not_taken_away(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 150)
    paths = [cache.put(name, writes(bytes(100))) for name in "abc"]
    assert all(path.exists() for path in paths)


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 1000)

    def fails(stream: BinaryIO) -> object:
        stream.write(b"half")
        raise MediaError("no more")

    with pytest.raises(MediaError):
        cache.put("k", fails)
    assert cache.get("k") is None
    assert list(tmp_path.glob("*/*")) == []


def test_files_that_a_kill_left_are_swept(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 10)
    stray = cache.put("k", writes(b"content")).with_name(".x.123.part")
    stray.write_bytes(bytes(50))
    os.utime(stray, (0, 0))
    MediaCache(tmp_path, 10).put("other", writes(b"content"))
    assert not stray.exists()


def _fill(folder: Path) -> None:
    cache = MediaCache(folder, 100_000)
    for number in range(40):
        content = number.to_bytes(2, "little") * 100
        assert cache.put(str(number), writes(content)).read_bytes() == content


@pytest.mark.cluster
def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert used(MediaCache(tmp_path, 1)) == 40 * 200
