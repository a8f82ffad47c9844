"""Optimisers by name, with weight decay on kernels and matrices only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

__all__ = ["OPTIMISERS", "add_l1_gradient", "build_optimiser", "parameter_groups"]


def _sgd(
    groups: list[dict[str, Any]], learning_rate: float, momentum: float, nesterov: bool
) -> Optimizer:
    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=nesterov)


def _adamw(
    groups: list[dict[str, Any]], learning_rate: float, momentum: float, nesterov: bool
) -> Optimizer:
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(momentum, 0.999))


def _adam(
    groups: list[dict[str, Any]], learning_rate: float, momentum: float, nesterov: bool
) -> Optimizer:
    return torch.optim.Adam(groups, lr=learning_rate, betas=(momentum, 0.999))


def _rmsprop(
    groups: list[dict[str, Any]], learning_rate: float, momentum: float, nesterov: bool
) -> Optimizer:
    return torch.optim.RMSprop(groups, lr=learning_rate, alpha=0.9, momentum=momentum)


OPTIMISERS: dict[str, Callable[[list[dict[str, Any]], float, float, bool], Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "adam": _adam,
    "rmsprop": _rmsprop,
}


def build_optimiser(
    model: nn.Module,
    *,
    name: str,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool = False,
) -> Optimizer:
    """The optimiser ``name`` of `OPTIMISERS` over the trainable parameters of ``model``.

    Args:
        learning_rate: the peak; the loop sets that of each step.
        momentum: of SGD and RMSprop, or the first beta of Adam and AdamW.
        weight_decay: for parameters with two or more axes; see `parameter_groups`.
        nesterov: of SGD; the others have no use for it.
    """
    groups = parameter_groups(model, weight_decay)
    return OPTIMISERS[name](groups, learning_rate, momentum, nesterov)


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


@torch.no_grad()
def add_l1_gradient(model: nn.Module, strength: float) -> None:
    """Add the gradient of ``strength * sum(|w|)`` over kernels and matrices that have a gradient.

    It pulls weights that the loss does not hold to zero itself, where weight decay only makes them
    small; that is what tells a pruner which channels can go.
    """
    pulled = [p for p in model.parameters() if p.grad is not None and p.ndim >= 2]
    for parameter in pulled:
        assert parameter.grad is not None
        parameter.grad.add_(parameter.sign(), alpha=strength)
