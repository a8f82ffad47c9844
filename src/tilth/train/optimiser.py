"""Optimisers by name, with weight decay on kernels and matrices only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

__all__ = ["OPTIMISERS", "build_optimiser", "parameter_groups"]


def _sgd(groups: list[dict[str, Any]], learning_rate: float, momentum: float) -> Optimizer:
    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum)


def _adamw(groups: list[dict[str, Any]], learning_rate: float, momentum: float) -> Optimizer:
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(momentum, 0.999))


OPTIMISERS: dict[str, Callable[[list[dict[str, Any]], float, float], Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
}


def build_optimiser(
    model: nn.Module, *, name: str, learning_rate: float, momentum: float, weight_decay: float
) -> Optimizer:
    """The optimiser ``name`` of `OPTIMISERS` over the trainable parameters of ``model``.

    Args:
        learning_rate: the peak; the loop sets that of each step.
        momentum: of SGD, or the first beta of AdamW.
        weight_decay: for parameters with two or more axes; see `parameter_groups`.
    """
    return OPTIMISERS[name](parameter_groups(model, weight_decay), learning_rate, momentum)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: kernels and matrices with decay; scales, shifts and biases without.

    Darknet decays the weights of convolutions alone (`src/convolutional_layer.c`). Pulling the
    scale of a normalisation to zero changes what the layer computes, pulling the kernel before it
    does not; the number of axes tells the two apart without naming a layer.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
