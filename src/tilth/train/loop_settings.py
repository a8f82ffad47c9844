"""The settings of the training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from tilth.errors import SettingsError
from tilth.train.freeze_settings import FreezeSettings

__all__ = ["LoopSettings"]


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How to train; every figure counts optimiser steps, not epochs.

    Attributes:
        steps: of the whole run.
        learning_rate: the peak, reached after ``warmup_steps``.
        schedule: a name in `tilth.train.schedule.SCHEDULES`: what follows the warm-up.
        drops_at: of the schedule "steps", the shares of the run after which the rate drops.
        drop_factor: what each drop multiplies the rate by.
        optimiser: a name in `tilth.train.optimiser.OPTIMISERS`.
        momentum: of SGD and RMSprop, or the first beta of Adam and AdamW.
        nesterov: look ahead along the momentum; of SGD alone.
        weight_decay: on kernels and matrices; never on normalisations and biases.
        l1: strength of the pull of kernels towards zero by the sum of their absolute values, so
            that channels that are not needed can be pruned; 0 is none, 3e-5 a usual value.
        warmup_steps: rise to the peak over this many steps; 0 starts at it.
        warmup_fraction: the same as a share of the run, instead of ``warmup_steps``.
        warmup_power: of the rise: 1 is linear, 4 Darknet's burn-in.
        final_learning_rate_fraction: cosine and linear end at this fraction of the peak; 1 is
            constant.
        clip_norm: the gradient's L2 norm is brought down to this; 0 does not clip.
        ema_decay: decay of the moving average of the weights; 0 keeps none.
        ema_ramp: steps over which that decay is reached; see `tilth.train.ema.MovingAverage`.
        freeze: what is not trained, and for how long.
        patience: evaluations in a row without a gain in ``score`` after which the run ends; 0 goes
            on to the last step.
        min_delta: what counts as a gain; smaller ones still make the best weights.
        precision: of the model's forward pass. ``bf16`` halves the time of convolutions on CPUs
            that have it; ``fp16`` needs a GPU. Weights, loss and optimiser stay in float32.
        accumulate: batches whose gradients are averaged into one step.
        checkpoint_every: steps from one checkpoint to the next; at most this much is lost.
        log_every: steps from one line of metrics to the next; its loss is the mean over them.
        evaluate_every: steps from one evaluation to the next; 0 evaluates at the end only.
        seed: of dropout and everything else that is random inside a step.
        device: ``auto`` takes an accelerator where there is one.
        channels_last: keep images and convolution kernels in the order that CPUs and tensor cores
            work in. Switch it off for models of volumes.
        workers: threads that make batches ahead; 0 makes them in line.
        threads: of torch on the CPU, a process; 0 leaves them as they are, and gives each process
            of torchrun its share of the cores.
        sync_batch_norm: batch statistics over all processes; on GPUs alone.
        timeout: seconds that a process waits for the others before it gives up.
        tensorboard: also write curves for TensorBoard.
        mlflow: also log to the MLflow server or store of this address, for instance
            ``sqlite:///runs/mlflow.db``; "" does not.
    """

    steps: int = 1000
    learning_rate: float = 0.01
    schedule: Literal["cosine", "linear", "steps", "constant"] = "cosine"
    drops_at: tuple[float, ...] = (0.8, 0.9)
    drop_factor: float = 0.1
    optimiser: Literal["sgd", "adamw", "adam", "rmsprop"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0005
    l1: float = 0.0
    warmup_steps: int = 0
    warmup_fraction: float = 0.0
    warmup_power: float = 1.0
    final_learning_rate_fraction: float = 0.01
    clip_norm: float = 10.0
    ema_decay: float = 0.999
    ema_ramp: float = 0.0
    freeze: FreezeSettings = field(default_factory=FreezeSettings)
    patience: int = 0
    min_delta: float = 0.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    accumulate: int = 1
    checkpoint_every: int = 200
    log_every: int = 10
    evaluate_every: int = 0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    channels_last: bool = True
    workers: int = 1
    threads: int = 0
    sync_batch_norm: bool = False
    timeout: float = 1800.0
    tensorboard: bool = False
    mlflow: str = ""

    @property
    def num_warmup_steps(self) -> int:
        """Steps of the warm-up, however it was given."""
        return self.warmup_steps or int(self.warmup_fraction * self.steps)

    def __post_init__(self) -> None:
        at_least_one = ("steps", "accumulate", "checkpoint_every", "log_every")
        at_least_zero = (
            *("weight_decay", "clip_norm", "evaluate_every", "workers", "threads"),
            *("l1", "ema_ramp", "patience", "min_delta"),
        )
        above_zero = ("learning_rate", "warmup_power", "timeout")
        for name in at_least_one:
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in at_least_zero:
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in above_zero:
            value = getattr(self, name)
            self._require(name, math.isfinite(value) and value > 0, "above 0")
        self._require("momentum", 0 <= self.momentum < 1, "0 or more, below 1")
        self._require("ema_decay", 0 <= self.ema_decay < 1, "0 or more, below 1")
        fraction = self.final_learning_rate_fraction
        self._require("final_learning_rate_fraction", 0 <= fraction <= 1, "0 to 1")
        self._check_schedule()
        nesterov = not self.nesterov or (self.optimiser == "sgd" and self.momentum > 0)
        self._require("nesterov", nesterov, "optimiser 'sgd' with a momentum above 0")

    def _check_schedule(self) -> None:
        within = 0 <= self.warmup_steps < self.steps
        self._require("warmup_steps", within, f"0 or more, fewer than the {self.steps} steps")
        share = 0 <= self.warmup_fraction < 1 and not (self.warmup_steps and self.warmup_fraction)
        self._require("warmup_fraction", share, "0 or more, below 1, and no warmup_steps beside it")
        self._require("drop_factor", 0 < self.drop_factor <= 1, "above 0, at most 1")
        rising = list(self.drops_at) == sorted(self.drops_at)
        self._require(
            "drops_at",
            rising and all(0 < share < 1 for share in self.drops_at),
            "rising shares of the run, above 0 and below 1",
        )

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting '{name}' of the training loop cannot be used",
                expected=expected,
                got=str(getattr(self, name)),
            )
