"""The batch size is what two small batches say, it is kept, and it needs no full memory to find."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tilth.errors import TrainingError
from tilth.train import batch_size as module
from tilth.train.batch_size import (
    chosen_batch_size,
    largest_batch_size,
    peak_memory,
    training_steps,
)
from tilth.train.epochs import for_epochs
from tilth.train.free_memory import _container_memory, _machine_memory, free_memory
from tilth.train.loop_settings import LoopSettings

CPU = torch.device("cpu")
MIB = 2**20


@given(constant=st.integers(0, 10**10), each=st.integers(1, 10**9), budget=st.integers(1, 10**12))
def test_the_choice_fits_and_twice_of_it_does_not(constant, each, budget):
    def need(size):
        return constant + each * size

    if need(1) > budget:
        with pytest.raises(TrainingError, match="not enough memory"):
            largest_batch_size(need, budget=budget, largest=10**6)
        return
    size = largest_batch_size(need, budget=budget, largest=2**60).batch_size
    assert need(size) <= budget * (1 + 1e-9)
    assert need(2 * size) > budget * (1 - 1e-9)


@pytest.mark.parametrize(("largest", "size"), [(1, 1), (5, 4), (64, 64), (100, 64)])
def test_no_batch_is_larger_than_asked_for(largest, size):
    def need(batch):
        return batch

    assert largest_batch_size(need, budget=10**9, largest=largest).batch_size == size


def test_a_measurement_that_does_not_grow_is_taken_for_the_worst_case():
    choice = largest_batch_size(lambda size: 400, budget=1000, largest=64)
    assert choice.batch_size == 8  # 100 a sample


def holds(batch_size, *, each):
    """In place of a training step: memory that grows with the batch, and is touched."""
    np.ones(batch_size * each, dtype=np.uint8)


def test_peak_of_a_process_is_its_own_and_grows_by_what_the_batch_holds():
    ballast = np.ones(1500 * MIB, dtype=np.uint8)
    probe = partial(holds, each=40 * MIB)
    low, high = (peak_memory(probe, size, device=CPU) for size in (2, 4))
    assert high - low == pytest.approx(80 * MIB, rel=0.1)
    assert high < 1000 * MIB  # a child's ru_maxrss would begin with the memory of its parent
    del ballast


def steps_of_a_network(batch_size):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))
    batch = {"images": torch.rand(batch_size, 3, 32, 32)}
    settings = LoopSettings(optimiser="adamw", ema_decay=0.9, precision="bf16")
    training_steps(
        model,
        lambda network, batch: {"total": network(batch["images"]).square().mean()},
        batch,
        settings,
        device=CPU,
    )


def test_chosen_once_and_kept_however_full_the_memory_is_later(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda device: 2**33)
    size = chosen_batch_size(tmp_path, steps_of_a_network, device=CPU, largest=16)
    assert size == 16
    record = json.loads((tmp_path / "batch_size.json").read_text())
    assert record["batch_size"] == 16
    assert [measured[0] for measured in record["measured"]] == [2, 4]
    monkeypatch.setattr(module, "free_memory", lambda device: 1)
    monkeypatch.setattr(module, "peak_memory", None)  # nothing is measured again
    assert chosen_batch_size(tmp_path, steps_of_a_network, device=CPU, largest=16) == 16


def test_a_full_memory_and_a_broken_record_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda device: 1000)
    monkeypatch.setattr(module, "peak_memory", lambda probe, size, device: 1000 * size)
    with pytest.raises(TrainingError, match="not enough memory for a batch of one"):
        chosen_batch_size(tmp_path, steps_of_a_network, device=CPU, largest=16)
    assert not (tmp_path / "batch_size.json").exists()
    (tmp_path / "batch_size.json").write_text('{"batch_size": ')
    with pytest.raises(TrainingError, match="began with cannot be read"):
        chosen_batch_size(tmp_path, steps_of_a_network, device=CPU, largest=16)


def test_free_memory_is_that_of_the_container_where_it_has_a_limit(tmp_path):
    assert 0 < free_memory(CPU) <= _machine_memory(tmp_path.__class__("/proc/meminfo")) + 2**30
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert _machine_memory(tmp_path / "meminfo") == 2048 * 1024
    assert _container_memory(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 300\nfile 600\nshmem 50\n")
    assert _container_memory(tmp_path) == 1000 - 900 + 550  # pages of files can be given back
    (tmp_path / "memory.max").write_text("max\n")
    assert _container_memory(tmp_path) is None


def test_epochs_are_steps_in_which_every_sample_was_seen():
    settings = LoopSettings(accumulate=2)
    counted = for_epochs(settings, 3, num_samples=100, batch_size=8, processes=2)
    assert (counted.steps, counted.evaluate_every) == (12, 4)
    kept = for_epochs(LoopSettings(evaluate_every=5), 1, num_samples=100, batch_size=8)
    assert kept.evaluate_every == 5
    warm = for_epochs(LoopSettings(warmup_steps=50), 1, num_samples=100, batch_size=8)
    assert (warm.steps, warm.warmup_steps) == (13, 6)
    assert for_epochs(settings, 0, num_samples=100, batch_size=8) is settings
