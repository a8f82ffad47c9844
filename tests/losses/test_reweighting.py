"""Steps of a run: the schedule, what flows backwards, and what is left out."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, softmax

from tilth.errors import DataError, SettingsError, TrainingError
from tilth.losses.class_weights import class_weighted_losses, class_weights
from tilth.losses.instance_weights import element_weights, instance_weights
from tilth.losses.reweighting import Reweighting, lam_of_step, reweighted
from tilth.losses.reweighting_settings import ReweightingSettings

LATE = 99
STEPS = 100


def some_logits(n=16, k=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, k, generator=generator)
    return logits.requires_grad_(), torch.randint(k, (n,), generator=generator)


def test_schedule_of_the_release():
    # 4,000 of 50,000 steps uniform, then 3,000 from 10 lam to lam.
    settings = ReweightingSettings(lam=0.1)
    assert lam_of_step(settings, 3999, 50_000) == (None, None)
    assert lam_of_step(settings, 4000, 50_000) == (1.0, None)
    assert lam_of_step(settings, 5500, 50_000)[0] == pytest.approx(0.55)
    for step in (7000, 49_999, 10**6):
        assert lam_of_step(settings, step, 50_000)[0] == pytest.approx(0.1)
    radius = ReweightingSettings(delta=0.5)
    assert lam_of_step(radius, 0, 50_000) == (None, None)
    assert lam_of_step(radius, 4000, 50_000)[1] == pytest.approx(0.05)
    assert lam_of_step(radius, 7000, 50_000)[1] == pytest.approx(0.5)
    at_once = ReweightingSettings(lam=0.3, burn_in=0.0, ramp=0.0)
    assert lam_of_step(at_once, 0, 10) == (0.3, None)


@pytest.mark.parametrize("class_divergence", ["none", "tv", "kl", "l2", "anchored_kl"])
@pytest.mark.parametrize("form", [{"lam": 0.1}, {"delta": 0.3}])
def test_burn_in_is_plain_cross_entropy(class_divergence, form):
    settings = ReweightingSettings(class_divergence=class_divergence, **form)
    logits, labels = some_logits()
    total, weights = Reweighting(settings, STEPS).loss(logits, labels, 0)
    torch.testing.assert_close(total, cross_entropy(logits, labels))
    torch.testing.assert_close(weights, torch.full((16,), 1 / 16))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_anchored_kl_of_radius_zero_is_label_smoothing(smoothing):
    settings = ReweightingSettings(
        class_divergence="anchored_kl", gamma=0.0, anchor_smoothing=smoothing
    )
    logits, labels = some_logits()
    inner = Reweighting(settings, STEPS).inner_losses(logits, labels, LATE)
    expected = cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(inner, expected)


def test_loss_is_the_weighted_sum_of_inner_losses():
    settings = ReweightingSettings(class_divergence="kl", gamma=0.2, lam=0.3)
    logits, labels = some_logits()
    total, weights = Reweighting(settings, steps=STEPS).loss(logits, labels, LATE)
    losses = -logits.detach().log_softmax(dim=1)
    inner = class_weighted_losses(losses, class_weights(losses, labels, divergence="kl", gamma=0.2))
    expected = instance_weights(inner, lam=0.3)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(total, (expected * inner).sum())


@pytest.mark.parametrize("lam", [1.0, 1 / 0.7, 3.0])
def test_kl_weights_give_the_gradient_of_gce(lam):
    logits, labels = some_logits()
    settings = ReweightingSettings(divergence="kl", lam=lam)
    total, _ = Reweighting(settings, STEPS).loss(logits, labels, LATE)
    (ours,) = torch.autograd.grad(total, logits)
    # Generalised cross-entropy, (1 - p^q) / q with q = 1 / lam, of the same batch; the weights are
    # normalised, which is a common factor.
    own = softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    generalised = ((1 - own ** (1 / lam)) * lam).sum()
    (theirs,) = torch.autograd.grad(generalised, logits)
    torch.testing.assert_close(ours, theirs / (own.detach() ** (1 / lam)).sum())


def test_kl_of_lam_one_is_mean_absolute_error():
    logits, labels = some_logits(seed=1)
    total, _ = Reweighting(ReweightingSettings(divergence="kl", lam=1.0), STEPS).loss(
        logits, labels, LATE
    )
    (ours,) = torch.autograd.grad(total, logits)
    p = softmax(logits, dim=1)
    distance = (p - torch.nn.functional.one_hot(labels, 5)).abs().sum() / 2
    (theirs,) = torch.autograd.grad(distance, logits)
    own = p.detach().gather(1, labels.unsqueeze(1)).sum()
    torch.testing.assert_close(ours, theirs / own)


@pytest.mark.parametrize("name", ["alpha", "kl", "chi2", "reverse_kl", "hellinger"])
def test_detached_weights_are_the_gradient_of_the_value(name):
    """Danskin: at a fixed radius the value's derivative by a loss is the loss' weight."""
    losses = torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)

    def value(at):
        return float(instance_weights(at, divergence=name, delta=0.2).double() @ at)

    weights = instance_weights(losses, divergence=name, delta=0.2)
    for row in range(5):
        step = torch.zeros(5, dtype=torch.float64)
        step[row] = 0.02
        slope = (value(losses + step) - value(losses - step)) / 0.04
        assert slope == pytest.approx(float(weights[row]), abs=2e-4)


def test_masked_rows_may_hold_anything():
    settings = ReweightingSettings(class_divergence="l2", per_class=True)
    logits, labels = some_logits()
    mask = torch.arange(16) < 12
    broken = logits.detach().clone()
    broken[~mask] = math.nan
    broken.requires_grad_()
    odd = labels.where(mask, -100)
    reweighting = Reweighting(settings, STEPS)
    total, weights = reweighting.loss(broken, odd, LATE, mask=mask)
    total.backward()
    expected, of_kept = reweighting.loss(logits[mask], labels[mask], LATE)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(weights[mask], of_kept)
    assert (weights[~mask] == 0).all()
    assert (broken.grad[~mask] == 0).all()
    assert broken.grad.isfinite().all()


def test_an_impossible_label_has_no_weight_and_no_gradient():
    logits = torch.tensor([[0.0, -math.inf], [0.0, 1.0], [2.0, 0.0]], requires_grad=True)
    labels = torch.tensor([1, 1, 0])
    total, weights = Reweighting(ReweightingSettings(), STEPS).loss(logits, labels, LATE)
    total.backward()
    assert weights[0] == 0
    assert total.isfinite()
    assert logits.grad[1:].isfinite().all()


def test_each_class_keeps_its_share():
    logits, labels = some_logits(n=60)
    settings = ReweightingSettings(per_class=True, lam=0.05)
    _, weights = Reweighting(settings, STEPS).loss(logits, labels, LATE)
    for class_ in range(5):
        share = (labels == class_).float().mean()
        assert float(weights[labels == class_].sum()) == pytest.approx(float(share), abs=1e-6)
    free = Reweighting(ReweightingSettings(lam=0.05), STEPS).loss(logits, labels, LATE)[1]
    assert not torch.allclose(free, weights)


def test_distributions_as_targets_equal_their_labels():
    logits, labels = some_logits()
    hot = torch.nn.functional.one_hot(labels, 5).float()
    for name in ("none", "tv", "kl", "l2", "anchored_kl"):
        reweighting = Reweighting(ReweightingSettings(class_divergence=name), STEPS)
        ours = reweighting.loss(logits, labels, LATE)
        theirs = reweighting.loss(logits, hot, LATE)
        torch.testing.assert_close(ours, theirs)


def test_any_loss_with_values_of_examples_can_be_reweighted():
    settings = ReweightingSettings(divergence="chi2", delta=0.2)

    def absolute(found, wanted, *, scale):
        return scale * (found - wanted).abs()

    found, wanted = torch.randn(9, requires_grad=True), torch.zeros(9)
    total, weights = reweighted(absolute, settings, STEPS)(found, wanted, scale=2.0, step=LATE)
    losses = 2 * found.detach().abs()
    torch.testing.assert_close(weights, instance_weights(losses, divergence="chi2", delta=0.2))
    (gradient,) = torch.autograd.grad(total, found)
    torch.testing.assert_close(gradient, 2 * weights * found.detach().sign())


def test_pixels_are_weighed_by_the_same_schedule():
    losses = torch.rand(3, 4, 4)
    reweighting = Reweighting(ReweightingSettings(lam=0.2), STEPS)
    early = reweighting.element_weights(losses, 0, instance="element")
    torch.testing.assert_close(early, torch.full((3, 4, 4), 1 / 48))
    late = reweighting.element_weights(losses, LATE, instance="example")
    torch.testing.assert_close(late, element_weights(losses, instance="example", lam=0.2))
    torch.testing.assert_close(reweighting.weighted_sum(losses, late), (losses * late).sum())


def test_half_precision_logits_give_a_full_precision_loss():
    logits, labels = some_logits()
    reweighting = Reweighting(ReweightingSettings(class_divergence="kl", lam=0.05), STEPS)
    half = logits.detach().bfloat16().requires_grad_()
    total, weights = reweighting.loss(half, labels, LATE)
    total.backward()
    assert total.dtype == weights.dtype == torch.float32
    assert half.grad.isfinite().all()


@pytest.mark.parametrize("class_divergence", ["none", "tv"])
def test_bad_batches_are_refused(class_divergence):
    reweighting = Reweighting(ReweightingSettings(class_divergence=class_divergence), STEPS)
    logits, labels = some_logits()
    for label in (-1, 5):
        with pytest.raises(DataError, match="not one of the classes"):
            reweighting.loss(logits, labels.index_fill(0, torch.tensor([3]), label), LATE)
    with pytest.raises(TrainingError, match="not a number") as caught:
        reweighting.loss(
            logits.masked_fill(torch.arange(16).unsqueeze(1) == 3, math.nan), labels, LATE
        )
    assert "row 3" in caught.value.where
    total, weights = reweighting.loss(logits[:1], labels[:1], LATE)
    assert weights.tolist() == [1.0]
    assert total.isfinite()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lam", -1.0),
        ("lam", math.nan),
        ("delta", -0.1),
        ("gamma", -0.1),
        ("burn_in", 1.5),
        ("ramp", 0.95),
        ("ramp_from", 0.5),
        ("alpha", math.inf),
        ("anchor_smoothing", 2.0),
    ],
)
def test_settings_that_cannot_be_used_are_refused(name, value):
    with pytest.raises(SettingsError, match=f"'{name}'"):
        ReweightingSettings(**{name: value})


def test_settings_know_what_goes_together():
    with pytest.raises(SettingsError, match="'alpha'"):
        ReweightingSettings(divergence="renyi", alpha=0.0)
    with pytest.raises(SettingsError, match="'delta'"):
        ReweightingSettings(divergence="tv", delta=1.5)
    with pytest.raises(SettingsError, match="'gamma'"):
        ReweightingSettings(class_divergence="tv", gamma=1.5)
    with pytest.raises(SettingsError, match="needs steps"):
        Reweighting(ReweightingSettings(), 0)
