"""The largest batch that fits into memory, from what two small ones need.

The memory of a training step is a constant (weights, optimiser, libraries) and a part that grows
with the batch (activations). Two measurements give both; nothing is ever filled up to find out. The
answer is a power of two, so that the noise of a measurement does not change it, and it is written
into the run's folder: a run that is picked up again keeps it, however full the memory is then.
"""

from __future__ import annotations

import math
import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from tilth.data.atomic import atomic_writer
from tilth.errors import TrainingError
from tilth.train.ema import MovingAverage
from tilth.train.free_memory import free_memory
from tilth.train.loop_settings import LoopSettings
from tilth.train.optimiser import build_optimiser
from tilth.train.processes import from_main, is_main, num_local_processes

__all__ = [
    "BatchSizeChoice",
    "chosen_batch_size",
    "largest_batch_size",
    "peak_memory",
    "training_steps",
]

SIZES = (2, 4)  # of one, a normalisation of few pixels has no variance
FRACTION = 0.8  # of the free memory: fragments, larger pictures and the evaluation want some
RECORD = "batch_size.json"

Probe = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class BatchSizeChoice:
    """What was chosen, and why.

    Attributes:
        batch_size: a power of two.
        measured: batch size and peak bytes of each measurement.
        budget: bytes that a step may need.
    """

    batch_size: int
    measured: tuple[tuple[int, int], ...]
    budget: int


def chosen_batch_size(run_dir: Path, probe: Probe, *, device: torch.device, largest: int) -> int:
    """The batch size that the run began with, or that of a new one, which is then written down.

    Args:
        probe: trains a little with the batch size that it is given; see `training_steps`. On a CPU
            it runs in processes of its own, so it must be picklable.
        device: where the probe trains.
        largest: no batch is larger, for instance the number of pictures.

    Raises:
        TrainingError: not even a batch of one fits, or the record is broken.
        StorageError: the record could not be written.
    """
    path, found = run_dir / RECORD, None
    if is_main():  # one measures for all: they are alike, and would measure each other
        found = _recorded(path)
        if found is None:
            share = num_local_processes() if device.type == "cpu" else 1
            choice = largest_batch_size(
                lambda size: peak_memory(probe, size, device=device),
                budget=int(FRACTION * free_memory(device) / share),
                largest=largest,
            )
            with atomic_writer(path) as stream:
                stream.write(msgspec.json.format(msgspec.json.encode(asdict(choice))))
            found = choice.batch_size
    size = from_main(found)
    assert size is not None
    return size


def largest_batch_size(
    measure: Callable[[int], int], *, budget: int, largest: int
) -> BatchSizeChoice:
    """The greatest power of two whose step fits into ``budget`` bytes, up to ``largest``.

    Args:
        measure: peak bytes of a step with this batch size.

    Raises:
        TrainingError: a batch of one would not fit.

    >>> largest_batch_size(lambda size: 1000 + 100 * size, budget=5000, largest=64).batch_size
    32
    """
    measured = tuple((size, measure(size)) for size in SIZES)
    (small, low), (large, high) = measured
    each = (high - low) / (large - small)
    if each <= 0:  # the measurement drowned in noise: take all of it for the batch's
        each, constant = high / large, 0.0
    else:
        constant = max(0.0, low - each * small)
    fits = math.floor((budget - constant) / each)
    if fits < 1:
        raise TrainingError(
            "there is not enough memory for a batch of one",
            expected=f"{_gibibytes(constant + each)} of free memory, with some to spare",
            got=_gibibytes(budget),
            fix="make the network or its input smaller, or end what else uses the memory",
        )
    size = 2 ** math.floor(math.log2(min(fits, largest)))
    return BatchSizeChoice(batch_size=size, measured=measured, budget=budget)


def peak_memory(probe: Probe, batch_size: int, *, device: torch.device) -> int:
    """Bytes that ``probe(batch_size)`` needs at its peak.

    On a GPU what torch has allocated; on a CPU the resident memory of a process that does nothing
    else, with all libraries in it.

    Raises:
        TrainingError: the process was ended, as happens when the memory is full.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        probe(batch_size)
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.empty_cache()
        return peak
    context = multiprocessing.get_context("spawn")  # torch's thread pools do not survive a fork
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_resident_peak, probe, batch_size).result()
    except BrokenProcessPool as error:
        raise TrainingError(
            "the process that measured the memory of a training step was ended from outside",
            expected=f"memory for a batch of {batch_size}",
            fix="set batch_size to a number, and make the network or its input smaller",
        ) from error


def training_steps(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Any],
    batch: Any,
    settings: LoopSettings,
    *,
    device: torch.device,
) -> None:
    """Two steps with everything that the loop keeps in memory: the second one has a momentum."""
    layout = torch.channels_last if settings.channels_last else torch.preserve_format
    model.to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
    average = MovingAverage(model, settings.ema_decay) if settings.ema_decay else None
    optimiser = build_optimiser(
        model,
        name=settings.optimiser,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    kinds = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    placed = {name: value.to(device) for name, value in batch.items()}
    for step in range(2):
        is_mixed = settings.precision != "no"
        with torch.autocast(device.type, dtype=kinds[settings.precision], enabled=is_mixed):
            total = loss(model, placed)["total"]
        total.backward()
        optimiser.step()
        optimiser.zero_grad()
        if average is not None:
            average.update(step)


def _resident_peak(probe: Probe, batch_size: int) -> int:
    torch.set_num_threads(1)  # scratch memory of more threads is small beside the activations
    probe(batch_size)
    # Not ru_maxrss: that begins with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def _recorded(path: Path) -> int | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=BatchSizeChoice).batch_size
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise TrainingError(
            "the batch size that the run began with cannot be read",
            where=str(path),
            got=str(error),
            fix="set batch_size to the number in run.json, or start in a new folder",
        ) from error


def _gibibytes(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"
