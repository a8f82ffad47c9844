"""Ctrl-C in the terminal: every process of the verb gets it, one clean message comes out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from coco_sets import write_coco_set

from tilth.cli.app import main

SLOW_WORKERS = """
import sys, time
from pathlib import Path

if "--multiprocessing-fork" in sys.orig_argv:
    import tilth.data.images as images
    original = images.decode_image

    def slowly(data, *, where):
        Path("working").touch()
        time.sleep(0.02)
        return original(data, where=where)

    images.decode_image = slowly
    Path("starting").touch()
    time.sleep(0.3)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of 150 pictures, five batches, none of them measured."""
    labels = write_coco_set(tmp_path, 150)
    here = ("--project", str(tmp_path / "field"))
    for arguments in (
        ("init", str(tmp_path / "field")),
        ("import", str(labels), "--images", str(tmp_path / "photos"), *here),
    ):
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        assert exited.value.code == 0
    (tmp_path / "sitecustomize.py").write_text(SLOW_WORKERS)
    return tmp_path / "field"


@pytest.mark.cluster
@pytest.mark.parametrize("moment", ["starting", "working"])
def test_interrupted_workers_leave_one_message_and_a_usable_project(
    moment: str, project: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tilth", "metrics", "--workers", "2", "--project", "field"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / moment).exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines() == [
        "error: interrupted",
        "  fix: finished work is kept; run the same command to go on",
    ]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "measured" in again.stdout
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout == (
        "measured 0 pictures and 0 boxes; 150 pictures were measured already\n"
    )
