"""Two processes under torchrun train the same model as one with batches twice as large."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_training import Blobs, network, squared_error

from tilth.errors import TrainingError
from tilth.train.checkpoint import load_weights
from tilth.train.loop import LoopSettings, fit
from tilth.train.trackers import read_records

pytestmark = pytest.mark.cluster

SETTINGS = LoopSettings(
    steps=12,
    learning_rate=0.1,
    accumulate=2,
    checkpoint_every=5,
    log_every=1,
    ema_decay=0.9,
    device="cpu",
)


def run(run_dir, settings=SETTINGS, *, batch_size=4, stop_at=None):
    """The run of this test; also called in every process that torchrun starts."""
    model = network(normalised=False)  # batch statistics are those of a process, on purpose
    batches = Blobs(batch_size)
    if stop_at is not None:
        batches.batch = _stopping(batches.batch, stop_at)
    options = {"settings": settings, "run_dir": Path(run_dir), "progress": False}
    fit(model, squared_error, batches, evaluate=_score, **options)
    return model


def _score(model):
    return {"score": float(model(torch.ones(1, 3, 8, 8)).sum())}


def _stopping(batch, at):
    def stopping(step):
        if step >= at:
            raise SystemExit(3)
        return batch(step)

    return stopping


def _torchrun(run_dir, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, __file__, str(run_dir), *arguments],
        env=environment,
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        timeout=400,  # on a busy machine
        check=False,
    )


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("two")
    done = _torchrun(run_dir)
    assert done.returncode == 0, done.stderr
    return run_dir


def test_two_processes_equal_one_with_double_batches(two_processes, tmp_path):
    run(tmp_path, batch_size=8)
    newest = Path("checkpoints") / "step-00000012"
    for file in ("model.safetensors", "average.safetensors"):
        one, two = network(normalised=False), network(normalised=False)
        load_weights(tmp_path / newest / file, one)
        load_weights(two_processes / newest / file, two)
        for name, value in one.state_dict().items():
            torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    ours, theirs = (read_records(folder / "metrics.jsonl") for folder in (two_processes, tmp_path))
    losses = [[r["loss"]["total"] for r in records if "loss" in r] for records in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert [record["step"] for record in ours] == [record["step"] for record in theirs]


def test_interrupted_processes_continue_to_the_same_bits(two_processes, tmp_path):
    stopped = _torchrun(tmp_path, "29")
    assert stopped.returncode != 0
    assert (tmp_path / "checkpoints" / "step-00000005").is_dir()
    done = _torchrun(tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / name).read_bytes() == (two_processes / name).read_bytes()


def test_another_number_of_processes_is_another_run(two_processes):
    with pytest.raises(TrainingError, match="another run") as caught:
        run(two_processes, replace(SETTINGS))
    assert "num_processes: 1 now, 2 there" in caught.value.got


if __name__ == "__main__":
    run(sys.argv[1], stop_at=int(sys.argv[2]) if len(sys.argv) > 2 else None)
