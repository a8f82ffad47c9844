"""Memory that runs out is said in words, and costs nothing that was trained before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy_training import Blobs, network, squared_error

from tilth.errors import TrainingError
from tilth.train.loop import LoopSettings, fit
from tilth.train.memory import is_out_of_memory

SETTINGS = LoopSettings(steps=9, checkpoint_every=3, ema_decay=0.0, device="cpu")


def _fit(run_dir, *, loss=squared_error, model=None, batches=None):
    return fit(
        model or network(normalised=False),
        loss,
        batches or Blobs(6),
        settings=SETTINGS,
        run_dir=run_dir,
        progress=False,
    )


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't "
                 "allocate memory: you tried to allocate 9 bytes. Error code 12"),
    MemoryError("Unable to allocate 7.28 TiB for an array"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_failed_allocation_names_the_batch_size_and_keeps_the_checkpoint(tmp_path, error):
    def grows(model, batch):
        if batch["names"][0] == "blob-24":  # of the fifth batch
            raise error
        return squared_error(model, batch)

    with pytest.raises(TrainingError, match="memory ran out") as caught:
        _fit(tmp_path, loss=grows)
    assert caught.value.where == "step 4, a batch of 6"
    assert "batch_size=3" in caught.value.fix
    whole = _fit(tmp_path / "whole")
    result = _fit(tmp_path)
    assert result.resumed_from == 3
    assert result.last_weights.read_bytes() == whole.last_weights.read_bytes()


def test_a_model_that_asks_for_absurd_memory(tmp_path):
    class Absurd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(normalised=False)

        def forward(self, images):
            return self.inner(images) + torch.empty(2**50).sum()

    with pytest.raises(TrainingError, match="memory ran out") as caught:
        _fit(tmp_path, model=Absurd())
    assert "allocate" in caught.value.got


def test_a_batch_that_cannot_be_made_is_said_too(tmp_path):
    class Huge(Blobs):
        def batch(self, step):
            raise MemoryError

    with pytest.raises(TrainingError, match="memory ran out") as caught:
        _fit(tmp_path, batches=Huge())
    assert caught.value.where == "step 0"


def test_other_errors_stay_what_they_are(tmp_path):
    def broken(model, batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    assert not is_out_of_memory(RuntimeError("mat1 and mat2"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        _fit(tmp_path, loss=broken)


def test_memory_that_runs_out_in_the_evaluation_is_said_too(tmp_path):
    def evaluate(model):
        raise MemoryError

    with pytest.raises(TrainingError, match="memory ran out"):
        fit(
            network(normalised=False),
            squared_error,
            Blobs(6),
            settings=replace(SETTINGS, evaluate_every=2),
            run_dir=tmp_path,
            evaluate=evaluate,
            progress=False,
        )
