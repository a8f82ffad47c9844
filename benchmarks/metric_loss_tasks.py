"""What the benchmark of learned metrics trains: a task is data, a network, an ordinary loss and the
slow metric that counts.

Every arm of a task starts from the same weights, trained with the ordinary loss, and sees the same
batches; both follow from the seed, a batch from its number. The loop is a plain one with Adam at a
rate that falls to nothing, so that arms differ in their loss alone.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn

from tilth.data.atomic import atomic_writer
from tilth.errors import SettingsError
from tilth.losses.surrogate_inputs import Inputs
from tilth.seeding import derive_seed, seed_everything

__all__ = [
    "SHARED_SOURCES",
    "Batch",
    "Batches",
    "Finished",
    "LossOfStep",
    "Places",
    "Pretraining",
    "ResultFile",
    "Task",
    "checkpoints",
    "digest_of",
    "trained",
]

SHARED_SOURCES = [
    Path(__file__).resolve().with_name(f"metric_loss_{part}.py")
    for part in ("metrics", "peers", "sounds", "tasks")
]
"""The files that what is kept of any task follows from, beside its own."""

Batch = dict[str, Tensor]
LossOfStep = Callable[[nn.Module, Batch, int], Tensor]
"""Loss of a network on a batch, at a step of the run."""


class Batches(Protocol):
    """Training batches of a seed."""

    def batch(self, step: int) -> Batch:
        """Batch of this number: the same whenever it is asked for."""
        ...


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a task finds what it needs.

    Attributes:
        data: the folder that has ``label-noise/mnist.npz``.
        work: for weights and decoded sounds, which later calls take up again.
        speech: a folder of WAV files; None where there is none.
        peers: a Python that has the reference libraries of the metrics; None where there is none.
    """

    data: Path
    work: Path
    speech: Path | None = None
    peers: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One slow metric and a network that is to be good by it.

    Attributes:
        name: in claims.
        title, definition: the metric and the data, in words.
        unit: of the metric.
        train_batches: of a seed.
        checkpoints: the networks that a seed's pretraining passed through, earliest first; the last
            one is where every arm starts.
        outputs: prediction [n, ...] and target [n, ...], as the metric takes them, each example
            along the first axis; differentiable.
        proxy: the ordinary loss, a scalar.
        metric: of one example's prediction and target.
        goal: whether the metric is to fall or to rise.
        limits: the range of the metric.
        inputs: how a network that predicts the metric sees prediction and target.
        evaluate: the metric and others, each a mean over the fixed test examples.
        digest: of all that the starting weights follow from.
        steps, learning_rate, batch_size: of every arm.
    """

    name: str
    title: str
    definition: str
    unit: str
    train_batches: Callable[[int], Batches]
    checkpoints: Callable[[int], list[nn.Module]]
    outputs: Callable[[nn.Module, Batch], tuple[Float[Tensor, "n ..."], Tensor]]
    proxy: Callable[[nn.Module, Batch], Float[Tensor, ""]]
    metric: Callable[[NDArray[Any], NDArray[Any]], float]
    goal: Literal["lower", "higher"]
    limits: tuple[float, float]
    inputs: str | Inputs
    evaluate: Callable[[nn.Module], dict[str, float]]
    digest: str = ""
    steps: int = 240
    learning_rate: float = 5e-4
    batch_size: int = 32

    def __post_init__(self) -> None:
        low, high = self.limits
        if not low < high:
            raise SettingsError("a metric's limits are low and high", got=str(self.limits))

    def network(self, seed: int) -> nn.Module:
        """The network that every arm of this seed starts from."""
        return self.checkpoints(seed)[-1]

    def scores(self, prediction: Tensor, target: Tensor) -> Float[NDArray[np.float64], "n"]:
        """The metric of each example."""
        pairs = zip(prediction.detach().numpy(), target.numpy(), strict=True)
        return np.array([self.metric(one, truth) for one, truth in pairs])


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How the starting weights come about.

    Attributes:
        kept: after which steps the network is kept; the last is the end.
        end_rate: to which the rate falls, evenly, over the second half; None where it stays.
    """

    kept: tuple[int, ...]
    learning_rate: float
    end_rate: float | None = None

    def __post_init__(self) -> None:
        if not self.kept or sorted(set(self.kept)) != list(self.kept):
            raise SettingsError("pretraining keeps networks at rising steps", got=str(self.kept))

    def rate(self, step: int) -> float:
        """The learning rate of a step, the first of which is 1."""
        end = self.learning_rate if self.end_rate is None else self.end_rate
        passed = min(max(2 * step / self.kept[-1] - 1, 0.0), 1.0)
        return self.learning_rate + passed * (end - self.learning_rate)


def checkpoints(
    name: str,
    build: Callable[[], nn.Module],
    batches: Batches,
    proxy: Callable[[nn.Module, Batch], Tensor],
    pretraining: Pretraining,
    *,
    seed: int,
    work: Path,
    digest: str,
) -> list[nn.Module]:
    """The networks of a pretraining, from the work folder where an earlier call has kept them.

    Args:
        batches: are asked for numbers below 0, so that the arms' batches are others.
        digest: of all that the weights follow from.
    """
    file = work / "pretrained" / f"{name}-{seed}-{digest}.safetensors"
    if not file.is_file():
        kept = _pretrained(build, batches, proxy, pretraining, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(file) as stream:
            stream.write(save({f"{at}/{k}": v for at, state in kept.items() for k, v in state}))
    stored = load(file.read_bytes())
    return [_with_weights(build(), stored, f"{at}/") for at in pretraining.kept]


@torch.enable_grad()
def _pretrained(
    build: Callable[[], nn.Module],
    batches: Batches,
    proxy: Callable[[nn.Module, Batch], Tensor],
    pretraining: Pretraining,
    seed: int,
) -> dict[int, list[tuple[str, Tensor]]]:
    seed_everything(derive_seed(seed, "weights"))
    model = build().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=pretraining.learning_rate)
    kept = {}
    for step in range(1, pretraining.kept[-1] + 1):
        optimiser.param_groups[0]["lr"] = pretraining.rate(step)
        _advance(model, optimiser, proxy(model, batches.batch(-step)))
        if step in pretraining.kept:
            kept[step] = [(k, v.clone()) for k, v in model.state_dict().items()]
    return kept


def _with_weights(model: nn.Module, stored: Mapping[str, Tensor], prefix: str) -> nn.Module:
    weights = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    model.load_state_dict(weights)
    return model


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run of an arm gave.

    Attributes:
        before, after: the metric and the others on the test examples.
        step_seconds: processor time of each step, loss and its upkeep included, in the mean.
        seconds: processor time of all steps, of this process and of those that it started.
        metric_calls: how often the true metric was asked while training.
        more: what the arm itself has to tell.
    """

    before: dict[str, float]
    after: dict[str, float]
    step_seconds: float
    seconds: float
    metric_calls: int = 0
    more: dict[str, Any] = field(default_factory=dict)


def trained(
    task: Task,
    loss: LossOfStep,
    *,
    seed: int,
    stepped: Callable[[int, nn.Module], None] = lambda step, model: None,
) -> tuple[nn.Module, Finished]:
    """The task's network after ``task.steps`` steps of this loss.

    Args:
        stepped: is told of every finished step.
    """
    torch.manual_seed(derive_seed(seed, "arm"))
    model, batches = deepcopy(task.network(seed)), task.train_batches(seed)
    before = task.evaluate(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=task.learning_rate)
    seconds = 0.0
    for step in range(task.steps):
        # To nothing at the end: at a constant rate the last step decides by chance.
        optimiser.param_groups[0]["lr"] = task.learning_rate * (1 - step / task.steps)
        batch = batches.batch(step)
        start = time.process_time()
        model.train()
        _advance(model, optimiser, loss(model, batch, step))
        seconds += time.process_time() - start
        stepped(step + 1, model)
    after = task.evaluate(model)
    done = Finished(before=before, after=after, step_seconds=seconds / task.steps, seconds=seconds)
    return model, done


def _advance(model: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    # One odd batch of a recurrent network must not decide an arm.
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()


def digest_of(files: Sequence[Path], *parts: object) -> str:
    """Of files' bytes and of settings: what was made of others is not taken up again."""
    found = hashlib.sha256(repr(parts).encode())
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


class ResultFile:
    """One JSON line a finished run, under a key and the digest of the sources it follows from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, digest: Callable[[tuple[str, ...]], str]) -> dict[tuple[str, ...], Finished]:
        """Key -> result; a line counts while its digest is the one that its key has now."""
        found: dict[tuple[str, ...], Finished] = {}
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        for line in lines:
            entry = json.loads(line)
            key = tuple(entry["key"])
            if entry["digest"] == digest(key):
                found[key] = Finished(**entry["result"])
        return found

    def add(self, key: tuple[str, ...], result: Finished, *, digest: str) -> None:
        """Write the file anew with this line behind the others."""
        entry = {"key": key, "digest": digest, "result": asdict(result)}
        before = self.path.read_bytes() if self.path.is_file() else b""
        with atomic_writer(self.path) as stream:
            stream.write(before + json.dumps(entry).encode() + b"\n")
