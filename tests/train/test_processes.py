"""Processes share work out, agree, and say so when one of them has gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_training import Blobs, network, squared_error

from tilth.errors import SettingsError, TrainingError
from tilth.train.checkpoint import load_weights
from tilth.train.freeze_settings import FreezeSettings
from tilth.train.loop import LoopSettings, fit
from tilth.train.processes import (
    from_main,
    gathered,
    is_main,
    join,
    main_first,
    num_processes,
    rank,
    shard,
    share_cores,
)

SETTINGS = LoopSettings(
    steps=8, learning_rate=0.1, checkpoint_every=5, ema_decay=0.9, evaluate_every=2, device="cpu"
)
FREEZE = {
    "late": FreezeSettings(layers=1, until_step=4),
    "never": FreezeSettings(layers=1),
}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What two processes did, one after the other: starting them costs most of the time."""
    folder = tmp_path_factory.mktemp("two")
    done = torchrun("all", folder)
    assert done.returncode == 0, done.stderr
    return folder


@given(count=st.integers(0, 200), chunk=st.integers(1, 20), world=st.integers(1, 7))
def test_shards_are_whole_chunks_and_hold_every_item_once(count, chunk, world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(world))
        parts = []
        for number in range(world):
            patch.setenv("RANK", str(number))
            parts.append(shard(count, chunk=chunk))
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    for part in parts:
        starts = part[::chunk]
        assert (starts % chunk == 0).all()
        assert part.tolist() == [i for s in starts for i in range(s, min(s + chunk, count))]


def test_a_single_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # left over from something else
    assert (num_processes(), rank(), is_main()) == (1, 0, True)
    assert gathered(7) == [7]
    assert from_main("a") == "a"
    join()
    with main_first():
        pass
    assert not torch.distributed.is_initialized()


def test_threads_are_those_asked_for_or_a_share_of_the_cores(monkeypatch):
    before = torch.get_num_threads()
    try:
        share_cores(3)
        assert torch.get_num_threads() == 3
        share_cores(0)
        assert torch.get_num_threads() == 3
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
        share_cores(0)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.cluster
def test_batch_statistics_of_all_processes_are_refused_on_a_cpu(two_processes):
    assert all("need GPUs" in value["sync"] for value in written(two_processes))


@pytest.mark.cluster
def test_two_processes_agree(two_processes):
    values = written(two_processes)
    assert [value["gathered"] for value in values] == [[[0], [0, 10]]] * 2
    assert [value["from_main"] for value in values] == ["of 0"] * 2
    assert values[0]["left"] < values[1]["entered"]


@pytest.mark.cluster
def test_a_process_that_does_not_answer_is_named_as_an_error(tmp_path):
    done = torchrun("silent", tmp_path)
    assert done.returncode != 0
    assert "another process of this run has ended, or did not answer in time" in done.stderr
    assert "train.timeout" in done.stderr


@pytest.mark.cluster
def test_the_scores_of_the_main_process_decide_for_all(two_processes):
    """Patience that ran out in one process alone would leave the other waiting for ever."""
    assert [value["steps"] for value in written(two_processes)] == [6, 6]


@pytest.mark.cluster
@pytest.mark.parametrize("kind", sorted(FREEZE))
def test_frozen_weights_are_those_of_a_single_process(two_processes, tmp_path, kind):
    run(tmp_path / kind, replace(SETTINGS, freeze=FREEZE[kind]), batch_size=8)
    for file in ("last.safetensors", "best.safetensors"):
        one, two = network(normalised=False), network(normalised=False)
        load_weights(tmp_path / kind / file, one)
        load_weights(two_processes / kind / file, two)
        for name, value in one.state_dict().items():
            torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    start = network(normalised=False).state_dict()
    for found in (one, two):
        assert torch.equal(found.state_dict()["0.weight"], start["0.weight"]) == (kind == "never")


def written(folder):
    """What each process wrote down."""
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(2)]


def run(run_dir, settings, *, batch_size=4, evaluate=None):
    options = {"settings": settings, "run_dir": Path(run_dir), "progress": False}
    evaluate = evaluate or (lambda model: {"score": float(model(torch.ones(1, 3, 8, 8)).sum())})
    model = network(normalised=False)
    return fit(model, squared_error, Blobs(batch_size), evaluate=evaluate, **options)


def torchrun(mode, folder):
    """The file itself, in two processes."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [*command, __file__, mode, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        timeout=400,  # on a busy machine
        check=False,
    )


def _agree():
    join("cpu")
    with main_first():
        entered = time.monotonic()
        if is_main():
            time.sleep(0.5)
        left = time.monotonic()
    return {
        "gathered": gathered(list(range(0, 20, 10))[: rank() + 1]),
        "from_main": from_main(f"of {rank()}"),
        "entered": entered,
        "left": left,
    }


def _disagree(folder):
    scores = iter([1.0, 0.5, 0.5] if is_main() else [1.0, 2.0, 3.0, 4.0])
    settings = replace(SETTINGS, patience=2)
    result = run(folder / "disagree", settings, evaluate=lambda model: {"score": next(scores)})
    return {"steps": result.steps}


def _sync(folder):
    with pytest.raises(SettingsError) as caught:
        run(folder / "sync", replace(SETTINGS, sync_batch_norm=True))
    return {"sync": caught.value.message}


def _all(folder):
    document = _agree() | _disagree(folder) | _sync(folder)
    for kind, freeze in FREEZE.items():
        run(folder / kind, replace(SETTINGS, freeze=freeze))
    (folder / f"{rank()}.json").write_text(json.dumps(document))


def _silent(folder):
    join("cpu", timeout=5.0)
    if rank() == 1:
        time.sleep(30)
    try:
        gathered(rank())
    except TrainingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    {"all": _all, "silent": _silent}[sys.argv[1]](Path(sys.argv[2]))
