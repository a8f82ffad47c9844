"""The training loop, on one screen.

Everything random or scheduled is a function of the step: the batch, the learning rate, the dropout
mask. A run that is killed and started again therefore needs no sampler and no generator state: it
loads weights and optimiser and goes on with the next step (docs/decisions/0004).

How many threads torch may use is the caller's business (`torch.set_num_threads`, OMP_NUM_THREADS).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tilth.errors import TrainingError
from tilth.train.loop_settings import LoopSettings
from tilth.train.progress_bar import training_bar
from tilth.train.run import Batches, Run, start_run
from tilth.train.schedule import learning_rate_factor

__all__ = ["Evaluate", "FitResult", "LoopSettings", "Loss", "fit"]

Loss = Callable[[nn.Module, Mapping[str, Any]], Mapping[str, Tensor]]
Evaluate = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a run ended.

    Attributes:
        steps: optimiser steps done.
        seconds: of training and evaluation, over all sessions that the run took.
        resumed_from: the step at which this call picked the run up; 0 for a fresh one.
        loss: the terms of the last line of metrics: the mean over up to ``log_every`` steps.
        evaluation: the numbers of the last evaluation; empty without one.
        best_score, best_step: of the best evaluation, None without one.
        best_weights: file of the weights that scored best; the last ones without an evaluation.
        last_weights: file of the weights after the last step.
        metrics: the JSON lines.
        run_dir: the folder that holds all of it.
        stopped_early: the run ended before its last step, for want of a gain (``patience``).
    """

    steps: int
    seconds: float
    resumed_from: int
    loss: dict[str, float]
    evaluation: dict[str, float]
    best_score: float | None
    best_step: int | None
    best_weights: Path
    last_weights: Path
    metrics: Path
    run_dir: Path
    stopped_early: bool = False


def fit(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    settings: LoopSettings,
    run_dir: Path,
    evaluate: Evaluate | None = None,
    progress: bool = True,
    extend: bool = False,
) -> FitResult:
    """Train ``model``, or go on where an earlier call with the same arguments was stopped.

    A finished run is left as it is; its weights are loaded and its result is returned. Afterwards
    ``model`` holds the weights of the last step; `FitResult.best_weights` names the file of those
    to use (their moving average with ``ema_decay``), which `checkpoint.load_weights` loads.

    Under torchrun, process r of w trains on batches r, w + r, 2w + r, ... and gradients are
    averaged: w processes with batches of b images equal one with batches of w * b.

    Args:
        model: any module; moved to the device in place.
        loss: ``loss(model, batch)`` gives scalar terms, ``total`` among them, and must run the
            module that it is given by calling it, not by its attributes. One with ``state_dict``
            and ``load_state_dict`` is kept in checkpoints.
        batches: ``batches.batch(number)``, a pure function; see `Batches`.
        evaluate: gives numbers, ``score`` (higher is better) among them, for a module in eval
            mode and float32. Called in every process, so that it can share the work out
            (`tilth.train.processes`); the first one's numbers count.
        progress: show a bar.
        extend: accept more ``steps`` than the run had before, also after it has lost patience. A
            cosine depends on the number of steps, so the result is not that of a longer run from
            the start; with ``schedule="constant"`` it is, bit for bit.

    Raises:
        TrainingError: a term or gradient that is not finite, memory that ran out, a process that
            has gone, or a folder that holds another run.
        StorageError: the disk is full; earlier checkpoints are intact.

    >>> import tempfile
    >>> class Points:
    ...     def batch(self, step):
    ...         x = torch.rand(8, 1, generator=torch.Generator().manual_seed(step))
    ...         return {"x": x, "y": 2 * x}
    >>> def squared(model, batch):
    ...     return {"total": (model(batch["x"]) - batch["y"]).square().mean()}
    >>> settings = LoopSettings(steps=50, learning_rate=0.1, weight_decay=0.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = fit(nn.Linear(1, 1), squared, Points(),
    ...                settings=settings, run_dir=Path(folder), progress=False)
    >>> done.loss["total"] < 0.05
    True
    """
    run = start_run(model, batches, settings=settings, run_dir=run_dir, extend=extend, loss=loss)
    bar = training_bar(run.progress.step, settings.steps, visible=progress and run.is_main)
    with closing(run), closing(run.batches(batches)) as stream, bar as show:
        while not run.is_over:
            step = run.progress.step
            with run.failures_explained():
                run.begin_step()
                learning_rate = _set_learning_rate(run.optimiser, step, settings)
                means = _gradient(run, loss, stream)
                norm = run.prepared_gradient()
                run.optimiser.step()
                run.optimiser.zero_grad()
                run.end_step(means)
                if evaluate is not None and (run.is_over or _due(step, settings.evaluate_every)):
                    with run.throughput.paused():
                        run.note_evaluation(_evaluated(run, evaluate))
            speed: Mapping[str, float] = {}
            if run.is_over or _due(step, settings.log_every):
                speed = run.log({"learning_rate": learning_rate, "gradient_norm": norm})
            if run.is_over or _due(step, settings.checkpoint_every):
                with run.throughput.paused():
                    run.save()
            show(step + 1, means["total"], speed)
    return _result(run)


def _gradient(run: Run, loss: Loss, stream: Iterator[Mapping[str, Any]]) -> dict[str, float]:
    """Add up the gradient of one step; the loss terms, their mean over its batches."""
    step, accumulate = run.progress.step, run.settings.accumulate
    means: dict[str, float] = {}
    for number in range(accumulate):
        batch = next(stream)
        is_last = number == accumulate - 1
        with nullcontext() if is_last else run.accelerator.no_sync(run.trained):
            terms = loss(run.trained, batch)
            for name, value in _finite(terms, step, batch).items():
                means[name] = means.get(name, 0.0) + value / accumulate
            run.accelerator.backward(terms["total"] / accumulate)
    return means


def _set_learning_rate(optimiser: Optimizer, step: int, settings: LoopSettings) -> float:
    rate = settings.learning_rate * learning_rate_factor(
        step,
        steps=settings.steps,
        warmup_steps=settings.num_warmup_steps,
        final_fraction=settings.final_learning_rate_fraction,
        schedule=settings.schedule,
        warmup_power=settings.warmup_power,
        drops_at=settings.drops_at,
        drop_factor=settings.drop_factor,
    )
    for group in optimiser.param_groups:
        group["lr"] = rate
    return rate


def _finite(terms: Mapping[str, Tensor], step: int, batch: Mapping[str, Any]) -> dict[str, float]:
    """The loss terms as numbers, in one transfer from the device, or an error that says which."""
    if "total" not in terms:
        raise TrainingError(
            "the loss has no total", expected="a 'total' entry", got=", ".join(terms) or "nothing"
        )
    stacked = torch.stack([value.detach().float() for value in terms.values()])
    values = dict(zip(terms, stacked.tolist(), strict=True))
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        # A total that is broken only because a term is says nothing new.
        named = [name for name in broken if name != "total"] or broken
        names = ", ".join(map(str, batch.get("names", ())))
        raise TrainingError(
            f"the loss is not finite: {', '.join(named)}",
            where=f"step {step}" + (f", batch of {names}" if names else ""),
            got=", ".join(f"{name} = {value}" for name, value in values.items()),
            fix="lower learning_rate or warm up for longer; check the labels of these pictures. "
            "The last checkpoint holds the weights from before",
        )
    return values


def _due(step: int, every: int) -> bool:
    return every > 0 and (step + 1) % every == 0


def _evaluated(run: Run, evaluate: Evaluate) -> Mapping[str, float]:
    module = run.deployed
    with torch.no_grad():
        return evaluate(module.eval())


def _result(run: Run) -> FitResult:
    progress, folder = run.progress, run.folder
    is_scored = progress.best_step is not None
    return FitResult(
        steps=progress.step,
        seconds=progress.seconds,
        resumed_from=run.resumed_from,
        loss=progress.loss,
        evaluation=progress.evaluation,
        best_score=progress.best_score,
        best_step=progress.best_step,
        best_weights=folder.best_weights if is_scored else folder.last_weights,
        last_weights=folder.last_weights,
        metrics=folder.metrics,
        run_dir=folder.root,
        stopped_early=progress.step < run.settings.steps,
    )
