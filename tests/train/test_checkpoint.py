"""A checkpoint is whole or not there; a full disk and foreign bytes are met with reasons."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import pytest
import torch
from toy_training import network

from tilth.errors import StorageError, TrainingError
from tilth.train import checkpoint as checkpoint_module
from tilth.train.checkpoint import (
    load_weights,
    newest_checkpoint,
    restore,
    save_checkpoint,
    save_weights,
)


def _save(folder, step, *, run="a", value=0.0):
    return save_checkpoint(
        folder,
        step=step,
        run=run,
        models={"model": network()},
        state={"optimiser": {"momentum": torch.full((3,), value)}},
        progress={"step": step, "best_score": None},
    )


def test_round_trip_keeps_weights_state_and_progress(tmp_path):
    _save(tmp_path, 7, value=0.25)
    found = newest_checkpoint(tmp_path, run="a")
    assert (found.step, found.progress) == (7, {"step": 7, "best_score": None})
    model = network()
    with torch.no_grad():
        model[0].weight.zero_()
    state = restore(found, {"model": model})
    assert torch.equal(model[0].weight, network()[0].weight)
    assert torch.equal(state["optimiser"]["momentum"], torch.full((3,), 0.25))


def test_last_two_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        _save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_refused_later_checkpoint_does_not_push_out_good_ones(tmp_path):
    _save(tmp_path, 10)
    (_save(tmp_path, 20) / "state.pt").write_bytes(b"")
    _save(tmp_path, 15)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]


def test_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path):
    (_save(tmp_path, 20) / "state.pt").write_bytes(b"")
    _save(tmp_path, 20)
    assert newest_checkpoint(tmp_path, run="a").step == 20


def test_no_checkpoint_is_none(tmp_path):
    assert newest_checkpoint(tmp_path / "absent", run="a") is None


def test_checkpoint_of_another_run_is_not_taken(tmp_path):
    _save(tmp_path, 3, run="b")
    with (
        pytest.warns(UserWarning, match="another run"),
        pytest.raises(TrainingError, match="no checkpoint is whole"),
    ):
        newest_checkpoint(tmp_path, run="a")


@pytest.mark.parametrize("where", ["save_model", "_sync", "os.replace"])
def test_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch, where):
    _save(tmp_path, 1)

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if where == "os.replace":
            patched.setattr(os, "replace", full)
        else:
            patched.setattr(checkpoint_module, where, full)
        with pytest.raises(StorageError, match="could not be written") as caught:
            _save(tmp_path, 2)
    assert "No space left" in caught.value.got
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert newest_checkpoint(tmp_path, run="a").step == 1


def test_write_that_the_system_refuses_keeps_the_previous_checkpoint(tmp_path):
    """The same with a real failing write: a limit on file sizes in a process of its own."""
    _save(tmp_path, 1)
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[2]); import test_checkpoint as t\n"
        "from tilth.errors import StorageError\n"
        "t.resource.setrlimit(t.resource.RLIMIT_FSIZE, (64, 64))\n"
        "try: t._save(pathlib.Path(sys.argv[1]), 2)\n"
        "except StorageError: sys.exit(7)\n"
    )
    script = [sys.executable, "-c", code, str(tmp_path), os.path.dirname(__file__)]
    assert subprocess.run(script, check=False).returncode == 7
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 64
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_weights_round_trip_keeps_shared_tensors_and_memory_order(tmp_path):
    def tied():
        first, second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        second.weight = first.weight
        return torch.nn.Sequential(first, second, torch.nn.Conv2d(2, 3, 3))

    saved, loaded = tied(), tied().to(memory_format=torch.channels_last)
    save_weights(tmp_path / "w.safetensors", saved)
    load_weights(tmp_path / "w.safetensors", loaded)
    for name, value in saved.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    assert loaded[0].weight is loaded[1].weight
    assert loaded[2].weight.is_contiguous(memory_format=torch.channels_last)


def test_weights_of_another_model_are_refused(tmp_path):
    save_weights(tmp_path / "w.safetensors", network())
    with pytest.raises(TrainingError, match="cannot be loaded"):
        load_weights(tmp_path / "w.safetensors", network(normalised=False))


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04not weights" * 10])
def test_missing_or_foreign_weights_are_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match="cannot be loaded"):
        load_weights(path, network())


def test_state_that_would_run_code_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    _save(tmp_path / "c", 1)
    found = newest_checkpoint(tmp_path / "c", run="a")
    torch.save(Payload(), found.folder / "state.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        restore(found, {"model": network()})
    assert not (tmp_path / "owned").exists()
