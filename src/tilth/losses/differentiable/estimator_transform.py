"""Steps of scikit-learn that bend features: polynomials, quantiles, power laws, known functions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import DataError
from tilth.losses.differentiable.estimator_scale import standardised, unstandardised
from tilth.losses.differentiable.exact_pieces import (
    Chain,
    Elementwise,
    UnsupportedEstimatorError,
    as_float64,
)

__all__ = [
    "FUNCTIONS",
    "inverse_function",
    "inverse_power",
    "inverse_quantiles",
    "known_function",
    "polynomial",
    "power",
    "quantiles",
]

# How close to the ends of a normal distribution its quantiles are cut.
NORMAL_END = 1e-7
# Below this a power law is a logarithm.
ZERO_POWER = float(np.spacing(1.0))

FUNCTIONS: dict[Callable[..., Any] | None, Callable[[Tensor], Tensor]] = {
    None: torch.clone,
    np.log: torch.log,
    np.log1p: torch.log1p,
    np.log2: torch.log2,
    np.log10: torch.log10,
    np.exp: torch.exp,
    np.expm1: torch.expm1,
    np.sqrt: torch.sqrt,
    np.square: torch.square,
    np.abs: torch.abs,
    np.negative: torch.neg,
    np.reciprocal: torch.reciprocal,
    np.sin: torch.sin,
    np.cos: torch.cos,
    np.tan: torch.tan,
    np.tanh: torch.tanh,
    np.arctan: torch.arctan,
    np.sinh: torch.sinh,
    np.cosh: torch.cosh,
    np.arcsinh: torch.asinh,
}


def polynomial(estimator: Any) -> nn.Module:
    """PolynomialFeatures: products of features."""
    return _Products(np.asarray(estimator.powers_))


class _Products(nn.Module):
    """Every output multiplies a few columns; a column of ones fills those that need fewer."""

    factors: Tensor

    def __init__(self, powers: np.ndarray) -> None:
        super().__init__()
        num_features, highest = powers.shape[1], max(int(powers.sum(axis=1).max()), 1)
        rows = [np.repeat(np.arange(num_features), row) for row in powers]
        filled = [np.append(row, [num_features] * (highest - len(row))) for row in rows]
        self.register_buffer("factors", torch.as_tensor(np.array(filled, dtype=np.int64)))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        padded = torch.cat([x, x.new_ones(x.shape[0], 1)], dim=1)
        product = padded[:, self.factors[:, 0]]
        for column in range(1, self.factors.shape[1]):
            product = product * padded[:, self.factors[:, column]]
        return product


def known_function(estimator: Any) -> nn.Module:
    """FunctionTransformer of a NumPy function that torch has too."""
    return _function(estimator, estimator.func, estimator.kw_args)


def inverse_function(estimator: Any) -> nn.Module:
    """FunctionTransformer, backwards."""
    return _function(estimator, estimator.inverse_func, estimator.inv_kw_args)


def _function(estimator: Any, function: Any, options: dict[str, Any] | None) -> nn.Module:
    is_known = any(function is known for known in FUNCTIONS)
    if not is_known or options:
        name = getattr(function, "__name__", repr(function))
        known = ", ".join(f"numpy.{key.__name__}" for key in FUNCTIONS if key is not None)
        raise UnsupportedEstimatorError(
            type(estimator).__name__, f"function {name!r} is none of {known}"
        )
    return Elementwise(FUNCTIONS[function])


def power(estimator: Any) -> nn.Module:
    """PowerTransformer: Yeo and Johnson's, or Box and Cox's."""
    parts: list[nn.Module] = [_Power(estimator)]
    if estimator.standardize:
        parts.append(standardised(estimator._scaler))
    return Chain(*parts)


def inverse_power(estimator: Any) -> nn.Module:
    """PowerTransformer, backwards."""
    parts: list[nn.Module] = [_InversePower(estimator)]
    if estimator.standardize:
        parts.insert(0, unstandardised(estimator._scaler))
    return Chain(*parts)


class _Power(nn.Module):
    """y = (x^p - 1) / p, the logarithm for p = 0; Yeo and Johnson's of 1 + |x| on both sides."""

    exponent: Tensor

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        self.is_two_sided = estimator.method == "yeo-johnson"
        self.register_buffer("exponent", as_float64(estimator.lambdas_))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        if not self.is_two_sided:
            if bool((x.detach() <= 0).any()):
                raise DataError(
                    "the Box-Cox transformation is of positive numbers",
                    got=f"{float(x.detach().min()):g}",
                )
            return _law(x.log(), self.exponent)
        above = _law(x.clamp(min=0).log1p(), self.exponent)
        below = _law((-x).clamp(min=0).log1p(), 2 - self.exponent)
        return torch.where(x >= 0, above, -below)


class _InversePower(_Power):
    """The same, backwards."""

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        if not self.is_two_sided:
            return _inverse_law(x, self.exponent)
        above = _inverse_law(x.clamp(min=0), self.exponent) - 1
        below = _inverse_law((-x).clamp(min=0), 2 - self.exponent) - 1
        return torch.where(x >= 0, above, -below)


def _law(logarithm: Float[Tensor, "n d"], exponent: Float[Tensor, "d"]) -> Float[Tensor, "n d"]:
    is_zero = exponent.abs() < ZERO_POWER
    divisor = exponent.masked_fill(is_zero, 1.0)
    return torch.where(is_zero, logarithm, torch.expm1(divisor * logarithm) / divisor)


def _inverse_law(y: Float[Tensor, "n d"], exponent: Float[Tensor, "d"]) -> Float[Tensor, "n d"]:
    is_zero = exponent.abs() < ZERO_POWER
    divisor = exponent.masked_fill(is_zero, 1.0)
    return torch.where(is_zero, y, torch.log1p(divisor * y) / divisor).exp()


def quantiles(estimator: Any) -> nn.Module:
    """QuantileTransformer: piecewise linear, then the normal distribution's quantile if asked."""
    return _Quantiles(estimator)


def inverse_quantiles(estimator: Any) -> nn.Module:
    """QuantileTransformer, backwards."""
    return _InverseQuantiles(estimator)


class _Quantiles(nn.Module):
    """Straight lines between fitted quantiles; at repeated ones the mean of both ends."""

    values: Tensor
    shares: Tensor

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        if estimator.n_quantiles_ < 2:
            raise UnsupportedEstimatorError(type(estimator).__name__, "it has one quantile")
        self.is_normal = estimator.output_distribution == "normal"
        self.register_buffer("values", as_float64(estimator.quantiles_.T))  # [d, q]
        self.register_buffer("shares", as_float64(estimator.references_).expand_as(self.values))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        upwards = _lines(x, self.values, self.shares)
        downwards = -_lines(-x, -self.values.flip(1), -self.shares.flip(1))
        share = _ended((upwards + downwards) / 2, x, self.values, 0.0, 1.0, self.is_normal)
        if not self.is_normal:
            return share
        # Cut before the quantile is taken: at 0 and 1 its gradient is infinite.
        end = NORMAL_END - ZERO_POWER
        return torch.special.ndtri(share.clamp(end, 1 - end))


class _InverseQuantiles(_Quantiles):
    """The same, backwards."""

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        share = torch.special.ndtr(x) if self.is_normal else x
        found = _lines(share, self.shares, self.values)
        low, high = self.values[:, 0], self.values[:, -1]
        return _ended(found, share, self.shares, low, high, self.is_normal)


def _lines(
    x: Float[Tensor, "n d"], knots: Float[Tensor, "d q"], heights: Float[Tensor, "d q"]
) -> Float[Tensor, "n d"]:
    """Piecewise linear interpolation, level beyond the ends; of equal knots the last counts."""
    columns = x.T.contiguous()
    last = knots.shape[1] - 1
    left = torch.searchsorted(knots.contiguous(), columns.detach(), right=True) - 1
    is_inside = (left >= 0) & (left < last)
    left = left.clamp(0, last - 1)
    start, end = knots.gather(1, left), knots.gather(1, left + 1)
    low, high = heights.gather(1, left), heights.gather(1, left + 1)
    width = torch.where(is_inside, end - start, 1.0)
    found = low + (high - low) / width * (columns - start)
    beyond = torch.where(columns < knots[:, :1], heights[:, :1], heights[:, -1:])
    return torch.where(is_inside, found, beyond).T


def _ended(
    found: Float[Tensor, "n d"],
    x: Float[Tensor, "n d"],
    knots: Float[Tensor, "d q"],
    low: float | Float[Tensor, "d"],
    high: float | Float[Tensor, "d"],
    is_normal: bool,
) -> Float[Tensor, "n d"]:
    """The ends themselves take their values exactly; close to them too before a normal quantile."""
    first, last = knots[:, 0], knots[:, -1]
    is_low = x - NORMAL_END < first if is_normal else x == first
    is_high = x + NORMAL_END > last if is_normal else x == last
    low, high = (torch.as_tensor(end, dtype=x.dtype, device=x.device) for end in (low, high))
    return torch.where(is_low, low, torch.where(is_high, high, found))
