"""The settings of the training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tilth.errors import SettingsError

__all__ = ["LoopSettings"]


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How to train; every figure counts optimiser steps, not epochs.

    Attributes:
        steps: of the whole run.
        learning_rate: the peak, reached after ``warmup_steps``.
        optimiser: a name in `tilth.train.optimiser.OPTIMISERS`.
        momentum: of SGD, or the first beta of AdamW.
        weight_decay: on kernels and matrices; never on normalisations and biases.
        warmup_steps: linear rise to the peak; 0 starts at it.
        final_learning_rate_fraction: the cosine ends at this fraction of the peak; 1 is constant.
        clip_norm: the gradient's L2 norm is brought down to this; 0 does not clip.
        ema_decay: decay of the moving average of the weights; 0 keeps none.
        precision: of the model's forward pass. ``bf16`` halves the time of convolutions on CPUs
            that have it; ``fp16`` needs a GPU. Weights, loss and optimiser stay in float32.
        accumulate: batches whose gradients are averaged into one step.
        checkpoint_every: steps from one checkpoint to the next; at most this much is lost.
        log_every: steps from one line of metrics to the next.
        evaluate_every: steps from one evaluation to the next; 0 evaluates at the end only.
        seed: of dropout and everything else that is random inside a step.
        device: ``auto`` takes an accelerator where there is one.
        channels_last: keep images and convolution kernels in the order that CPUs and tensor cores
            work in. Switch it off for models of volumes.
        workers: threads that make batches ahead; 0 makes them in line.
        tensorboard: also write curves for TensorBoard.
    """

    steps: int = 1000
    learning_rate: float = 0.01
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0005
    warmup_steps: int = 0
    final_learning_rate_fraction: float = 0.01
    clip_norm: float = 10.0
    ema_decay: float = 0.999
    precision: Literal["no", "bf16", "fp16"] = "no"
    accumulate: int = 1
    checkpoint_every: int = 200
    log_every: int = 10
    evaluate_every: int = 0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    channels_last: bool = True
    workers: int = 1
    tensorboard: bool = False

    def __post_init__(self) -> None:
        at_least_one = ("steps", "accumulate", "checkpoint_every", "log_every")
        at_least_zero = ("weight_decay", "clip_norm", "evaluate_every", "workers")
        for name in at_least_one:
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in at_least_zero:
            self._require(name, getattr(self, name) >= 0, "0 or more")
        rate = self.learning_rate
        self._require("learning_rate", math.isfinite(rate) and rate > 0, "above 0")
        self._require("momentum", 0 <= self.momentum < 1, "0 or more, below 1")
        self._require("ema_decay", 0 <= self.ema_decay < 1, "0 or more, below 1")
        fraction = self.final_learning_rate_fraction
        self._require("final_learning_rate_fraction", 0 <= fraction <= 1, "0 to 1")
        within = 0 <= self.warmup_steps < self.steps
        self._require("warmup_steps", within, f"0 or more, fewer than the {self.steps} steps")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting '{name}' of the training loop cannot be used",
                expected=expected,
                got=str(getattr(self, name)),
            )
