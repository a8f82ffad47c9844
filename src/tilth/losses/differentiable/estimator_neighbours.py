"""Regression by the nearest neighbours, with a soft edge to the neighbourhood.

    weight of a fitted point = sigmoid((r - distance) / (T r))

where r lies half way between the last neighbour and the next: all neighbours count the same inside,
and for T -> 0 the outputs are those of scikit-learn.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.differentiable.exact_pieces import UnsupportedEstimatorError, as_float64
from tilth.losses.differentiable.kernel_functions import distances
from tilth.losses.differentiable.soft_trees import TEMPERATURE

__all__ = ["SoftNeighbours", "neighbours"]

POWERS = {"euclidean": 2.0, "l2": 2.0, "manhattan": 1.0, "cityblock": 1.0, "l1": 1.0}
SMALLEST = 1e-300


def neighbours(estimator: Any) -> nn.Module:
    """KNeighborsRegressor, of equal weights or of one over the distance."""
    kind = type(estimator).__name__
    if estimator.weights not in ("uniform", "distance", None):
        raise UnsupportedEstimatorError(kind, "its weights are a function")
    options = dict(estimator.effective_metric_params_ or {})
    metric = estimator.effective_metric_
    power = float(options.pop("p", 2)) if metric == "minkowski" else POWERS.get(metric)
    if power is None or any(value is not None for value in options.values()):
        raise UnsupportedEstimatorError(kind, f"distance {metric!r}")
    values = np.asarray(estimator._y, dtype=np.float64)
    return SoftNeighbours(
        points=as_float64(estimator._fit_X),
        values=as_float64(values.reshape(len(values), -1)),
        num_neighbours=int(estimator.n_neighbors),
        power=power,
        is_by_distance=estimator.weights == "distance",
    )


class SoftNeighbours(nn.Module):
    """The weighted mean of fitted values around an input: [n, d] -> [n, k].

    Attributes:
        temperature: width of the edge, as a share of the neighbourhood's radius.
    """

    points: Tensor
    values: Tensor

    def __init__(
        self,
        *,
        points: Float[Tensor, "m d"],
        values: Float[Tensor, "m k"],
        num_neighbours: int,
        power: float,
        is_by_distance: bool,
    ) -> None:
        super().__init__()
        self.temperature = TEMPERATURE
        self.num_neighbours, self.power = num_neighbours, power
        self.is_by_distance = is_by_distance
        self.register_buffer("points", points)
        self.register_buffer("values", values)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        distance = distances(x, self.points, power=self.power)
        weight = torch.ones_like(distance)
        if self.num_neighbours < self.points.shape[0]:
            nearest = distance.topk(self.num_neighbours + 1, dim=1, largest=False).values
            radius = nearest[:, -2:].mean(dim=1, keepdim=True)
            weight = torch.sigmoid((radius - distance) / (self.temperature * radius + SMALLEST))
        if self.is_by_distance:
            # Relative to the nearest, so that a fitted point itself has all the weight, not 1 / 0.
            least = distance.detach().amin(dim=1, keepdim=True)
            weight = weight * (least + SMALLEST) / (distance + SMALLEST)
        return weight @ self.values / weight.sum(dim=1, keepdim=True)
