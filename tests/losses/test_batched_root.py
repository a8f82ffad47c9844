"""Roots of many rows at once are those of each."""

import math

import pytest
import torch

from tilth.losses import batched_root
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


@pytest.mark.parametrize("rounds", range(6, 16))
def test_a_found_root_stays_whatever_the_other_rows_need(rounds, monkeypatch):
    """The last row jumps over its target: the rounds it needs are not to move the others."""
    monkeypatch.setattr(batched_root, "ASKED_ROUNDS", rounds)
    roots = torch.logspace(-3, 3, 500, dtype=torch.float64).unsqueeze(1)
    falls = torch.logspace(-1, 1, 500, dtype=torch.float64).unsqueeze(1)

    def function(points):
        smooth = torch.log1p((roots / points) ** falls) / math.log(2)
        return torch.cat([smooth[:-1], torch.where(points < 1.234, 2.0, 0.5)[-1:]])

    found = falling_root(function, 1.0, log_low=-300.0, log_high=80.0, like=roots)
    torch.testing.assert_close(found[:-1], roots[:-1, 0], rtol=1e-8, atol=0)
