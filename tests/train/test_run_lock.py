"""One process at a time in a run's folder; a kill leaves no lock behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_training import RESUME_SETTINGS, Blobs, evaluate, network, squared_error

from tilth.errors import StorageError, TrainingError
from tilth.train.loop import FitResult, fit
from tilth.train.run_lock import run_lock
from tilth.train.trackers import read_records


def _fit(run_dir: Path) -> FitResult:
    return fit(
        network(),
        squared_error,
        Blobs(),
        settings=RESUME_SETTINGS,
        run_dir=run_dir,
        evaluate=evaluate,
        progress=False,
    )


def _files(run_dir: Path) -> set[str]:
    return {path.name for path in run_dir.iterdir()}


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    script = [sys.executable, "toy_training.py", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "metrics.jsonl"
    with subprocess.Popen(script, env=environment, cwd=Path(__file__).parent) as first:
        deadline = time.monotonic() + 60
        while not read_records(log):
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)  # alive, and as slow as can be
        try:
            before, size = _files(tmp_path), log.stat().st_size
            with pytest.raises(TrainingError, match="another process is training this run") as e:
                _fit(tmp_path)
            assert e.value.where == str(tmp_path)
            assert (_files(tmp_path), log.stat().st_size) == (before, size)
        finally:
            first.send_signal(signal.SIGKILL)
    assert _fit(tmp_path).steps == RESUME_SETTINGS.steps


def test_the_lock_goes_with_a_run_that_failed(tmp_path: Path) -> None:
    _fit(tmp_path)
    (tmp_path / "run.json").write_text("{}")  # refused after the lock was taken
    with pytest.raises(TrainingError, match="cannot be identified"):
        _fit(tmp_path)
    with run_lock(tmp_path), pytest.raises(TrainingError, match="another process"):
        _fit(tmp_path)
    with pytest.raises(TrainingError, match="cannot be identified"):
        _fit(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="written to"), run_lock(tmp_path / "file" / "run"):
        pass
