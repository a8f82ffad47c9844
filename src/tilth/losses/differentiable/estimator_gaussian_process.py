"""Gaussian process regression of scikit-learn: its mean, and how sure it is of it.

Source: Rasmussen, Williams, 2006, Gaussian Processes for Machine Learning, MIT Press, ISBN
    0-262-18253-X.
Follows: Algorithm 2.1 -> `GaussianProcess`.
Symbols: points = X = training inputs [m, d]; weight = alpha = (K + noise)^-1 y [m, k];
    factor = L = lower Cholesky factor of K + noise [m, m].
Differs: everything that fitting made is taken as it is; a variance that rounding made negative is
    zero, and its square root has no infinite gradient there.
Checked by: `test_twin_predicts_as_scikit_learn_does`, `test_uncertainty_is_that_of_scikit_learn`
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.differentiable.covariance_kernels import covariance_kernel
from tilth.losses.differentiable.exact_pieces import UnsupportedEstimatorError, as_float64

__all__ = ["GaussianProcess", "gaussian_process"]

# Of the prior's variance; below it the square root is as good as a step.
LEAST_VARIANCE = 1e-20


def gaussian_process(estimator: Any) -> nn.Module:
    """GaussianProcessRegressor: [n, d] -> [n, k]."""
    if not hasattr(estimator, "X_train_"):
        raise UnsupportedEstimatorError(type(estimator).__name__, "it knows only its prior")
    return GaussianProcess(estimator)


class GaussianProcess(nn.Module):
    """The posterior's mean; ``uncertainty`` is its standard deviation."""

    points: Tensor
    weight: Tensor
    factor: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        weight = as_float64(estimator.alpha_)
        weight = weight.unsqueeze(1) if weight.ndim == 1 else weight
        num = weight.shape[1]
        self.kernel = covariance_kernel(estimator.kernel_)
        self.register_buffer("points", as_float64(estimator.X_train_))
        self.register_buffer("weight", weight)
        self.register_buffer("factor", as_float64(estimator.L_))
        for name, value in (("scale", estimator._y_train_std), ("offset", estimator._y_train_mean)):
            self.register_buffer(name, as_float64(value).reshape(-1).expand(num).clone())

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        mean = self.kernel(x, self.points) @ self.weight  # Algorithm 2.1, line 4
        return mean * self.scale + self.offset

    def uncertainty(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Standard deviation, in the units of the outputs."""
        cross = self.kernel(x, self.points).T
        solved = torch.linalg.solve_triangular(self.factor, cross, upper=False)  # line 5
        prior = self.kernel.diagonal(x)
        variance = prior - (solved * solved).sum(dim=0)  # line 6
        floor = LEAST_VARIANCE * prior.detach().abs() + torch.finfo(x.dtype).tiny
        return variance.maximum(floor).sqrt().unsqueeze(1) * self.scale
