"""Kernels of Gaussian processes are those of scikit-learn, alone and composed."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import kernels

from tilth.losses.differentiable.covariance_kernels import KINDS, covariance_kernel
from tilth.losses.differentiable.exact_pieces import UnsupportedEstimatorError

EACH = np.array([0.5, 1.0, 2.0])
ALL = [
    kernels.RBF(1.3),
    kernels.RBF(EACH),
    *(kernels.Matern(EACH, nu=nu) for nu in (0.5, 1.5, 2.5, np.inf)),
    kernels.RationalQuadratic(0.8, alpha=1.7),
    kernels.ExpSineSquared(1.1, 2.3),
    kernels.DotProduct(0.7),
    kernels.ConstantKernel(2.5),
    kernels.WhiteKernel(0.3),
    kernels.PairwiseKernel(gamma=0.4, metric="rbf"),
    kernels.PairwiseKernel(gamma=0.4, metric="poly", pairwise_kernels_kwargs={"degree": 2}),
    kernels.RBF(1.0) + kernels.WhiteKernel(0.2),
    kernels.ConstantKernel(3.0) * (kernels.RBF(EACH) + kernels.DotProduct(0.1)),
    kernels.RBF(1.0) ** 3,
]


@pytest.mark.parametrize("kernel", ALL, ids=str)
def test_every_kernel_is_that_of_scikit_learn(kernel):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((7, 3)), random.standard_normal((9, 3))
    twin = covariance_kernel(kernel)
    between = twin(torch.as_tensor(x), torch.as_tensor(y))
    np.testing.assert_allclose(between, kernel(x, y), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(twin.diagonal(torch.as_tensor(x)), kernel.diag(x), rtol=1e-12)


def test_examples_name_every_kind():
    assert set(KINDS) <= {name for kernel in ALL for name in _names(kernel)}


def _names(kernel):
    yield type(kernel).__name__
    for part in ("k1", "k2", "kernel"):
        if hasattr(kernel, part):
            yield from _names(getattr(kernel, part))


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_matern_has_a_gradient_at_a_training_point(nu):
    point = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    inputs = point.clone().requires_grad_()
    covariance_kernel(kernels.Matern(1.0, nu=nu))(inputs, point).sum().backward()
    torch.testing.assert_close(inputs.grad, torch.zeros_like(inputs))


def test_kernel_without_closed_form_is_named():
    with pytest.raises(UnsupportedEstimatorError, match=r"Matern.*nu = 0\.7"):
        covariance_kernel(kernels.RBF(1.0) * kernels.Matern(nu=0.7))

    class Own(kernels.RBF):
        pass

    with pytest.raises(UnsupportedEstimatorError, match="Own"):
        covariance_kernel(Own())
