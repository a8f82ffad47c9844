"""Steps of scikit-learn that scale features, project them, or keep some: affine maps and clips."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.differentiable.exact_pieces import (
    Affine,
    Chain,
    Columns,
    Elementwise,
    UnsupportedEstimatorError,
    as_float64,
)

__all__ = [
    "Rescale",
    "filled",
    "largest_scaled",
    "largest_unscaled",
    "linear_discriminants",
    "normalised",
    "projected",
    "quartile_scaled",
    "quartile_unscaled",
    "range_scaled",
    "range_unscaled",
    "selected",
    "standardised",
    "unstandardised",
]


class Rescale(nn.Module):
    """x a + b, feature by feature."""

    factor: Tensor
    offset: Tensor

    def __init__(self, factor: Float[Tensor, "d"], offset: Float[Tensor, "d"]) -> None:
        super().__init__()
        self.register_buffer("factor", factor.double())
        self.register_buffer("offset", offset.double())

    @classmethod
    def of(cls, *, mean: Any, scale: Any, num_features: int) -> "Rescale":
        """(x - mean) / scale; None is 0 and 1."""
        ones = torch.ones(num_features, dtype=torch.float64)
        divisor = ones if scale is None else as_float64(scale)
        return cls(1 / divisor, -(0 * ones if mean is None else as_float64(mean)) / divisor)

    def inverse(self) -> "Rescale":
        """The way back."""
        return Rescale(1 / self.factor, -self.offset / self.factor)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return x * self.factor + self.offset


def standardised(estimator: Any) -> Rescale:
    """StandardScaler."""
    return Rescale.of(
        mean=estimator.mean_ if estimator.with_mean else None,
        scale=estimator.scale_ if estimator.with_std else None,
        num_features=estimator.n_features_in_,
    )


def unstandardised(estimator: Any) -> nn.Module:
    """StandardScaler, backwards."""
    return standardised(estimator).inverse()


def range_scaled(estimator: Any) -> nn.Module:
    """MinMaxScaler, clipped where it clips."""
    scale = Rescale(as_float64(estimator.scale_), as_float64(estimator.min_))
    low, high = (float(end) for end in estimator.feature_range)
    return _clipped(scale, low, high) if estimator.clip else scale


def range_unscaled(estimator: Any) -> nn.Module:
    """MinMaxScaler, backwards."""
    return Rescale(as_float64(estimator.scale_), as_float64(estimator.min_)).inverse()


def largest_scaled(estimator: Any) -> nn.Module:
    """MaxAbsScaler, clipped where it clips."""
    scale = _largest(estimator)
    return _clipped(scale, -1.0, 1.0) if getattr(estimator, "clip", False) else scale


def largest_unscaled(estimator: Any) -> nn.Module:
    """MaxAbsScaler, backwards."""
    return _largest(estimator).inverse()


def quartile_scaled(estimator: Any) -> Rescale:
    """RobustScaler."""
    return Rescale.of(
        mean=estimator.center_ if estimator.with_centering else None,
        scale=estimator.scale_ if estimator.with_scaling else None,
        num_features=estimator.n_features_in_,
    )


def quartile_unscaled(estimator: Any) -> nn.Module:
    """RobustScaler, backwards."""
    return quartile_scaled(estimator).inverse()


def normalised(estimator: Any) -> nn.Module:
    """Normalizer: every row over its norm; a row of zeros stays one."""
    order = {"l1": 1.0, "l2": 2.0, "max": float("inf")}[estimator.norm]

    def divide(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        # Found without a gradient first: the norm of a row of zeros has none that is a number.
        is_zero = (x.detach() == 0).all(dim=1, keepdim=True)
        safe = torch.where(is_zero, torch.ones_like(x), x)
        norm = torch.linalg.vector_norm(safe, ord=order, dim=1, keepdim=True)
        return x / torch.where(is_zero, torch.ones_like(norm), norm)

    return Elementwise(divide)


def projected(estimator: Any) -> nn.Module:
    """PCA, TruncatedSVD, FastICA and random projections: (x - mean) C^T, whitened where they do."""
    weight = as_float64(estimator.components_).T.contiguous()
    mean = getattr(estimator, "mean_", None)
    bias = weight.new_zeros(weight.shape[1]) if mean is None else -as_float64(mean) @ weight
    # Others than the principal components whiten by their components.
    if getattr(estimator, "whiten", False) and hasattr(estimator, "explained_variance_"):
        scale = as_float64(estimator.explained_variance_).sqrt()
        scale = scale.clamp(min=torch.finfo(scale.dtype).eps)
        weight, bias = weight / scale, bias / scale
    return Affine(weight, bias)


def linear_discriminants(estimator: Any) -> nn.Module:
    """LinearDiscriminantAnalysis as a step."""
    if estimator.solver == "lsqr":
        raise UnsupportedEstimatorError(type(estimator).__name__, "solver 'lsqr' has no step")
    weight = as_float64(estimator.scalings_)
    bias = weight.new_zeros(weight.shape[1])
    if estimator.solver == "svd":
        bias = -as_float64(estimator.xbar_) @ weight
    num = estimator._max_components
    return Affine(weight[:, :num].contiguous(), bias[:num].clone())


def selected(estimator: Any) -> nn.Module:
    """Any selection of features: those that it supports."""
    return Columns(estimator.get_support(indices=True))


def filled(estimator: Any) -> nn.Module:
    """An imputer, for tables without holes: they pass as they are."""
    missing = estimator.missing_values
    if not (isinstance(missing, float) and np.isnan(missing)):
        raise UnsupportedEstimatorError(
            type(estimator).__name__, f"it replaces {missing!r}, a step in the values"
        )
    if estimator.add_indicator:
        raise UnsupportedEstimatorError(type(estimator).__name__, "it adds columns of indicators")
    whole = np.zeros((1, estimator.n_features_in_))
    if not np.array_equal(estimator.transform(whole), whole):
        raise UnsupportedEstimatorError(type(estimator).__name__, "it drops empty columns")
    return Columns(np.arange(estimator.n_features_in_))


def _largest(estimator: Any) -> Rescale:
    return Rescale.of(mean=None, scale=estimator.scale_, num_features=estimator.n_features_in_)


def _clipped(scale: Rescale, low: float, high: float) -> nn.Module:
    return Chain(scale, Elementwise(lambda x: x.clamp(low, high)))
