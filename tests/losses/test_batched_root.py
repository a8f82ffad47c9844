"""Roots of many rows at once are those of each."""

import math

import pytest
import torch

from tilth.losses.batched_root import falling_root


@pytest.mark.parametrize("rows", [1, 7, 2000])
def test_finds_the_root_of_every_row(rows):
    roots = torch.logspace(-60, 20, rows, dtype=torch.float64)
    found = falling_root(
        lambda x: roots.unsqueeze(1) / x,
        1.0,
        log_low=-300.0,
        log_high=80.0,
        like=roots.unsqueeze(1),
    )
    torch.testing.assert_close(found, roots, rtol=1e-8, atol=0)


def test_finds_roots_beside_a_kink_and_under_a_hard_end():
    like = torch.zeros(3, 4, dtype=torch.float64)
    offsets = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)
    found = falling_root(
        lambda x: (1 - x / offsets).clamp(min=0) ** 2, 0.25, log_low=-50.0, log_high=50.0, like=like
    )
    torch.testing.assert_close(found, offsets.squeeze(1) / 2, rtol=1e-8, atol=0)


def test_ends_answer_for_roots_beyond_them():
    like = torch.zeros(3, 4, dtype=torch.float64)
    levels = torch.tensor([[0.0], [1.0], [math.inf]], dtype=torch.float64)
    found = falling_root(lambda x: levels + 0 * x, 0.5, log_low=-5.0, log_high=9.0, like=like)
    expected = torch.tensor([math.exp(-5), math.exp(9), math.exp(9)], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_each_row_may_have_a_target_of_its_own():
    targets = torch.tensor([[1e-12], [0.5], [3.0]], dtype=torch.float64)
    found = falling_root(lambda x: 1 / x, targets, log_low=-50.0, log_high=50.0, like=targets)
    torch.testing.assert_close(found, 1 / targets.squeeze(1), rtol=1e-8, atol=0)


def test_rounding_below_zero_far_from_the_root_leads_nowhere():
    like = torch.zeros(2, 4, dtype=torch.float64)
    found = falling_root(
        lambda x: torch.where(x < 1e3, 1 / x, -1e-17), 0.5, log_low=-50.0, log_high=50.0, like=like
    )
    torch.testing.assert_close(found, torch.full((2,), 2.0, dtype=torch.float64))
