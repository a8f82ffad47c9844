"""Decay reaches kernels and matrices, and every optimiser of the table lowers a loss."""

from __future__ import annotations

import pytest
import torch
from toy_training import Blobs, network, squared_error

from tilth.errors import SettingsError
from tilth.train.loop_settings import LoopSettings
from tilth.train.optimiser import (
    OPTIMISERS,
    add_l1_gradient,
    build_optimiser,
    parameter_groups,
)


def test_decay_is_for_kernels_alone():
    model = network()
    decayed, plain = parameter_groups(model, 0.0005)
    assert decayed["weight_decay"] == 0.0005
    assert plain["weight_decay"] == 0.0
    kernels = {id(model[0].weight), id(model[4].weight)}
    assert {id(parameter) for parameter in decayed["params"]} == kernels
    assert len(plain["params"]) == len(list(model.parameters())) - 2


def test_frozen_parameters_are_left_out():
    model = network()
    model[0].requires_grad_(False)
    groups = parameter_groups(model, 0.1)
    given = {id(parameter) for group in groups for parameter in group["params"]}
    assert id(model[0].weight) not in given


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_every_optimiser_lowers_the_loss(name):
    model, batch = network(normalised=False), Blobs().batch(0)
    optimiser = build_optimiser(
        model, name=name, learning_rate=0.01, momentum=0.9, weight_decay=0.0
    )
    first = squared_error(model, batch)["total"].item()
    for _ in range(50):
        optimiser.zero_grad()
        squared_error(model, batch)["total"].backward()
        optimiser.step()
    assert squared_error(model, batch)["total"].item() < first / 10


def test_momentum_is_the_first_beta_of_adamw():
    options = {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.0}
    optimiser = build_optimiser(torch.nn.Linear(2, 2), name="adamw", **options)
    assert optimiser.param_groups[0]["betas"] == (0.8, 0.999)


def test_nesterov_reaches_sgd_and_is_refused_elsewhere():
    options = {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.0, "nesterov": True}
    optimiser = build_optimiser(torch.nn.Linear(2, 2), name="sgd", **options)
    assert optimiser.param_groups[0]["nesterov"] is True
    with pytest.raises(SettingsError, match="'nesterov'"):
        LoopSettings(optimiser="adamw", nesterov=True)
    with pytest.raises(SettingsError, match="'nesterov'"):
        LoopSettings(momentum=0.0, nesterov=True)


def test_l1_gradient_is_that_of_the_sum_of_absolute_values():
    model = network()
    kernels = [model[0].weight, model[4].weight]
    (3e-3 * sum(kernel.abs().sum() for kernel in kernels)).backward()
    wanted = [kernel.grad.clone() for kernel in kernels]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model[1].weight.grad = None
    add_l1_gradient(model, 3e-3)
    for kernel, gradient in zip(kernels, wanted, strict=True):
        torch.testing.assert_close(kernel.grad, gradient)
    assert model[0].bias.grad.abs().sum() == 0
    assert model[1].weight.grad is None
