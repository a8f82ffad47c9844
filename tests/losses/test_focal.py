"""The focal loss is the formula of the paper, and cross-entropy where gamma is 0."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from tilth.losses.focal import focal_cross_entropy

logit = st.floats(-8, 8, width=32)


@given(logit=logit, gamma=st.sampled_from([0.5, 1.0, 2.0, 5.0]), alpha=st.floats(0, 1, width=32))
def test_eq5_focal_loss_by_hand(logit, gamma, alpha):
    p = 1 / (1 + math.exp(-logit))
    yes = -alpha * (1 - p) ** gamma * math.log(p)
    no = -(1 - alpha) * p**gamma * math.log(1 - p)
    losses = focal_cross_entropy(
        torch.tensor([logit, logit]), torch.tensor([1.0, 0.0]), gamma=gamma, alpha=alpha
    )
    assert losses.tolist() == pytest.approx([yes, no], rel=1e-3, abs=1e-5)


def test_gamma_zero_is_cross_entropy():
    logits, targets = torch.randn(50), torch.rand(50)
    expected = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(focal_cross_entropy(logits, targets, gamma=0.0), expected)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_focal_gradient_matches_finite_differences(gamma):
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)
    for target in (0.0, 1.0, 0.35):
        targets = torch.full((9,), target, dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda x, y=targets: focal_cross_entropy(x, y, gamma=gamma, alpha=0.25), logits
        )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradient_is_finite_where_the_prediction_is_perfect(gamma):
    logits = torch.tensor([0.0, 200.0, -200.0], requires_grad=True)
    focal_cross_entropy(logits, torch.tensor([0.5, 1.0, 0.0]), gamma=gamma).sum().backward()
    assert logits.grad.isfinite().all()


def test_what_is_nearly_right_counts_less():
    logits, targets = torch.tensor([3.0, -3.0]), torch.ones(2)
    plain = focal_cross_entropy(logits, targets, gamma=0.0)
    focal = focal_cross_entropy(logits, targets, gamma=2.0)
    share = focal / plain
    assert share[0] < 0.01
    assert share[1] > 0.9
