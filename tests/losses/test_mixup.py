"""Blends: who with whom, in what shares, and the same again after a resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import DataError, SettingsError
from tilth.losses.mixup import (
    MixupPlan,
    mix,
    mixed_targets,
    mixup_plan,
    weighted_mixup_plan,
)
from tilth.seeding import generator

KINDS = ("sample_weight", "sample", "weight")


def test_plain_plan_is_a_permutation():
    plan = mixup_plan(200, 2.0, generator(0, "mixup", 5))
    assert sorted(plan.partners.tolist()) == list(range(200))
    assert plan.shares.dtype == torch.float32
    assert ((plan.shares >= 0) & (plan.shares <= 1)).all()
    assert float(plan.shares.mean()) == pytest.approx(0.5, abs=0.06)
    assert float(plan.shares.var()) == pytest.approx(0.05, abs=0.02)  # Beta(2, 2)


def test_alpha_of_zero_leaves_examples_as_they_are():
    plan = mixup_plan(8, 0.0, generator(0, "mixup", 1))
    values = torch.randn(8, 3)
    assert torch.equal(mix(values, plan), values)


def test_partners_follow_the_weights():
    weights = torch.tensor([0.0, 0.1, 0.2, 0.0, 0.7, 0.0])
    counts = torch.zeros(6)
    for step in range(2000):
        plan = weighted_mixup_plan(weights, "sample_weight", 1.0, generator(0, "mixup", step))
        counts += torch.bincount(plan.partners, minlength=6)
    torch.testing.assert_close(counts / counts.sum(), weights, atol=0.015, rtol=0)
    assert (counts[weights == 0] == 0).all()
    sharp = weighted_mixup_plan(weights, "sample", 50.0, generator(0, "mixup", 0))
    assert set(sharp.partners.tolist()) == {4}


@given(
    weights=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    power=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    kind=st.sampled_from(KINDS),
)
def test_shares_are_those_of_the_weights(weights, power, kind):
    weights = torch.tensor(weights)
    plan = weighted_mixup_plan(weights, kind, power, generator(0, "mixup", 1))
    assert ((plan.partners >= 0) & (plan.partners < len(weights))).all()
    assert ((plan.shares >= 0) & (plan.shares <= 1)).all()
    if kind == "sample":
        return
    if kind == "weight":
        assert sorted(plan.partners.tolist()) == list(range(len(weights)))
    relative = weights.double() / weights.max().double() if weights.any() else weights.double() + 1
    trust = relative**power
    both = trust + trust[plan.partners]
    expected = torch.where(both > 0, trust / both, 0.5).float()
    torch.testing.assert_close(plan.shares, expected)


def test_equal_or_no_weights_blend_halves():
    for weights in (torch.full((7,), 1 / 7), torch.zeros(7)):
        plan = weighted_mixup_plan(weights, "sample_weight", 1.0, generator(0, "mixup", 2))
        assert plan.shares.tolist() == [0.5] * 7
        assert len(set(plan.partners.tolist())) > 1


def test_mixing_by_hand():
    plan = MixupPlan(partners=torch.tensor([1, 1, 0]), shares=torch.tensor([0.25, 0.5, 1.0]))
    values = torch.tensor([[[0.0, 4.0]], [[8.0, 0.0]], [[5.0, 6.0]]], requires_grad=True)
    mixed = mix(values, plan)
    assert mixed.tolist() == [[[6.0, 1.0]], [[8.0, 0.0]], [[5.0, 6.0]]]
    (gradient,) = torch.autograd.grad(mixed.sum(), values)
    assert gradient[:, 0, 0].tolist() == [0.25, 1.75, 1.0]
    assert mix(values.detach().half(), plan).dtype == torch.float16
    targets = mixed_targets(torch.tensor([0, 2, 1]), plan, 3)
    assert targets.tolist() == [[0.25, 0.0, 0.75], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("kind", KINDS)
def test_plans_repeat_with_the_seed(kind):
    weights = torch.rand(32)
    plans = [
        weighted_mixup_plan(weights, kind, 1.0, generator(seed, "mixup", step))
        for seed, step in ((3, 7), (3, 7), (3, 8), (4, 7))
    ]
    assert torch.equal(plans[0].partners, plans[1].partners)
    assert torch.equal(plans[0].shares, plans[1].shares)
    assert not torch.equal(plans[0].partners, plans[2].partners)
    assert not torch.equal(plans[0].partners, plans[3].partners)


def test_a_generator_of_torch_gives_the_seed_too():
    weights = torch.rand(32)
    plans = [
        weighted_mixup_plan(weights, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(plans[0].partners, plans[1].partners)
    assert not torch.equal(plans[0].partners, plans[2].partners)


def test_batches_of_one_and_none():
    for n in (0, 1):
        plans = [weighted_mixup_plan(torch.ones(n), kind, 1.0, generator(0)) for kind in KINDS]
        for plan in (*plans, mixup_plan(n, 2.0, generator(0))):
            assert plan.partners.tolist() == [0] * n
            assert torch.equal(mix(torch.ones(n, 2), plan), torch.ones(n, 2))


def test_what_cannot_be_blended_is_refused():
    with pytest.raises(SettingsError, match="alpha of mixup"):
        mixup_plan(4, -1.0, np.random.default_rng(0))
    with pytest.raises(SettingsError, match="power of mixup"):
        weighted_mixup_plan(torch.ones(4), "sample", -1.0, np.random.default_rng(0))
    with pytest.raises(SettingsError, match="generator"):
        weighted_mixup_plan(torch.ones(4))
    with pytest.raises(DataError, match="another batch"):
        mix(torch.ones(3), mixup_plan(4, 1.0, np.random.default_rng(0)))
