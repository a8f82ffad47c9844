"""Covariance kernels of Gaussian processes, as scikit-learn composes them.

Source: Rasmussen, Williams, 2006, Gaussian Processes for Machine Learning, MIT Press, ISBN
    0-262-18253-X (chapter 4).
Follows: Eq. 4.9 -> `SquaredExponential`; Eq. 4.17 -> `Matern`; Eq. 4.19 -> `RationalQuadratic`;
    Eq. 4.31 -> `Periodic`; section 4.2.2 -> `DotProduct`; section 4.2.4 -> `Combined`, `Power`.
Symbols: length_scale = l = distance after which values have little to do with each other, one
    number or one a feature; sigma_0^2 = what the dot product adds; alpha = mixture of scales;
    nu = smoothness.
Differs: of the Matern class only the smoothnesses with a closed form are here (1/2, 3/2, 5/2 and
    infinity); any other needs a Bessel function without a gradient.
Checked by: `test_every_kernel_is_that_of_scikit_learn`,
    `test_matern_has_a_gradient_at_a_training_point`
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.differentiable.exact_pieces import UnsupportedEstimatorError, as_float64, inside
from tilth.losses.differentiable.kernel_functions import KERNELS, KernelNumbers, distances

__all__ = ["Covariance", "covariance_kernel"]


class Covariance(nn.Module):
    """A kernel: ``forward(x, y)`` between two tables, ``diagonal(x)`` of each row with itself."""

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        raise NotImplementedError

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """k(x, x) of each row: one, for most."""
        return x.new_ones(x.shape[0])


class _Scaled(Covariance):
    """Of distances in length scales, one for all features or one for each."""

    length_scale: Tensor

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        self.register_buffer("length_scale", as_float64(kernel.length_scale).reshape(-1))

    def scaled(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return distances(x / self.length_scale, y / self.length_scale)


class SquaredExponential(_Scaled):
    """exp(-d^2 / 2)."""

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return torch.exp(-(self.scaled(x, y) ** 2) / 2)  # Eq. 4.9


class Matern(_Scaled):
    """The half-integer ones: a polynomial of the distance times exp(-distance)."""

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel)
        self.smoothness = float(kernel.nu)
        if self.smoothness not in (0.5, 1.5, 2.5, math.inf):
            raise UnsupportedEstimatorError("Matern", f"nu = {kernel.nu:g} has no closed form")

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        distance = self.scaled(x, y)
        if math.isinf(self.smoothness):
            return torch.exp(-(distance**2) / 2)
        distance = distance * math.sqrt(2 * self.smoothness)
        polynomial = torch.ones_like(distance)
        if self.smoothness > 1:
            polynomial = polynomial + distance
        if self.smoothness > 2:
            polynomial = polynomial + distance**2 / 3
        return polynomial * torch.exp(-distance)  # Eq. 4.17


class RationalQuadratic(_Scaled):
    """(1 + d^2 / 2 alpha)^-alpha."""

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel)
        self.alpha = float(kernel.alpha)

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return (1 + self.scaled(x, y) ** 2 / (2 * self.alpha)) ** -self.alpha  # Eq. 4.19


class Periodic(Covariance):
    """exp(-2 sin^2(pi |x - y| / period) / l^2)."""

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        self.length_scale, self.period = float(kernel.length_scale), float(kernel.periodicity)

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        wave = torch.sin(distances(x, y) * (math.pi / self.period))
        return torch.exp(-2 * (wave / self.length_scale) ** 2)  # Eq. 4.31


class DotProduct(Covariance):
    """x.y + sigma_0^2."""

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        self.added = float(kernel.sigma_0) ** 2

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return x @ y.T + self.added

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        return (x * x).sum(dim=1) + self.added


class Constant(Covariance):
    """The same everywhere, or (``is_noise``) of each row with itself alone."""

    def __init__(self, value: float, *, is_noise: bool = False) -> None:
        super().__init__()
        self.value, self.is_noise = value, is_noise

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return x.new_full((x.shape[0], y.shape[0]), 0.0 if self.is_noise else self.value)

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        return x.new_full((x.shape[0],), self.value)


class Named(Covariance):
    """A kernel of `tilth.losses.differentiable.kernel_functions`."""

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        options = dict(kernel.pairwise_kernels_kwargs or {})
        if kernel.metric not in KERNELS:
            raise UnsupportedEstimatorError("PairwiseKernel", f"its metric is {kernel.metric!r}")
        self.function = KERNELS[kernel.metric]
        self.numbers = KernelNumbers(
            gamma=float(kernel.gamma),
            degree=float(options.get("degree", 3)),
            coef0=float(options.get("coef0", 1)),
        )

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return self.function(x, y, self.numbers)

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        return self.function(x, x, self.numbers).diagonal()


class Combined(Covariance):
    """The sum or the product of two kernels."""

    def __init__(self, kernel: Any, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = covariance_kernel(kernel.k1), covariance_kernel(kernel.k2)
        self.combine = combine

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return self.combine(self.first(x, y), self.second(x, y))

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        return self.combine(self.first.diagonal(x), self.second.diagonal(x))


class Power(Covariance):
    """A kernel to a power."""

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        self.base, self.exponent = covariance_kernel(kernel.kernel), float(kernel.exponent)

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return self.base(x, y) ** self.exponent

    def diagonal(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        return self.base.diagonal(x) ** self.exponent


KINDS: dict[str, Callable[[Any], Covariance]] = {
    "Sum": lambda kernel: Combined(kernel, torch.add),
    "Product": lambda kernel: Combined(kernel, torch.mul),
    "Exponentiation": Power,
    "ConstantKernel": lambda kernel: Constant(float(kernel.constant_value)),
    "WhiteKernel": lambda kernel: Constant(float(kernel.noise_level), is_noise=True),
    "RBF": SquaredExponential,
    "Matern": Matern,
    "RationalQuadratic": RationalQuadratic,
    "ExpSineSquared": Periodic,
    "DotProduct": DotProduct,
    "PairwiseKernel": Named,
}


def covariance_kernel(kernel: Any) -> Covariance:
    """The twin of a kernel of ``sklearn.gaussian_process.kernels``.

    Raises:
        UnsupportedEstimatorError: a kernel, or a part of one, that is not in the table.
    """
    name = type(kernel).__name__
    if name not in KINDS or not type(kernel).__module__.startswith("sklearn."):
        raise UnsupportedEstimatorError(name, f"a kernel that is none of {', '.join(KINDS)}")
    with inside(f"kernel {kernel}"):
        return KINDS[name](kernel)
