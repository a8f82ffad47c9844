"""The log keeps whole lines up to a checkpoint, and drops the rest."""

from __future__ import annotations

import pytest

from tilth.errors import StorageError
from tilth.train.trackers import JsonLines, read_records


def test_round_trip(tmp_path):
    log = JsonLines(tmp_path / "m.jsonl", step=0)
    log.write(1, {"loss": {"total": 0.1}})
    log.write(2, {"loss": {"total": float("nan")}})
    log.close()
    assert read_records(tmp_path / "m.jsonl") == [
        {"step": 1, "loss": {"total": 0.1}},
        {"step": 2, "loss": {"total": None}},
    ]


def test_reopened_at_a_step_keeps_what_came_before(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step":1}\n{"step":2}\n{"step":3}\n{"step":4,"lo')
    log = JsonLines(path, step=2)
    log.write(3, {})
    log.close()
    assert path.read_bytes() == b'{"step":1}\n{"step":2}\n{"step":3}\n'


def test_lines_are_there_before_the_file_is_closed(tmp_path):
    log = JsonLines(tmp_path / "m.jsonl", step=0)
    log.write(1, {})
    assert read_records(tmp_path / "m.jsonl") == [{"step": 1}]
    log.close()


def test_fresh_run_forgets_an_older_log(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step":5}\n')
    JsonLines(path, step=0).close()
    assert read_records(path) == []


def test_full_disk_is_a_storage_error():
    """``/dev/full`` refuses every write, as a full disk does."""
    log = object.__new__(JsonLines)
    log.path = "/dev/full"
    log._stream = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with pytest.raises(StorageError, match="metrics could not be written"):
        log.write(1, {})
    log.close()
