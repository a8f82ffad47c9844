"""Metrics for tests, in a module of their own so that other processes can import them."""

from __future__ import annotations

import os
import time

import numpy as np
import torch
from torch import nn


def largest_error(prediction, target):
    """Of the values of one example."""
    return float(np.abs(prediction - target).max())


def differences(prediction, target):
    """Features [n, d] of tensors, for models that were told nothing else."""
    return prediction - target


def squared_error(prediction, target):
    return float(np.square(prediction - target).mean())


def one_sided(prediction, target):
    """Five times as dear above the target as below it."""
    error = prediction - target
    return float(np.where(error > 0, 5 * error, -error).mean())


def cost_of_class(prediction, target):
    """What the likeliest class costs where ``target`` is true: 3 for a missed class 2, else 1."""
    likeliest = int(prediction.argmax())
    return 0.0 if likeliest == int(target) else 3.0 if int(target) == 2 else 1.0


def slow(prediction, target):
    time.sleep(0.005)
    return largest_error(prediction, target)


def broken(prediction, target):
    raise ValueError("no such thing as speech here")


def never(prediction, target):
    return float("nan")


def sometimes(prediction, target):
    """NaN for every example whose first value is above 0.8."""
    return float("nan") if prediction.flat[0] > 0.8 else largest_error(prediction, target)


def careless(prediction, target):
    """Changes what it is given."""
    prediction -= target
    return float(np.abs(prediction).max())


def constant(prediction, target):
    return 1.0


def dies(prediction, target):
    os._exit(3)


class Points:
    """Rows x [n, 4] with targets that a network of one layer can nearly reach."""

    def __init__(self, size: int = 16) -> None:
        self.size = size

    def batch(self, step):
        draws = torch.Generator().manual_seed(step)
        x = torch.rand(self.size, 4, generator=draws)
        return {"x": x, "y": torch.stack([x[:, 0] * x[:, 1], x[:, 2].square()], dim=1)}


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 2))


def outputs(model, batch):
    return model(batch["x"]), batch["y"]


def mean_squares(model, batch):
    return {"total": (model(batch["x"]) - batch["y"]).square().mean()}
