"""The cache of remote files: bounded, verified, and never outside its folder."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from tilth.data import media_cache
from tilth.data.images import content_hash
from tilth.data.media_cache import MediaCache, _entries
from tilth.errors import MediaError, StorageError


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
    MediaCache(tmp_path, 10**9).put("a", writes(bytes(1000)))
    MediaCache(tmp_path, 10**9).put("b", writes(bytes(1000)))
    cache = MediaCache(tmp_path, 2500)
    age(cache, 200)
    assert cache.get("a") is not None  # used now
    cache.put("c", writes(bytes(1000)))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.get("c") is not None
    assert used(cache) <= 2500


def test_a_file_in_use_is_not_taken_away(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 150)
    paths = [cache.put(name, writes(bytes(100))) for name in "abc"]
    assert all(path.exists() for path in paths)


def test_a_cache_too_small_for_what_is_in_use_says_so(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 2500)
    cache.put("a", writes(bytes(2000)))
    age(cache, 200)
    with pytest.warns(UserWarning, match="cache_gb"):
        cache.put("b", writes(bytes(2000)))
    assert cache.get("a") is None


def test_a_full_cache_is_not_gone_through_for_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = MediaCache(tmp_path, 100_000)
    looks = []
    monkeypatch.setattr(media_cache, "_GRACE_S", 0.0)
    monkeypatch.setattr(
        media_cache, "_entries", lambda folder: (looks.append(1), _entries(folder))[1]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(400):
            cache.put(str(number), writes(bytes(1000)))
    assert used(cache) <= 100_000
    assert len(looks) < 400 / 4


def test_a_file_of_another_content_than_wanted_is_written_again(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, 1000)
    path = cache.put("k", writes(b"old"))
    assert cache.get("k", content=content_hash(b"old")) == path
    assert cache.get("k", content=content_hash(b"new")) is None
    assert cache.put("k", writes(b"new"), content=content_hash(b"new")).read_bytes() == b"new"


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    def fails(stream: BinaryIO) -> object:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="cannot be kept") as caught:
        MediaCache(tmp_path, 1000).put("k", fails)
    assert "No space" in (caught.value.got or "")
    assert list(tmp_path.glob("*/*")) == []


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


def _fill(folder: Path, max_bytes: int) -> None:
    media_cache._GRACE_S = 0.3  # type: ignore[misc]
    cache = MediaCache(folder, max_bytes)
    for number in range(120):
        content = (number % 60).to_bytes(2, "little") * 500
        path = cache.put(str(number % 60), writes(content))
        with suppress(FileNotFoundError):  # a process that slept longer than the grace
            assert path.read_bytes() == content
        if max_bytes < 60_000:
            time.sleep(0.01)  # so that files grow old


@pytest.mark.cluster
@pytest.mark.parametrize("max_bytes", [10**6, 40_000])
@pytest.mark.filterwarnings("ignore:the media in use")
def test_processes_share_a_folder(max_bytes: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill, args=(tmp_path, max_bytes)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert used(MediaCache(tmp_path, 1)) <= min(1.2 * max_bytes, 60 * 1000)


def _write_for_ever(folder: Path) -> None:
    cache = MediaCache(folder, 10**9)
    for number in itertools.count():
        cache.put(str(number % 200), writes(bytes([number % 256]) * 20_000), content="none")


@pytest.mark.cluster
def test_a_kill_leaves_no_half_file_among_the_entries(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(tmp_path,))
    worker.start()
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("*/*.note"))) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.kill()
    worker.join()
    cache = MediaCache(tmp_path, 10**9)
    found = [path for number in range(200) if (path := cache.get(str(number))) is not None]
    assert len(found) >= 40
    for path in found:
        content = path.read_bytes()
        assert content == content[:1] * 20_000
