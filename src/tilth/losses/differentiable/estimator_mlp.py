"""Multi-layer perceptrons of scikit-learn: affine layers and the activation between them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tilth.losses.differentiable.estimator_linear import chances_of_scores
from tilth.losses.differentiable.exact_pieces import (
    Affine,
    Chain,
    Elementwise,
    UnsupportedEstimatorError,
    as_float64,
)

__all__ = ["ACTIVATIONS", "perceptron", "perceptron_probabilities"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "identity": None,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "exp": torch.exp,
}


def perceptron(estimator: Any) -> nn.Module:
    """MLPRegressor, whatever its activations: [n, d] -> [n, k]."""
    parts = _layers(estimator)
    _append_activation(parts, estimator, estimator.out_activation_)
    return Chain(*parts)


def perceptron_probabilities(estimator: Any) -> nn.Module:
    """MLPClassifier: one column a class, two for two classes."""
    if getattr(estimator, "_label_binarizer", None) is not None and (
        estimator._label_binarizer.y_type_ == "multilabel-indicator"
    ):
        parts = _layers(estimator)
        _append_activation(parts, estimator, estimator.out_activation_)
        return Chain(*parts)
    return Chain(*_layers(estimator), Elementwise(chances_of_scores))


def _layers(estimator: Any) -> list[nn.Module]:
    parts: list[nn.Module] = []
    for weight, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        if parts:
            _append_activation(parts, estimator, estimator.activation)
        parts.append(Affine(as_float64(weight), as_float64(bias)))
    return parts


def _append_activation(parts: list[nn.Module], estimator: Any, name: str) -> None:
    if name not in ACTIVATIONS:
        raise UnsupportedEstimatorError(type(estimator).__name__, f"activation {name!r}")
    activation = ACTIVATIONS[name]
    if activation is not None:
        parts.append(Elementwise(activation))
