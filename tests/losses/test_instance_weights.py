"""Instance weights solve their problems, at any scale, for any batch that can be had."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_problems import SMOOTH, constrained, divergence, share_programme

from tilth.errors import SettingsError, TrainingError
from tilth.losses.divergences import alpha_radius, named_radius, order_of
from tilth.losses.instance_weights import (
    divergence_of,
    element_weights,
    instance_weights,
    lam_of_radius,
    radius_of_lam,
)

LOSSES = torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
NAMES = (*SMOOTH, "tv", "cvar")
VECTORS = {
    (0.0, 0.1): ([0.602711, 0.200904, 0.109584, 0.057401, 0.029401], 0.531912, 2.3821),
    (0.1, 0.1): ([0.633189, 0.194372, 0.100034, 0.049026, 0.023378], 0.604388, None),
    (0.1, 2.5): ([0.280913, 0.243092, 0.207617, 0.159934, 0.108444], 0.052167, 4.5777),
    (0.5, 1.0): ([0.385546, 0.272041, 0.188917, 0.106266, 0.047229], 0.206818, None),
    (1.0, 1.0): ([0.445097, 0.298358, 0.180963, 0.066573, 0.009010], 0.356140, None),
    (2.0, 3.0): ([0.345238, 0.297619, 0.238095, 0.119048, 0.0], 0.196570, None),
}
LAMS_AT_A_FIFTH = {0.0: 0.598730, 0.1: 0.675070, 0.5: 1.032812, 1.0: 1.619859, 2.0: 2.951422}

losses_strategy = st.lists(st.floats(0, 20, width=32), min_size=1, max_size=12).map(torch.tensor)
form_strategy = st.one_of(
    st.fixed_dictionaries({"lam": st.floats(0, 20)}),
    st.fixed_dictionaries({"delta": st.floats(0, 0.9)}),
)


def some_losses(n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).gamma(1.0, 1.5, size=n))


@pytest.mark.parametrize(("alpha", "lam"), VECTORS)
def test_vectors_of_the_derivation(alpha, lam):
    expected, radius, effective = VECTORS[alpha, lam]
    weights = instance_weights(LOSSES, divergence="alpha", alpha=alpha, lam=lam)
    assert weights.tolist() == pytest.approx(expected, abs=1.1e-6)
    assert float(divergence_of(weights, alpha=alpha)) == pytest.approx(radius, abs=2e-6)
    if effective is not None:
        assert float(1 / (weights**2).sum()) == pytest.approx(effective, abs=1e-4)


@pytest.mark.parametrize("alpha", LAMS_AT_A_FIFTH)
def test_lams_of_the_derivation(alpha):
    lam = lam_of_radius(LOSSES, 0.2, alpha=alpha)
    assert float(lam) == pytest.approx(LAMS_AT_A_FIFTH[alpha], abs=1e-6)


def test_weights_of_the_derivation_at_a_radius():
    weights = instance_weights(LOSSES, divergence="kl", delta=0.2)
    expected = [0.363055, 0.283616, 0.208294, 0.112349, 0.032686]
    assert weights.tolist() == pytest.approx(expected, abs=1e-6)
    moved = instance_weights(LOSSES, divergence="tv", delta=0.3)
    assert moved.tolist() == pytest.approx([0.5, 0.2, 0.2, 0.1, 0.0], abs=1e-6)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize(("alpha", "delta", "seed"), [(0.3, 0.05, 1), (0.7, 0.3, 2), (1.6, 0.2, 3)])
def test_constraint_form_matches_a_numerical_solver(name, alpha, delta, seed):
    losses = some_losses(7, seed) + seed  # no least loss of 0
    weights = instance_weights(losses, divergence=name, alpha=alpha, delta=delta)
    floor = 1e-6 if name in ("reverse_kl", "neyman") else 1e-12
    solved = constrained(
        losses.numpy(), lambda w: divergence(name, w, alpha=alpha), delta, floor=floor
    )
    np.testing.assert_allclose(weights.numpy(), solved, atol=2e-4)
    best = float(weights.double() @ losses)
    assert best == pytest.approx(float(solved @ losses.numpy()), rel=2e-6)


@pytest.mark.parametrize("name", ["tv", "cvar"])
@pytest.mark.parametrize("delta", [0.0, 0.05, 0.3, 0.37, 0.8])
def test_share_forms_match_a_linear_programme(name, delta):
    losses = some_losses(9, seed=4)
    weights = instance_weights(losses, divergence=name, delta=delta)
    solved, _ = share_programme(name, losses.numpy(), delta=delta)
    np.testing.assert_allclose(weights.numpy(), solved, atol=1e-6)


@pytest.mark.parametrize("name", ["tv", "cvar"])
@pytest.mark.parametrize("lam", [0.01, 0.1, 0.4, 1.0, 3.0, 30.0])
def test_penalised_form_matches_a_numerical_solver(name, lam):
    losses = some_losses(9, seed=5)
    weights = instance_weights(losses, divergence=name, lam=lam).numpy()
    solved, _ = share_programme(name, losses.numpy(), lam=lam)
    np.testing.assert_allclose(weights, solved, atol=1e-6)


@pytest.mark.parametrize("lam", [0.2, 1.0, 5.0])
def test_penalised_kl_is_the_least_of_its_objective(lam):
    losses = some_losses(8, seed=6)
    weights = instance_weights(losses, divergence="kl", lam=lam).double()

    def objective(w):
        return float(w @ losses + lam * divergence("kl", w, alpha=1.0))

    least = objective(weights)
    # The value of the problem: tilted risk with t = -1 / lam.
    assert least == pytest.approx(float(-lam * (-losses / lam).exp().mean().log()), rel=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(200):
        moved = weights.numpy() * np.exp(0.1 * rng.standard_normal(8))
        assert objective(torch.tensor(moved / moved.sum())) >= least - 1e-7


@pytest.mark.parametrize("alpha", [-3.0, -1.0, 0.0, 0.1, 0.9, 1.5, 2.0, 7.0])
@pytest.mark.parametrize("lam", [0.05, 1.0, 9.0])
def test_penalised_form_is_the_power_law(alpha, lam):
    losses = some_losses(20, seed=7)
    base = ((1 - alpha) * losses + lam).clamp(min=0)
    expected = base ** (1 / (alpha - 1))
    if not base.any():  # The least loss exceeds the temperature.
        expected[losses.argmin()] = 1.0
    weights = instance_weights(losses, alpha=alpha, lam=lam)
    torch.testing.assert_close(weights, (expected / expected.sum()).float())


def test_orders_near_one_go_over_into_kl():
    losses = some_losses(20)
    kl = instance_weights(losses, divergence="kl", lam=0.7)
    for alpha in (1 - 1e-9, 1 - 1e-6, 1 + 1e-9, 1 + 1e-6):
        torch.testing.assert_close(
            instance_weights(losses, alpha=alpha, lam=0.7), kl, rtol=1e-4, atol=1e-7
        )
    for alpha in (1e-9, 1e-6, -1e-6):
        near = instance_weights(losses, alpha=alpha, delta=0.3)
        exact = instance_weights(losses, divergence="reverse_kl", delta=0.3)
        torch.testing.assert_close(near, exact, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "order"),
    [("kl", 1), ("reverse_kl", 0), ("hellinger", 0.5), ("chi2", 2), ("neyman", -1)],
)
def test_named_divergences_are_orders(name, order):
    for form in ({"lam": 2.0}, {"delta": 0.1}):
        named = instance_weights(LOSSES, divergence=name, alpha=0.1, **form)
        assert torch.equal(named, instance_weights(LOSSES, alpha=float(order), **form))


@pytest.mark.parametrize("name", ["tsallis", "renyi", "beta", "gamma"])
@pytest.mark.parametrize("alpha", [0.4, 1.0, 2.5])
def test_kin_give_the_same_weights(name, alpha):
    alike = instance_weights(LOSSES, divergence=name, alpha=alpha, lam=3.0)
    assert torch.equal(alike, instance_weights(LOSSES, alpha=alpha, lam=3.0))
    # And at the same distance, which has another number.
    radius = float(divergence_of(alike, divergence=name, alpha=alpha))
    at_radius = instance_weights(LOSSES, divergence=name, alpha=alpha, delta=radius)
    torch.testing.assert_close(at_radius, alike, rtol=1e-4, atol=1e-6)
    if alpha != 1:
        by_definition = divergence(name, alike.double(), alpha=alpha)
        assert radius == pytest.approx(float(by_definition), rel=1e-5)


@given(
    name=st.sampled_from(["alpha", "tsallis", "renyi", "beta", "gamma"]),
    alpha=st.floats(0.1, 3),
    delta=st.floats(0, 0.2),
    count=st.integers(1, 100),
)
def test_radius_goes_through_every_name_and_back(name, alpha, delta, count):
    order = order_of(name, alpha)
    counts = torch.tensor(float(count), dtype=torch.float64)
    there = alpha_radius(delta, name, order, counts)
    assert float(named_radius(there, name, order, counts)) == pytest.approx(delta, abs=1e-9)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.3, 1.0, 2.0])
def test_alpha_divergence_is_the_formula(alpha):
    weights = instance_weights(LOSSES, alpha=0.5, lam=1.0).double()
    weights /= weights.sum()
    name = {-1.0: "neyman", 0.0: "reverse_kl", 1.0: "kl"}.get(alpha, "alpha")
    expected = float(divergence(name, weights, alpha=alpha))
    assert float(divergence_of(weights, alpha=alpha)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("delta", [1e-6, 0.01, 0.2])
def test_lam_and_delta_map_both_ways(name, delta):
    losses = some_losses(30, seed=8)
    alpha = 0.6
    lam = float(lam_of_radius(losses, delta, divergence=name, alpha=alpha))
    back = float(radius_of_lam(losses, lam, divergence=name, alpha=alpha))
    assert back == pytest.approx(delta, rel=1e-5)
    constrained_weights = instance_weights(losses, divergence=name, alpha=alpha, delta=delta)
    penalised = instance_weights(losses, divergence=name, alpha=alpha, lam=lam)
    torch.testing.assert_close(penalised, constrained_weights)


@pytest.mark.parametrize("name", ["tv", "cvar"])
@pytest.mark.parametrize("dropped", range(10))
def test_lam_and_delta_of_shares_map_in_whole_examples(name, dropped):
    losses = some_losses(10, seed=9)
    lam = float(lam_of_radius(losses, dropped / 10, divergence=name))
    assert float(radius_of_lam(losses, lam, divergence=name)) == pytest.approx(dropped / 10)
    between = float(lam_of_radius(losses, min(dropped / 10 + 0.05, 1.0), divergence=name))
    assert float(radius_of_lam(losses, between, divergence=name)) <= dropped / 10 + 0.05 + 1e-9


def test_a_high_least_loss_may_need_a_lam_below_zero():
    losses = torch.tensor([10.0, 10.1, 10.2])
    assert float(lam_of_radius(losses, 0.3, alpha=0.5)) < 0
    weights = instance_weights(losses, alpha=0.5, delta=0.3)
    assert float(divergence_of(weights, alpha=0.5)) == pytest.approx(0.3, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_temperature_has_its_limits(name):
    losses = torch.tensor([2.0, 0.0, 1.0, 0.0, 3.0])
    uniform = torch.full((5,), 0.2)
    for form in ({"lam": math.inf}, {"lam": 1e30}, {"delta": 0.0}):
        torch.testing.assert_close(instance_weights(losses, divergence=name, **form), uniform)
    # All mass on the least losses, in equal parts.
    least = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0])
    forms = [{"lam": 0.0}]
    if name not in ("reverse_kl", "neyman"):  # whose radius to a weight of 0 is infinite
        far = 1.0 if name in ("tv", "cvar") else 1e6
        forms.append({"delta": far})
    for form in forms:
        weights = instance_weights(losses, divergence=name, alpha=0.3, **form)
        torch.testing.assert_close(weights, least, atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.1, 0.5])
def test_lam_of_zero_is_the_limit_of_small_ones_below_order_one(alpha):
    cold = instance_weights(LOSSES, alpha=alpha, lam=0.0)
    torch.testing.assert_close(cold, instance_weights(LOSSES, alpha=alpha, lam=1e-9))
    expected = LOSSES ** (-1 / (1 - alpha))
    torch.testing.assert_close(cold, (expected / expected.sum()).float())


def test_a_least_loss_beyond_the_temperature_has_all_the_weight():
    weights = instance_weights(LOSSES + 10, divergence="chi2", lam=1.0)
    assert weights.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


@given(losses=losses_strategy, name=st.sampled_from(NAMES), form=form_strategy)
def test_weights_are_a_distribution_that_falls_with_the_loss(losses, name, form):
    weights = instance_weights(losses, divergence=name, **form)
    assert weights.dtype == torch.float32
    assert not weights.requires_grad
    assert (weights >= 0).all()
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    ordered = weights[losses.argsort()]
    # Losses that differ in their last bits may differ in weight by rounding alone.
    assert (ordered.diff() <= 1e-6).all()


@given(losses=losses_strategy, name=st.sampled_from(NAMES), delta=st.floats(1e-6, 0.9))
def test_constraint_is_kept(losses, name, delta):
    weights = instance_weights(losses, divergence=name, alpha=0.4, delta=delta)
    reached = float(divergence_of(weights, divergence=name, alpha=0.4))
    assert reached <= delta * (1 + 1e-4) + 1e-5


@given(losses=losses_strategy, name=st.sampled_from(NAMES), form=form_strategy, data=st.data())
def test_permutation_moves_the_weights_along(losses, name, form, data):
    order = torch.tensor(data.draw(st.permutations(range(len(losses)))))
    weights = instance_weights(losses, divergence=name, **form)
    moved = instance_weights(losses[order], divergence=name, **form)
    torch.testing.assert_close(moved, weights[order], rtol=1e-5, atol=1e-7)


@settings(max_examples=20)
@given(losses=losses_strategy, shift=st.floats(0, 10), scale=st.floats(0.1, 10))
def test_constrained_weights_know_neither_shift_nor_scale(losses, shift, scale):
    wide = losses.double()
    for name in ("alpha", "kl", "chi2", "tv", "cvar"):
        weights = instance_weights(wide, divergence=name, delta=0.2)
        # Ties that rounding makes or parts are another batch.
        moved = wide * scale + shift
        if len(moved.unique()) == len(wide.unique()):
            again = instance_weights(moved, divergence=name, delta=0.2)
            torch.testing.assert_close(again, weights, rtol=1e-3, atol=1e-4)


def test_shift_leaves_penalised_kl_alone_and_no_other_order():
    for shift in (0.5, 100.0):
        kl = [instance_weights(LOSSES + s, divergence="kl", lam=0.4) for s in (0.0, shift)]
        torch.testing.assert_close(*kl)
        power = [instance_weights(LOSSES + s, alpha=0.1, lam=0.4) for s in (0.0, shift)]
        assert not torch.allclose(*power)


@given(losses=losses_strategy, scale=st.sampled_from([1e-30, 1e-10, 1e10, 1e30]))
def test_scale_of_losses_and_temperature_cancels(losses, scale):
    wide = losses.double()
    for name in NAMES:
        weights = instance_weights(wide, divergence=name, lam=0.5)
        scaled = instance_weights(wide * scale, divergence=name, lam=0.5 * scale)
        if len((wide * scale).unique()) == len(wide.unique()):
            torch.testing.assert_close(scaled, weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [{"lam": 0.1}, {"delta": 0.2}, {"lam": 1e-30}, {"lam": 1e30}])
def test_any_scale_gives_numbers(name, form):
    for scale in (1e-38, 1e-30, 1.0, 1e30, 1e38):
        for losses in (LOSSES / 4 * scale, torch.tensor([0.0, 1e-30, 1.0, 1e30]) * min(scale, 1e7)):
            weights = instance_weights(losses, divergence=name, **form)
            assert weights.isfinite().all()
            assert float(weights.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_weighed_in_full(dtype):
    losses = LOSSES.to(dtype)
    weights = instance_weights(losses, divergence="kl", lam=0.05)
    assert weights.dtype == torch.float32
    assert torch.equal(weights, instance_weights(losses.double(), divergence="kl", lam=0.05))
    assert weights[2] > 0  # exp(-18) is nothing in half precision


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [{"lam": 0.1}, {"delta": 0.3}])
def test_batch_of_one_and_equal_losses_are_uniform(name, form):
    assert instance_weights(torch.tensor([3.0]), divergence=name, **form).tolist() == [1.0]
    assert instance_weights(torch.zeros(0), divergence=name, **form).tolist() == []
    weights = instance_weights(torch.full((6,), 2.5), divergence=name, **form)
    torch.testing.assert_close(weights, torch.full((6,), 1 / 6))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [{"lam": 0.8}, {"delta": 0.3}])
def test_infinite_losses_have_no_weight_unless_all_are(name, form):
    with_infinite = torch.cat([LOSSES, torch.tensor([math.inf])])
    weights = instance_weights(with_infinite, divergence=name, **form)
    assert weights[-1] == 0
    assert torch.equal(weights[:-1], instance_weights(LOSSES, divergence=name, **form))
    alike = instance_weights(torch.full((4,), math.inf), divergence=name, **form)
    torch.testing.assert_close(alike, torch.full((4,), 0.25))


@pytest.mark.parametrize("name", ["tv", "cvar"])
@pytest.mark.parametrize("delta", [0.1, 0.5, 0.75])
def test_equal_losses_get_equal_weights(name, delta):
    weights = instance_weights(
        torch.tensor([3.0, 1.0, 3.0, 3.0, 1.0]), divergence=name, delta=delta
    )
    assert len(weights[[0, 2, 3]].unique()) == 1
    assert len(weights[[1, 4]].unique()) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [{"lam": 0.8}, {"delta": 0.3}])
def test_masked_examples_are_as_if_they_were_not_there(name, form):
    losses = torch.tensor([0.1, math.nan, 0.5, 1.0, -math.inf, 2.0, 4.0])
    mask = torch.tensor([True, False, True, True, False, True, True])
    weights = instance_weights(losses, divergence=name, mask=mask, **form)
    assert (weights[~mask] == 0).all()
    assert torch.equal(weights[mask], instance_weights(losses[mask], divergence=name, **form))
    nothing = instance_weights(
        losses, divergence=name, mask=torch.zeros(7, dtype=torch.bool), **form
    )
    assert (nothing == 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [{"lam": 0.8}, {"delta": 0.3}])
def test_groups_keep_their_share(name, form):
    losses = some_losses(30, seed=10)
    losses[3] = math.inf
    groups = torch.arange(30) % 3
    groups[groups == 2] = 17
    mask = torch.ones(30, dtype=torch.bool)
    mask[:2] = False
    weights = instance_weights(losses, divergence=name, mask=mask, groups=groups, **form)
    counted = mask & losses.isfinite()
    for group in (0, 1, 17):
        of_group = groups == group
        share = float((counted & of_group).sum() / counted.sum())
        assert float(weights[of_group].sum()) == pytest.approx(share, abs=1e-6)
        alone = instance_weights(losses[of_group], divergence=name, mask=mask[of_group], **form)
        torch.testing.assert_close(weights[of_group], share * alone)


def test_elements_are_weighed_by_themselves_or_by_their_example():
    losses = some_losses(24).view(2, 3, 4)
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[0, 0] = False
    by_element = element_weights(losses, instance="element", mask=mask, lam=0.3)
    flat = instance_weights(losses.flatten(), mask=mask.flatten(), lam=0.3)
    assert torch.equal(by_element.flatten(), flat)
    by_example = element_weights(losses, instance="example", mask=mask, lam=0.3)
    means = torch.stack([losses[0][mask[0]].mean(), losses[1].mean()])
    whole = instance_weights(means, lam=0.3)
    torch.testing.assert_close(by_example.sum(dim=(1, 2)), whole)
    torch.testing.assert_close((by_example * losses).sum(), (whole.double() * means).sum())
    assert (by_example[~mask] == 0).all()


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_loss_that_is_no_number_is_named(bad):
    losses = torch.tensor([1.0, bad, 2.0, bad])
    with pytest.raises(TrainingError, match="not a number") as caught:
        instance_weights(losses, lam=1.0)
    assert "row 1, 3" in caught.value.where
    with pytest.raises(TrainingError):
        lam_of_radius(losses, 0.1)


@pytest.mark.parametrize(
    "form", [{}, {"lam": 1.0, "delta": 1.0}, {"lam": -1.0}, {"delta": math.nan}]
)
def test_neither_both_or_negative_is_refused(form):
    with pytest.raises(SettingsError, match="exactly one"):
        instance_weights(LOSSES, **form)


def test_kin_have_no_order_of_zero_or_less():
    with pytest.raises(SettingsError, match="not known"):
        instance_weights(LOSSES, divergence="renyi", alpha=-0.5, lam=1.0)
    with pytest.raises(SettingsError, match="not known"):
        instance_weights(LOSSES, divergence="alpha", alpha=math.inf, lam=1.0)
