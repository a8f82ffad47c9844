"""A run that has been started or picked up again: everything the loop needs, ready to use.

Devices, mixed precision and several processes are accelerate's work; this file hands it the parts
and keeps what must survive a kill.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
)
from torch import Tensor, nn

from tilth.errors import SettingsError, TrainingError
from tilth.seeding import derive_seed
from tilth.train.checkpoint import (
    newest_checkpoint,
    restore,
    save_checkpoint,
    save_weights,
    versions,
)
from tilth.train.early_stopping import Patience
from tilth.train.ema import MovingAverage
from tilth.train.freezing import Freezing
from tilth.train.loop_settings import LoopSettings
from tilth.train.memory import out_of_memory_explained
from tilth.train.mlflow_tracker import MlflowTracker
from tilth.train.optimiser import add_l1_gradient, build_optimiser
from tilth.train.prefetch import prefetched
from tilth.train.processes import from_main, lost_processes_explained, share_cores
from tilth.train.run_folder import RunFolder
from tilth.train.run_lock import run_lock
from tilth.train.throughput import Throughput
from tilth.train.trackers import JsonLines, TensorBoard, Tracker

__all__ = ["Batches", "Run", "RunProgress", "start_run"]


class Batches(Protocol):
    """Anything with a ``batch`` of a number; the loop asks for 0, 1, 2, ... and may ask again.

    The batch is a dictionary of tensors, samples along the first axis of the first one; an entry
    ``names`` (strings) is quoted when the loss is not finite. An attribute ``identity`` (nested
    plain values), where there is one, says what the data is and is compared on resume.
    """

    def batch(self, step: int) -> Mapping[str, Any]:
        """A pure function of ``step`` and of the seed that the object was made with."""
        ...


@dataclass(kw_only=True)
class RunProgress:
    """How far a run has come; part of every checkpoint.

    Attributes:
        loss: the terms of the last line of metrics.
        sums, summed: the terms of the steps since that line, added up, and how many those are.
        patience: see `Patience`.
    """

    step: int = 0
    seconds: float = 0.0
    loss: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0
    evaluation: dict[str, float] = field(default_factory=dict)
    best_score: float | None = None
    best_step: int | None = None
    patience: Patience = field(default_factory=Patience)


@runtime_checkable
class Remembers(Protocol):
    """A loss with a state of its own, which checkpoints hold: tensors and plain values."""

    def state_dict(self) -> Mapping[str, Any]:
        """All that it needs to go on."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Take it up again."""
        ...


class _Forward(nn.Module):
    """What the loss calls. accelerate replaces ``forward`` of the module that it is given; this
    wrapper takes that, so that the caller's model comes out of training as it went in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.network(*inputs, **options)


@dataclass(kw_only=True)
class Run:
    """The parts of one training run; made by `start_run`.

    Attributes:
        model: the caller's module, on the device: weights are read from here.
        trained: what the loss calls: the model under mixed precision and, with several
            processes, under DistributedDataParallel.
        average: the moving average of the weights, or None.
        freezing: which weights are not trained at the current step.
        resumed_from: the step of the checkpoint that was picked up, 0 for a fresh run.
        loss: where it has a state of its own; None otherwise.
        held: the lock of the folder, in the main process; `close` lets it go.
    """

    settings: LoopSettings
    folder: RunFolder
    accelerator: Accelerator
    model: nn.Module
    trained: nn.Module
    optimiser: AcceleratedOptimizer
    average: MovingAverage | None
    freezing: Freezing
    progress: RunProgress
    resumed_from: int
    loss: Remembers | None = None
    held: ExitStack = field(default_factory=ExitStack)
    throughput: Throughput = field(default_factory=Throughput)

    def __post_init__(self) -> None:
        self._started = time.perf_counter() - self.progress.seconds
        self._batch_size = 0
        self._names: list[str] = []
        self._trackers: list[Tracker] = []
        if self.is_main and not self.is_over:
            self._trackers = _trackers(self.settings, self.folder, self.progress.step)
        if not self.is_over:
            self.freezing.apply(self.progress.step)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.accelerator.is_main_process

    @property
    def is_over(self) -> bool:
        """Whether the last step is done, or patience has come to its end."""
        is_done = self.progress.step >= self.settings.steps
        return is_done or self.progress.patience.is_over(self.settings.patience)

    @property
    def deployed(self) -> nn.Module:
        """The weights to evaluate and keep: the moving average where there is one."""
        return self.model if self.average is None else self.average.model

    def batches(self, source: Batches) -> Generator[dict[str, Any], None, None]:
        """The batches of this process from the current step on, on the device."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        first = self.progress.step * self.settings.accumulate
        last = self.settings.steps * self.settings.accumulate
        numbers = (number * processes + rank for number in range(first, last))
        made = prefetched(source.batch, numbers, workers=self.settings.workers)
        for _, batch in self.throughput.waiting(made):
            placed = {name: self._placed(value) for name, value in batch.items()}
            self._batch_size = _num_samples(placed)
            self._names.extend(map(str, batch.get("names", ())))
            self.throughput.count(self._batch_size * processes)
            yield placed

    def begin_step(self) -> None:
        """Make every global random draw of this step a function of seed, step and process.

        By generator: `torch.manual_seed` would also queue the seed of devices that are not there,
        at half a millisecond a step.
        """
        rank = self.accelerator.process_index
        seed = derive_seed(self.settings.seed, "step", self.progress.step, rank)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        if self.accelerator.device.type != "cpu":
            torch.get_device_module(self.accelerator.device).manual_seed(seed)
        self._names.clear()
        if self.progress.step and self.progress.step == self.settings.freeze.until_step:
            self.freezing.apply(self.progress.step)

    @contextmanager
    def failures_explained(self) -> Iterator[None]:
        """Turn what can go wrong within a step into errors that say what to do.

        Raises:
            TrainingError: the memory ran out, or another process has gone.
        """
        with (
            lost_processes_explained(),
            out_of_memory_explained(self.progress.step, lambda: self._batch_size),
        ):
            yield

    def prepared_gradient(self) -> float:
        """Clip the gradient and add that of the L1 penalty; the norm that it had before.

        Raises:
            TrainingError: the norm is not finite. Under fp16 that is ordinary: accelerate's loss
                scaler skips the step and halves the scale.
        """
        limit = self.settings.clip_norm or float("inf")  # without clipping, still measured
        norm = float(self.accelerator.clip_grad_norm_(self.trained.parameters(), limit))
        if not math.isfinite(norm) and self.settings.precision != "fp16":
            raise self._broken_gradient(norm)
        if self.settings.l1:
            add_l1_gradient(self.model, self.settings.l1)
        return norm

    def end_step(self, means: Mapping[str, float]) -> None:
        """Follow the step with the moving average, and remember its loss terms."""
        progress = self.progress
        if self.average is not None:
            self.average.update(progress.step)
        progress.step += 1
        progress.summed += 1
        for name, value in means.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value

    def log(self, rates: Mapping[str, float]) -> dict[str, float]:
        """Write the mean loss since the last line; the speed since then."""
        progress, speed = self.progress, self.throughput.read()
        means = {name: value / progress.summed for name, value in progress.sums.items()}
        progress.loss = self.mean_over_processes(means)
        progress.sums, progress.summed = {}, 0
        self.write({"loss": progress.loss, **rates, **speed})
        return speed

    def write(self, values: Mapping[str, Any]) -> None:
        """Write one record of the current step to every tracker."""
        for tracker in self._trackers:
            tracker.write(self.progress.step, values)

    def mean_over_processes(self, terms: Mapping[str, float]) -> dict[str, float]:
        """The loss terms over the batches of all processes; each of them must call this."""
        if self.accelerator.num_processes == 1:
            return dict(terms)
        values = torch.tensor(list(terms.values()), device=self.accelerator.device)
        mean: Tensor = self.accelerator.reduce(values, reduction="mean")
        return dict(zip(terms, mean.tolist(), strict=True))

    def note_evaluation(self, numbers: Mapping[str, float]) -> None:
        """Record an evaluation, and keep the weights when its ``score`` is the best so far.

        All processes go by the numbers of the first one: they must agree on when to end.
        """
        numbers = from_main(dict(numbers))
        self.freezing.apply(self.progress.step)  # the evaluation may have changed modes
        if "score" not in numbers:
            raise TrainingError(
                "the evaluation names no score, so the best weights cannot be chosen",
                expected="a 'score' entry, higher is better",
                got=", ".join(numbers) or "nothing",
            )
        progress = self.progress
        progress.evaluation = {name: float(value) for name, value in numbers.items()}
        self.write({"evaluation": progress.evaluation})
        score = progress.evaluation["score"]
        if progress.best_score is None or score > progress.best_score:
            progress.best_score, progress.best_step = score, progress.step
            if self.is_main:
                save_weights(self.folder.best_weights, self.deployed)
        progress.patience.note(score, self.settings.min_delta)

    def save(self) -> None:
        """Write a checkpoint of the current step; at the last step the final weights before it."""
        self.progress.seconds = time.perf_counter() - self._started
        if self.is_main:
            for tracker in self._trackers:
                tracker.sync()  # the log is never behind the checkpoint
            if self.is_over:
                save_weights(self.folder.last_weights, self.deployed)
            scaler = self.accelerator.scaler
            save_checkpoint(
                self.folder.checkpoints,
                step=self.progress.step,
                run=self.folder.digest,
                models=_models(self.model, self.average),
                state={
                    "optimiser": self.optimiser.state_dict(),
                    "scaler": scaler.state_dict() if scaler else {},
                    **({"loss": self.loss.state_dict()} if self.loss is not None else {}),
                },
                progress=asdict(self.progress),
            )
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Close the trackers, and let another process have the folder."""
        self.freezing.release()
        with self.held:
            for tracker in self._trackers:
                tracker.close()

    def _broken_gradient(self, norm: float) -> TrainingError:
        of_model = self.model.named_parameters()
        broken = [n for n, p in of_model if p.grad is not None and not p.grad.isfinite().all()]
        names = ", ".join(self._names)
        return TrainingError(
            "the gradient is not finite although the loss is",
            where=f"step {self.progress.step}" + (f", batch of {names}" if names else ""),
            got=f"gradient norm {norm}" + (f", of {broken[0]} first" if broken else ""),
            fix="lower learning_rate, or look for a square root or division at zero; check the "
            "labels of these pictures. The last checkpoint holds the weights from before",
        )

    def _placed(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if self.settings.channels_last and value.ndim == 4:
            return value.to(
                self.accelerator.device, non_blocking=True, memory_format=torch.channels_last
            )
        return value.to(self.accelerator.device, non_blocking=True)


def start_run(
    model: nn.Module,
    batches: Batches,
    *,
    settings: LoopSettings,
    run_dir: Path,
    extend: bool,
    loss: object = None,
) -> Run:
    """Begin a run in ``run_dir``, or pick up the one that lies there at its last checkpoint.

    Args:
        loss: what has a state of its own (`Remembers`) is picked up too.

    Raises:
        TrainingError: the folder holds another run, its checkpoints are damaged, or another process
            is training in it.
        SettingsError: the device cannot do what the settings ask for.
    """
    accelerator = _accelerator(settings)
    with ExitStack() as held:  # an error lets the folder go
        if accelerator.is_main_process:
            held.enter_context(run_lock(run_dir))
        remembers = loss if isinstance(loss, Remembers) else None
        run = _picked_up(
            model, batches, accelerator, settings, run_dir, extend=extend, loss=remembers
        )
        run.held = held.pop_all()
    return run


def _picked_up(
    model: nn.Module,
    batches: Batches,
    accelerator: Accelerator,
    settings: LoopSettings,
    run_dir: Path,
    *,
    extend: bool,
    loss: Remembers | None,
) -> Run:
    folder = RunFolder(run_dir, _identity(model, batches, settings, accelerator.num_processes))
    folder.check(extend=extend)
    checkpoint = newest_checkpoint(folder.checkpoints, run=folder.digest)
    accelerator.wait_for_everyone()  # nobody writes before everybody has looked
    if accelerator.is_main_process:
        folder.claim(versions())

    share_cores(settings.threads)
    if settings.sync_batch_norm and accelerator.num_processes > 1:
        _refuse_sync_on_cpu(accelerator)
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    layout = torch.channels_last if settings.channels_last else torch.preserve_format
    model.to(accelerator.device).to(memory_format=layout).train()  # type: ignore[call-overload]
    average = None
    if settings.ema_decay:
        average = MovingAverage(model, settings.ema_decay, ramp=settings.ema_ramp)
    optimiser = build_optimiser(
        model,
        name=settings.optimiser,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
    )
    progress = RunProgress()
    if checkpoint is not None:
        state = restore(checkpoint, _models(model, average))
        optimiser.load_state_dict(state["optimiser"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        if loss is not None and "loss" in state:
            loss.load_state_dict(state["loss"])
        patience = Patience(**checkpoint.progress.pop("patience", {}))
        progress = RunProgress(**checkpoint.progress, patience=patience)
        if extend and patience.is_over(settings.patience):
            progress.patience = Patience()  # who asks for more has patience again
    # The optimiser knows all parameters from the start; those without a gradient it leaves alone.
    freezing = Freezing(model, settings.freeze)
    if not settings.freeze.until_step:
        # What is let go later must be known to DistributedDataParallel, or it is never averaged;
        # what never is must not be.
        freezing.apply(progress.step)
    trained, prepared = accelerator.prepare(_Forward(model), optimiser)
    return Run(
        settings=settings,
        folder=folder,
        accelerator=accelerator,
        model=model,
        trained=trained,
        optimiser=prepared,
        average=average,
        freezing=freezing,
        progress=progress,
        resumed_from=progress.step,
        loss=loss,
    )


def _accelerator(settings: LoopSettings) -> Accelerator:
    # accelerate keeps one state a process; a second run in it may use another precision or device.
    AcceleratorState._reset_state(reset_partial_state="LOCAL_RANK" not in os.environ)
    try:
        accelerator = Accelerator(
            cpu=settings.device == "cpu",
            mixed_precision=settings.precision,
            # Given explicitly, because `accelerate launch` may set another number: the loop
            # accumulates by itself.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=timedelta(seconds=settings.timeout)),
                # Parameters that are let go later are unused until then.
                DistributedDataParallelKwargs(
                    find_unused_parameters=settings.freeze.until_step > 0
                ),
            ],
        )
    except ValueError as error:  # bf16 on a device without it
        raise SettingsError("setting 'precision' cannot be used here", got=str(error)) from error
    kind = accelerator.device.type
    if settings.device == "cuda" and kind != "cuda":
        raise SettingsError("there is no CUDA device", expected="device = 'auto' or 'cpu'")
    if settings.precision == "fp16" and kind == "cpu":
        raise SettingsError(
            "fp16 needs a GPU", expected="precision = 'bf16' or 'no' on a CPU", got="fp16 on a CPU"
        )
    return accelerator


def _refuse_sync_on_cpu(accelerator: Accelerator) -> None:
    if accelerator.device.type == "cpu":
        raise SettingsError(
            "batch statistics over several processes need GPUs: torch has them for no CPU",
            expected="sync_batch_norm = false on a CPU",
            got="sync_batch_norm = true",
        )


def _trackers(settings: LoopSettings, folder: RunFolder, step: int) -> list[Tracker]:
    trackers: list[Tracker] = [JsonLines(folder.metrics, step=step)]
    if settings.tensorboard:
        trackers.append(TensorBoard(folder.tensorboard, step=step))
    if settings.mlflow:
        trackers.append(MlflowTracker(settings.mlflow, folder))
    return trackers


def _identity(
    model: nn.Module, batches: Batches, settings: LoopSettings, num_processes: int
) -> dict[str, Any]:
    return {
        "settings": asdict(settings),
        "data": dict(getattr(batches, "identity", {})),
        "model": {name: list(value.shape) for name, value in model.state_dict().items()},
        "num_processes": num_processes,
    }


def _models(model: nn.Module, average: MovingAverage | None) -> dict[str, nn.Module]:
    return {"model": model} if average is None else {"model": model, "average": average.model}


def _num_samples(batch: Mapping[str, Any]) -> int:
    return next((len(value) for value in batch.values() if isinstance(value, Tensor)), 0)
