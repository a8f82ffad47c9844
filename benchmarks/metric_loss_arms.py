"""The arms of the benchmark of learned metrics: by which loss a network goes on from one start.

All arms with a learned metric of a seed begin with the same surrogate, fitted to outputs of the
networks that the pretraining passed through, as they were and with disturbed weights. Those outputs
and their true values are made once a task and seed, and kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from evidence import ROOT
from metric_loss_tasks import Batch, Task, digest_of
from torch import Tensor, nn

from tilth.data.atomic import atomic_writer
from tilth.losses.metric_loss import MetricLoss
from tilth.losses.metric_replay import Examples, Replay
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.metric_surrogate import MetricSurrogate
from tilth.losses.surrogate_settings import SurrogateSettings
from tilth.seeding import derive_seed

__all__ = ["ARMS", "Arm", "bank_of", "surrogate_of_bank"]

BANK_BATCHES = 1_000_000
"""The first number of the batches whose outputs the surrogate is fitted to."""
DISTURBED = 0.15
"""Deviation of the factors by which disturbed weights differ."""

ANCHORED_WEIGHT = 3.0
"""How much harder the metric pulls at the outputs than the ordinary loss beside it."""

NETWORKS = SurrogateSettings(members=2, width=16)


class Arm(Protocol):
    """A loss for a task's network, and what there is to tell of it afterwards."""

    def __call__(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        """The loss of a step."""
        ...

    def told(self) -> dict[str, Any]:
        """Plain numbers for the record, ``metric_calls`` and ``metric_seconds`` among them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """The ordinary loss alone: the control."""

    task: Task

    def __call__(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        return self.task.proxy(model, batch)

    def told(self) -> dict[str, Any]:
        return {"metric_calls": 0, "metric_seconds": 0.0}


ARMS: dict[str, Callable[[Task, int, Path], Arm]] = {
    "proxy": lambda task, seed, work: Proxy(task=task),
    "frozen": lambda task, seed, work: Learned(task, seed, work, refresh=False, ordinary=0.0),
    "refreshed": lambda task, seed, work: Learned(task, seed, work, refresh=True, ordinary=0.0),
    "refreshed_anchored": lambda task, seed, work: Learned(
        task, seed, work, refresh=True, ordinary=1.0, weight=ANCHORED_WEIGHT
    ),
}
"""Name in claims -> the arm of a task and seed."""
EXPLOITED = "exploited"
"""An arm of one task alone: what a frozen surrogate does that has seen too little."""
ARMS[EXPLOITED] = lambda task, seed, work: Learned(
    task, seed, work, refresh=False, ordinary=0.0, narrow=True
)


class Learned:
    """A learned metric, from the surrogate that all such arms of a task and seed start with.

    It is watched in every arm, so that the frozen one's alarm can be told; alarms change nothing,
    because arms are to take equal steps.

    Args:
        refresh: it goes on learning from outputs of the moment, and from those it began with.
        ordinary: weight of the ordinary loss beside it.
        weight: of the metric.
        narrow: the surrogate has seen outputs of the starting network alone.
    """

    def __init__(
        self,
        task: Task,
        seed: int,
        work: Path,
        *,
        refresh: bool,
        ordinary: float,
        weight: float = 1.0,
        narrow: bool = False,
    ) -> None:
        self.task = task
        bank = narrow_bank(task, seed) if narrow else bank_of(task, seed, work=work)
        self.surrogate = surrogate_of_bank(task, seed, bank, work=None if narrow else work)
        settings = MetricSettings(
            metric=task.name,
            surrogate="fitted to the bank",
            begin=0.0,
            ramp=0.0,
            look_every=6,
            calls_per_look=min(32, task.batch_size),
            refresh=refresh,
            refresh_steps=8,
            ordinary=ordinary,
            weight=weight,
            on_alarm="warn",
            workers=0,
        )
        self.loss = MetricLoss(
            lambda model, batch: {"total": task.proxy(model, dict(batch))},
            self.surrogate,
            outputs=lambda model, batch: task.outputs(model, dict(batch)),
            steps=task.steps,
            settings=settings,
            seed=seed,
        )
        if refresh:
            for one in zip(bank.predictions, bank.targets, bank.values.tolist(), strict=True):
                self.loss.replay.add(*one)

    def __call__(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        return self.loss(model, batch)["total"]

    def told(self) -> dict[str, Any]:
        assert self.surrogate.calls is not None
        assert self.surrogate.quality is not None
        self.loss.finish()
        spent, readings = self.surrogate.calls.spent, self.loss.watch.readings
        return {
            "metric_calls": spent.calls,
            "metric_seconds": spent.seconds,
            "surrogate_ms_per_batch": 1000 * self._surrogate_seconds(),
            "metric_ms_per_batch": 1000 * self._metric_seconds(),
            "surrogate": self.surrogate.quality.as_dict(),
            "alarms": sum(reading.is_alarm for reading in readings),
            "looks": len(readings),
            "first_alarm": next((r.step for r in readings if r.is_alarm), -1),
            "reasons": list(next((r.reasons for r in readings if r.is_alarm), ())),
            "watched": [[r.step, r.true, r.believed, r.rank_correlation] for r in readings],
        }

    def _metric_seconds(self, rounds: int = 3) -> float:
        """Time of the metric's values of one batch, one after the other; the least of some."""
        model, batch = self.task.network(0), self.task.train_batches(0).batch(0)
        prediction, target = (part.detach() for part in self.task.outputs(model, batch))
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            self.task.scores(prediction, target)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def _surrogate_seconds(self, rounds: int = 5) -> float:
        """Processor time of the surrogate's value and gradient of one batch; the least of some."""
        model, batch = self.task.network(0), self.task.train_batches(0).batch(0)
        prediction, target = (part.detach() for part in self.task.outputs(model, batch))
        seconds = []
        for _ in range(rounds):
            start = time.process_time()
            self.surrogate(prediction.requires_grad_(), target).mean().backward()
            seconds.append(time.process_time() - start)
        return min(seconds)


@torch.no_grad()
def narrow_bank(task: Task, seed: int, size: int = 320) -> Examples:
    """Outputs of the starting network alone, with the metric's true values."""
    network, batches = task.network(seed).eval(), task.train_batches(seed)
    found = [
        task.outputs(network, batches.batch(BANK_BATCHES + number))
        for number in range(size // task.batch_size)
    ]
    predictions, targets = (torch.cat(parts) for parts in zip(*found, strict=True))
    values = torch.from_numpy(task.scores(predictions, targets)).float()
    return Examples(predictions=predictions, targets=targets, values=values)


def surrogate_of_bank(
    task: Task, seed: int, bank: Examples, *, work: Path | None
) -> MetricSurrogate:
    """A surrogate fitted to the bank; from the work folder where an earlier call has kept it.

    Args:
        work: None keeps nothing.
    """
    surrogate = MetricSurrogate(
        task.metric,
        inputs=task.inputs,
        goal=task.goal,
        limits=task.limits,
        settings=NETWORKS,
        seed=seed,
    )
    if work is None:
        surrogate.fit(bank.predictions, bank.targets, bank.values, progress=False)
        surrogate.bank = None
        return surrogate
    file = work / "surrogates" / f"{task.name}-{seed}-{surrogates_digest(task)}.pt"
    if not file.is_file():
        surrogate.fit(bank.predictions, bank.targets, bank.values, progress=False)
        with atomic_writer(file) as stream:
            torch.save(surrogate.training_state(), stream)
    state = torch.load(file, weights_only=True)
    surrogate.load_training_state(state, Replay(1))
    return surrogate


def surrogates_digest(task: Task) -> str:
    """Of all that a fitted surrogate follows from."""
    losses = ROOT / "src" / "tilth" / "losses"
    files = sorted([*losses.glob("metric_*.py"), *losses.glob("surrogate_*.py")])
    return digest_of([Path(__file__), *files], task.digest, NETWORKS)


def bank_of(task: Task, seed: int, *, work: Path, digest: str = "", size: int = 2_400) -> Examples:
    """Outputs of earlier and disturbed networks with the metric's true values.

    Outputs are made anew by every call, the values are kept in the work folder.

    Args:
        digest: of all that the values follow from, beside the task itself.
    """
    predictions, targets = _outputs_of_networks(task, seed, size)
    file = work / "banks" / f"{task.name}-{seed}-{task.digest}{digest}-{len(targets)}.npy"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        values = task.scores(predictions, targets)
        with atomic_writer(file) as stream:
            np.save(stream, values)
    known = torch.from_numpy(np.load(file)).float()
    return Examples(predictions=predictions, targets=targets, values=known)


def _outputs_of_networks(task: Task, seed: int, size: int) -> tuple[Tensor, Tensor]:
    """Of each network as many, every second batch with disturbed weights."""
    networks, batches = task.checkpoints(seed), task.train_batches(seed)
    found = []
    for number in range(-(-size // task.batch_size)):
        network = networks[number % len(networks)]
        if number // len(networks) % 2:
            network = _disturbed(network, derive_seed(seed, "disturbed", number))
        batch = batches.batch(BANK_BATCHES + number)
        with torch.no_grad():
            found.append(task.outputs(network.eval(), batch))
    predictions, targets = (torch.cat(parts) for parts in zip(*found, strict=True))
    return predictions[:size], targets[:size]


def _disturbed(network: nn.Module, seed: int) -> nn.Module:
    """Another network whose weights are each up to some tenths larger or smaller."""
    other, draws = deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1 + DISTURBED * torch.randn(weight.shape, generator=draws))
    return other
