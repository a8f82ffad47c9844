"""Kernels by the names that support vector machines and kernel regression give them.

linear x.y · poly (gamma x.y + c)^degree · sigmoid tanh(gamma x.y + c) · cosine x.y / |x||y|
rbf exp(-gamma |x - y|^2) · laplacian exp(-gamma |x - y|_1)
additive_chi2 -sum (x - y)^2 / (x + y) · chi2 exp(gamma additive_chi2)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["KERNELS", "KernelNumbers", "distances"]

SMALLEST = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, kw_only=True)
class KernelNumbers:
    """What a kernel reads beside its inputs.

    Attributes:
        gamma: how fast it falls with distance.
        degree: of the polynomial.
        coef0: the constant inside the polynomial and the sigmoid.
    """

    gamma: float
    degree: float = 3.0
    coef0: float = 1.0


def distances(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, power: float = 2.0
) -> Float[Tensor, "n m"]:
    """Minkowski distances, from differences: the shorter way by products rounds near zero."""
    return torch.cdist(x, y, p=power, compute_mode="donot_use_mm_for_euclid_dist")


def _linear(x: Tensor, y: Tensor, numbers: KernelNumbers) -> Tensor:
    return x @ y.T


def _polynomial(x: Tensor, y: Tensor, numbers: KernelNumbers) -> Tensor:
    return (numbers.gamma * (x @ y.T) + numbers.coef0) ** numbers.degree


def _sigmoid(x: Tensor, y: Tensor, numbers: KernelNumbers) -> Tensor:
    return torch.tanh(numbers.gamma * (x @ y.T) + numbers.coef0)


def _cosine(x: Tensor, y: Tensor, numbers: KernelNumbers) -> Tensor:
    return _unit(x) @ _unit(y).T


def _unit(x: Tensor) -> Tensor:
    square = (x * x).sum(dim=1, keepdim=True)
    # A row of zeros stays one, and has a gradient of zero instead of none.
    return x / square.clamp(min=SMALLEST).sqrt().where(square > 0, 1)


def _radial(x: Tensor, y: Tensor, numbers: KernelNumbers) -> Tensor:
    return torch.exp(-numbers.gamma * distances(x, y) ** 2)


def _laplacian(x: Tensor, y: Tensor, numbers: KernelNumbers) -> Tensor:
    return torch.exp(-numbers.gamma * distances(x, y, power=1.0))


def _additive_chi2(x: Tensor, y: Tensor, numbers: KernelNumbers) -> Tensor:
    total = x.unsqueeze(1) + y
    return -((x.unsqueeze(1) - y) ** 2 / total.where(total != 0, 1)).sum(dim=2)


def _chi2(x: Tensor, y: Tensor, numbers: KernelNumbers) -> Tensor:
    return torch.exp(numbers.gamma * _additive_chi2(x, y, numbers))


KERNELS: dict[str, Callable[[Tensor, Tensor, KernelNumbers], Tensor]] = {
    "linear": _linear,
    "poly": _polynomial,
    "polynomial": _polynomial,
    "sigmoid": _sigmoid,
    "cosine": _cosine,
    "rbf": _radial,
    "laplacian": _laplacian,
    "additive_chi2": _additive_chi2,
    "chi2": _chi2,
}
