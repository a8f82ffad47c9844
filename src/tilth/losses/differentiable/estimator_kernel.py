"""Support vector machines and kernel ridge regression of scikit-learn, and kernel features.

predict = K(x, support) A + b
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.differentiable.exact_pieces import (
    Affine,
    Chain,
    UnsupportedEstimatorError,
    as_float64,
)
from tilth.losses.differentiable.kernel_functions import KERNELS, KernelNumbers

__all__ = [
    "KernelExpansion",
    "fourier_features",
    "kernel_features",
    "kernel_ridge",
    "support_vectors",
]


class KernelExpansion(nn.Module):
    """A weighted sum of a kernel's values at fitted points: [n, d] -> [n, k]."""

    points: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        kernel: str,
        numbers: KernelNumbers,
        *,
        points: Float[Tensor, "m d"],
        weight: Float[Tensor, "m k"],
        bias: Float[Tensor, "k"],
    ) -> None:
        super().__init__()
        self.kernel, self.numbers = kernel, numbers
        self.register_buffer("points", points)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return KERNELS[self.kernel](x, self.points, self.numbers) @ self.weight + self.bias


def support_vectors(estimator: Any) -> nn.Module:
    """SVR and NuSVR, and what SVC and NuSVC decide between two classes."""
    weight = as_float64(estimator.dual_coef_).T.contiguous()
    if weight.shape[1] != 1:
        raise UnsupportedEstimatorError(
            type(estimator).__name__, "it lets pairs of classes vote, and votes have no gradient"
        )
    numbers = KernelNumbers(
        gamma=float(estimator._gamma),
        degree=float(estimator.degree),
        coef0=float(estimator.coef0),
    )
    return KernelExpansion(
        _known(estimator),
        numbers,
        points=as_float64(estimator.support_vectors_),
        weight=weight,
        bias=as_float64(estimator.intercept_).reshape(1),
    )


def kernel_ridge(estimator: Any) -> nn.Module:
    """KernelRidge; without gamma it is one over the number of features (1 for chi2)."""
    points = as_float64(estimator.X_fit_)
    weight = as_float64(estimator.dual_coef_)
    weight = weight.unsqueeze(1) if weight.ndim == 1 else weight
    return KernelExpansion(
        _known(estimator),
        _numbers(estimator, points.shape[1]),
        points=points,
        weight=weight,
        bias=weight.new_zeros(weight.shape[1]),
    )


def kernel_features(estimator: Any) -> nn.Module:
    """Nystroem: kernel values at its components, made independent."""
    points = as_float64(estimator.components_)
    weight = as_float64(estimator.normalization_).T.contiguous()
    return KernelExpansion(
        _known(estimator),
        _numbers(estimator, points.shape[1]),
        points=points,
        weight=weight,
        bias=weight.new_zeros(weight.shape[1]),
    )


def fourier_features(estimator: Any) -> nn.Module:
    """RBFSampler: cosines of random directions."""
    waves = Affine(as_float64(estimator.random_weights_), as_float64(estimator.random_offset_))
    count = waves.bias.shape[0]
    scale = torch.eye(count, dtype=torch.float64) * (2 / count) ** 0.5
    return Chain(waves, _Cosine(), Affine(scale, waves.bias.new_zeros(count)))


class _Cosine(nn.Module):
    def forward(self, x: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        return torch.cos(x)


def _numbers(estimator: Any, num_features: int) -> KernelNumbers:
    by_default = 1.0 if estimator.kernel == "chi2" else 1 / num_features
    degree, coef0 = estimator.degree, estimator.coef0
    return KernelNumbers(
        gamma=by_default if estimator.gamma is None else float(estimator.gamma),
        degree=3.0 if degree is None else float(degree),
        coef0=1.0 if coef0 is None else float(coef0),
    )


def _known(estimator: Any) -> str:
    kernel = estimator.kernel
    if not isinstance(kernel, str) or kernel not in KERNELS:
        raise UnsupportedEstimatorError(
            type(estimator).__name__,
            f"kernel {kernel!r} is none of {', '.join(KERNELS)}",
        )
    return kernel
