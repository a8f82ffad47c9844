"""Gradients of functions that cannot be looked into."""

import numpy as np
import pytest
import torch

from tilth.losses.differentiable import black_box
from tilth.losses.differentiable.black_box import BlackBox, telling_step


def wavy(x):
    flat = x.reshape(len(x), -1)
    return np.stack([np.sin(flat).sum(axis=1), (flat**2).sum(axis=1)], axis=1)


def gradient_of(box, x, upstream):
    inputs = torch.as_tensor(x).requires_grad_()
    (box(inputs) * torch.as_tensor(upstream)).sum().backward()
    return inputs.grad.numpy()


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 2, 3)])
def test_central_differences_are_the_gradient(shape):
    random = np.random.default_rng(0)
    x, upstream = random.standard_normal(shape), random.standard_normal((shape[0], 2))
    found = gradient_of(BlackBox(wavy, step=1e-4), x, upstream)
    weights = upstream.reshape(shape[0], 2, *[1] * (len(shape) - 1))
    np.testing.assert_allclose(found, weights[:, 0] * np.cos(x) + weights[:, 1] * 2 * x, atol=1e-7)


def test_pieces_change_nothing_but_the_number_of_calls(monkeypatch):
    x = np.random.default_rng(0).standard_normal((6, 5))
    upstream = np.ones((6, 2))
    whole = gradient_of(BlackBox(wavy), x, upstream)
    monkeypatch.setattr(black_box, "ROWS_AT_ONCE", 24)
    calls = []

    def counted(rows):
        calls.append(len(rows))
        return wavy(rows)

    np.testing.assert_allclose(gradient_of(BlackBox(counted), x, upstream), whole, atol=1e-12)
    assert max(calls) <= 24
    assert sum(calls) == 6 + 2 * 5 * 6


def test_random_directions_are_right_on_average():
    x = np.random.default_rng(0).standard_normal((2, 6))
    upstream = np.array([[1.0, 0.0], [0.0, 1.0]])
    box = BlackBox(wavy, step=1e-4, directions=4000, seed=1)
    found = gradient_of(box, x, upstream)
    np.testing.assert_allclose(found, np.stack([np.cos(x[0]), 2 * x[1]]), atol=0.2)
    assert box.rows_per_gradient(6) == 8000
    assert box.num_rows == 2 + 2 * 8000


def test_directions_are_those_of_the_seed():
    x, upstream = np.ones((2, 3)), np.ones((2, 2))
    first, again, other = (
        gradient_of(BlackBox(wavy, directions=2, seed=seed), x, upstream) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_step_is_as_wide_as_the_function_needs():
    sample = np.random.default_rng(0).standard_normal((200, 3)) * [1, 10, 100]
    smooth = telling_step(wavy, sample)
    np.testing.assert_allclose(smooth, 1e-4 * sample.std(axis=0))

    def stairs(x):
        return np.floor(x / (0.15 * sample.std(axis=0))).sum(axis=1, keepdims=True)

    wide = telling_step(stairs, sample)
    np.testing.assert_allclose(wide, 0.1 * sample.std(axis=0))


def test_no_gradient_is_computed_where_none_is_asked_for():
    box = BlackBox(wavy)
    with torch.no_grad():
        box(torch.ones(3, 2, dtype=torch.float64))
    assert box.num_rows == 3
