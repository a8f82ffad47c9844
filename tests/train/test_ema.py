"""The moving average is its written recurrence, for weights and running statistics alike."""

from __future__ import annotations

import math

import pytest
import torch
from toy_training import network

from tilth.train.ema import MovingAverage


def test_matches_the_written_recurrence():
    model = network()
    average = MovingAverage(model, decay=0.5)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for updates in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
            model.train()(torch.randn(2, 3, 8, 8))  # moves the running statistics
        average.update(updates)
        decay = min(0.5, (1 + updates) / (10 + updates))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value.clone()
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_first_updates_follow_closely():
    model = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(model, decay=0.9999)
    start = model.weight.item()
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(0)
    assert average.model.weight.item() - start > 0.85  # not 0.0001


def test_ramp_is_its_written_formula_and_reaches_the_decay():
    average = MovingAverage(torch.nn.Linear(1, 1, bias=False), decay=0.9998, ramp=2000)
    expected = average.model.weight.item()
    followed = average._followed[0]
    for updates in range(40):
        with torch.no_grad():
            followed.add_(0.1)
        average.update(updates)
        decay = 0.9998 * (1 - math.exp(-(updates + 1) / 2000))
        expected = decay * expected + (1 - decay) * followed.item()
    assert average.model.weight.item() == pytest.approx(expected, rel=1e-4)
    assert average._decay_at(20_000) == pytest.approx(0.9998, abs=1e-4)


def test_average_is_apart_from_the_model():
    model = network()
    average = MovingAverage(model, decay=0.9)
    with torch.no_grad():
        model[0].weight.zero_()
    assert average.model[0].weight.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert not average.model.training


def test_shared_weight_is_averaged_once():
    first, second = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    model = torch.nn.Sequential(first, second)
    average = MovingAverage(model, decay=0.5)
    start = first.weight.detach().clone()
    with torch.no_grad():
        first.weight.add_(1.0)
    average.update(10)
    torch.testing.assert_close(average.model[0].weight, start + 0.5)
    assert average.model[0].weight is average.model[1].weight


def test_follows_a_model_whose_parameters_were_given_new_storage():
    model = torch.nn.Linear(2, 2)
    average = MovingAverage(model, decay=0.5)
    start = model.weight.detach().clone()
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # what Module.to does on another device
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(10)
    torch.testing.assert_close(average.model.weight, start + 0.5)
