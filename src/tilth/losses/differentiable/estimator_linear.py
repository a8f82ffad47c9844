"""Linear models of scikit-learn, with their links and the probabilities of their classifiers.

predict = link^-1(x W + b)
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.differentiable.exact_pieces import (
    Affine,
    Chain,
    Elementwise,
    UnsupportedEstimatorError,
    as_float64,
)

__all__ = [
    "chances_of_scores",
    "constant_predictor",
    "generalised_linear",
    "inverse_link",
    "linear_predictor",
    "logistic_probabilities",
    "partial_least_squares",
    "partial_least_squares_scores",
    "stochastic_probabilities",
]


def linear_predictor(estimator: Any) -> nn.Module:
    """Any model with ``coef_`` and ``intercept_``: [n, d] -> [n, k].

    A classifier's outputs are its decisions, one column for two classes.
    """
    weight = as_float64(estimator.coef_)
    weight = weight.reshape(1, -1) if weight.ndim == 1 else weight
    intercept = as_float64(getattr(estimator, "intercept_", 0.0)).reshape(-1)
    return Affine(weight.T.contiguous(), intercept.expand(weight.shape[0]).clone())


def partial_least_squares(estimator: Any) -> nn.Module:
    """PLS: the mean of the inputs is taken off first, (x - mean) W + b."""
    weight = as_float64(estimator.coef_).T.contiguous()
    return Affine(weight, as_float64(estimator.intercept_) - as_float64(estimator._x_mean) @ weight)


def partial_least_squares_scores(estimator: Any) -> nn.Module:
    """PLS as a step: ((x - mean) / std) R."""
    weight = as_float64(estimator.x_rotations_) / as_float64(estimator._x_std).unsqueeze(1)
    return Affine(weight, -as_float64(estimator._x_mean) @ weight)


def constant_predictor(estimator: Any) -> nn.Module:
    """DummyRegressor: the same number whatever comes in."""
    constant = as_float64(estimator.constant_).reshape(-1)
    return Affine(torch.zeros(_width(estimator), len(constant), dtype=torch.float64), constant)


def generalised_linear(estimator: Any) -> nn.Module:
    """Tweedie, Poisson and gamma regression: the inverse link of a linear model."""
    return Chain(linear_predictor(estimator), inverse_link(estimator._base_loss.link, estimator))


def inverse_link(link: Any, estimator: Any) -> nn.Module:
    """The link's way back, by the name of its class."""
    links: dict[str, Callable[[Tensor], Tensor]] = {
        "IdentityLink": torch.clone,
        "LogLink": torch.exp,
        "LogitLink": torch.sigmoid,
    }
    name = type(link).__name__
    if name not in links:
        raise UnsupportedEstimatorError(type(estimator).__name__, f"its link is a {name}")
    return Elementwise(links[name])


def logistic_probabilities(estimator: Any) -> nn.Module:
    """Logistic regression and discriminants: sigmoid for two classes, softmax for more."""
    return Chain(linear_predictor(estimator), Elementwise(chances_of_scores))


def chances_of_scores(scores: Float[Tensor, "n k"]) -> Float[Tensor, "n c"]:
    """One column is the score of the second of two classes; several are one a class."""
    if scores.shape[1] > 1:
        return scores.softmax(dim=1)
    return torch.cat([torch.sigmoid(-scores), torch.sigmoid(scores)], dim=1)


def stochastic_probabilities(estimator: Any) -> nn.Module:
    """SGDClassifier: one against the rest, each by itself, made to sum to one."""
    sides: dict[str, Callable[[Tensor], Tensor]] = {
        "log_loss": torch.sigmoid,
        "modified_huber": _clipped_side,
    }
    if estimator.loss not in sides:
        raise UnsupportedEstimatorError(
            type(estimator).__name__, f"loss {estimator.loss!r} gives no probabilities"
        )
    side = sides[estimator.loss]
    return Chain(
        linear_predictor(estimator), Elementwise(lambda scores: _one_against_rest(side(scores)))
    )


def _clipped_side(scores: Tensor) -> Tensor:
    return (scores.clamp(-1, 1) + 1) / 2


def _one_against_rest(sides: Float[Tensor, "n k"]) -> Float[Tensor, "n c"]:
    if sides.shape[1] == 1:
        return torch.cat([1 - sides, sides], dim=1)
    total = sides.sum(dim=1, keepdim=True)
    # Where no class claims the example, all of them have it.
    return torch.where(total > 0, sides / total.where(total > 0, 1), 1 / sides.shape[1])


def _width(estimator: Any) -> int:
    return int(np.asarray(getattr(estimator, "n_features_in_", 1)))
