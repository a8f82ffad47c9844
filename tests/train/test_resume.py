"""A run that is killed and started again ends in the same bits as one that was left alone."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from toy_training import RESUME_SETTINGS, Blobs, evaluate, network, squared_error

from tilth.errors import TrainingError
from tilth.train.loop import fit
from tilth.train.trackers import read_records

MEASURED = {"samples_per_second", "data_wait_share"}


def _fit(run_dir, settings=RESUME_SETTINGS, **options):
    model = network()
    options = {"evaluate": evaluate, "progress": False, **options}
    result = fit(model, squared_error, Blobs(), settings=settings, run_dir=run_dir, **options)
    return model, result


def _process(run_dir):
    """The run in a process of its own: what else this one has loaded moves the last bits."""
    script = [sys.executable, "toy_training.py", str(run_dir)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(script, env=environment, cwd=os.path.dirname(__file__))


def _run_to_the_end(run_dir):
    with _process(run_dir) as process:
        assert process.wait(120) == 0


def _run_until_killed(run_dir, *, at_step, delay_s):
    """Start the run in a process of its own and kill it some time after ``at_step``."""
    with _process(run_dir) as process:
        deadline = time.monotonic() + 120
        while not any(r["step"] >= at_step for r in read_records(run_dir / "metrics.jsonl")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def _numbers(run_dir):
    records = read_records(run_dir / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k not in MEASURED} for record in records]


def _final_tensors(run_dir):
    folder = run_dir / "checkpoints" / f"step-{RESUME_SETTINGS.steps:08d}"
    tensors = {}
    for name in ("model", "average"):
        weights = load_file(folder / f"{name}.safetensors")
        tensors |= {f"{name}.{key}": value for key, value in weights.items()}
    optimiser = torch.load(folder / "state.pt", weights_only=True)["optimiser"]
    for index, state in optimiser["state"].items():
        tensors[f"momentum.{index}"] = state["momentum_buffer"]
    return tensors


def _assert_same_run(left, right):
    assert _numbers(left) == _numbers(right)
    ours, theirs = _final_tensors(left), _final_tensors(right)
    assert ours.keys() == theirs.keys()
    differing = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not differing
    assert (left / "best.safetensors").read_bytes() == (right / "best.safetensors").read_bytes()
    assert (left / "last.safetensors").read_bytes() == (right / "last.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("uninterrupted")
    model, result = _fit(run_dir)
    return run_dir, model, result


def test_killed_twice_equals_uninterrupted_bit_for_bit(tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    _run_to_the_end(alone)
    _run_until_killed(killed, at_step=24, delay_s=0.031)
    _run_until_killed(killed, at_step=60, delay_s=0.017)
    assert not (killed / "last.safetensors").exists(), "the run was over before it was killed"
    _run_to_the_end(killed)
    _assert_same_run(alone, killed)
    model, result = _fit(alone)
    resumed_model, resumed = _fit(killed)
    assert resumed.loss == result.loss
    assert resumed.best_step == result.best_step
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed_model.state_dict()[name]), name


def test_log_has_every_due_step_once(uninterrupted):
    run_dir, _, _ = uninterrupted
    steps = [record["step"] for record in read_records(run_dir / "metrics.jsonl")]
    losses = [record["step"] for record in _numbers(run_dir) if "loss" in record]
    assert losses == list(range(3, 121, 3))
    assert steps == sorted(steps)


class _Stop(Exception):
    pass


class _StoppingBlobs(Blobs):
    """Fails when batch ``at`` is asked for, as a process that ends does."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def batch(self, step):
        if step == self.at:
            raise _Stop
        return super().batch(step)


def _interrupted(run_dir, at):
    with pytest.raises(_Stop):
        fit(
            network(),
            squared_error,
            _StoppingBlobs(at),
            settings=RESUME_SETTINGS,
            run_dir=run_dir,
            evaluate=evaluate,
            progress=False,
        )


@pytest.mark.parametrize("at", [0, 27, 28, 29, 239])
def test_interrupted_at_any_batch_equals_uninterrupted(uninterrupted, tmp_path, at):
    _interrupted(tmp_path, at)
    _fit(tmp_path)
    _assert_same_run(uninterrupted[0], tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checkpoint.json"])
def test_damaged_newest_checkpoint_falls_back_to_the_one_before(uninterrupted, tmp_path, name):
    _interrupted(tmp_path, 60)
    newest = tmp_path / "checkpoints" / "step-00000028"
    damaged = bytearray((newest / name).read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (newest / name).write_bytes(damaged)
    with pytest.warns(UserWarning, match="trying the one before it"):
        _, result = _fit(tmp_path)
    assert result.resumed_from == 21
    _assert_same_run(uninterrupted[0], tmp_path)


def test_all_checkpoints_damaged_is_refused_and_nothing_is_overwritten(tmp_path):
    _interrupted(tmp_path, 60)
    for folder in (tmp_path / "checkpoints").iterdir():
        (folder / "model.safetensors").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.warns(UserWarning, match="cannot be used"),
        pytest.raises(TrainingError, match="no checkpoint is whole"),
    ):
        _fit(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_finished_run_is_left_as_it_is(tmp_path):
    settings = dataclasses.replace(RESUME_SETTINGS, steps=22)
    model, first = _fit(tmp_path, settings)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    loaded, second = _fit(tmp_path, settings)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert second == dataclasses.replace(first, resumed_from=22)
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_other_settings_are_refused_by_name(tmp_path):
    settings = dataclasses.replace(RESUME_SETTINGS, steps=22)
    _fit(tmp_path, settings)
    other = dataclasses.replace(settings, learning_rate=0.5, seed=6)
    with pytest.raises(TrainingError) as caught:
        _fit(tmp_path, other)
    assert "settings.learning_rate: 0.5 now, 0.05 there" in caught.value.got
    assert "settings.seed" in caught.value.got
    assert "settings.momentum" not in caught.value.got


def test_other_data_is_refused(tmp_path):
    class Named(Blobs):
        def __init__(self, name):
            super().__init__()
            self.identity = {"name": name}

    settings = dataclasses.replace(RESUME_SETTINGS, steps=22)
    run = {"settings": settings, "run_dir": tmp_path, "progress": False}
    fit(network(), squared_error, Named("streets"), **run)
    with pytest.raises(TrainingError, match="another run") as caught:
        fit(network(), squared_error, Named("forests"), **run)
    assert "data.name" in caught.value.got


def test_other_model_is_refused(tmp_path):
    settings = dataclasses.replace(RESUME_SETTINGS, steps=22)
    run = {"settings": settings, "run_dir": tmp_path, "progress": False}
    fit(network(), squared_error, Blobs(), **run)
    with pytest.raises(TrainingError, match="another run"):
        fit(network(normalised=False), squared_error, Blobs(), **run)


def test_logging_more_often_is_no_other_run(tmp_path):
    settings = dataclasses.replace(RESUME_SETTINGS, steps=22)
    _fit(tmp_path, settings)
    _, result = _fit(tmp_path, dataclasses.replace(settings, log_every=1, checkpoint_every=1))
    assert result.resumed_from == 22


def test_two_and_two_epochs_are_four_on_a_constant_rate(tmp_path):
    settings = dataclasses.replace(RESUME_SETTINGS, schedule="constant", evaluate_every=0, steps=22)
    longer = dataclasses.replace(settings, steps=44)
    _fit(tmp_path / "four", longer)
    _fit(tmp_path / "two", settings)
    _, result = _fit(tmp_path / "two", longer, extend=True)
    assert result.resumed_from == 22
    four, two = (tmp_path / name / "last.safetensors" for name in ("four", "two"))
    assert four.read_bytes() == two.read_bytes()


def test_more_steps_only_when_asked_for(tmp_path):
    settings = dataclasses.replace(RESUME_SETTINGS, steps=22)
    _fit(tmp_path, settings)
    longer = dataclasses.replace(settings, steps=30)
    with pytest.raises(TrainingError, match="another run") as caught:
        _fit(tmp_path, longer)
    assert "extend=True" in caught.value.fix
    _, result = _fit(tmp_path, longer, extend=True)
    assert (result.steps, result.resumed_from) == (30, 22)
    with pytest.raises(TrainingError, match="another run"):
        _fit(tmp_path, settings, extend=True)  # fewer steps is another matter
