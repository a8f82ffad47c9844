"""A folder is there whole, on its medium, or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tilth.data.atomic import atomic_folder
from tilth.errors import StorageError


def with_library(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(**functions))


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a.txt").read_text() == "a"


def test_what_does_not_reach_the_medium_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(handle: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    with_library(monkeypatch, syncfs=fails)
    could_not = pytest.raises(StorageError, match="could not be written")
    with could_not as caught, atomic_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
    assert caught.value.got == os.strerror(errno.EIO)
    assert list(tmp_path.iterdir()) == []


def test_where_one_file_system_cannot_be_written_back_all_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    with_library(monkeypatch)
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    with atomic_folder(tmp_path / "out"):
        pass
    assert calls == ["sync"]
    assert (tmp_path / "out").is_dir()
