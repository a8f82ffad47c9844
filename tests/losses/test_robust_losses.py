"""Losses that trust labels less are what their papers write, and cross-entropy in the limit."""

import math
from dataclasses import fields

import pytest
import torch
from torch.nn.functional import cross_entropy

from tilth.errors import SettingsError
from tilth.losses.reweighting_settings import ReweightingSettings
from tilth.losses.robust_co_teaching import chosen_by_the_other, kept_share
from tilth.losses.robust_early_learning import EarlyTargets
from tilth.losses.robust_losses import (
    LOSSES,
    generalised_cross_entropy,
    hard_bootstrapping,
    label_smoothing,
    soft_bootstrapping,
    symmetric_cross_entropy,
)
from tilth.losses.robust_settings import READERS, RobustSettings


def answers(num=6, num_classes=4, seed=0, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num, num_classes, generator=random, dtype=torch.float64).to(dtype)
    return logits, torch.randint(num_classes, (num,), generator=random)


def plain(logits, labels, of_example):
    """Each loss by hand, from the chances of one example and its label."""
    rows = zip(logits.double().softmax(dim=1).tolist(), labels.tolist(), strict=True)
    return torch.tensor([of_example(chances, label) for chances, label in rows])


def test_losses_are_their_written_formulas():
    logits, labels = answers()
    k = logits.shape[1]

    def smoothed(p, y):
        return -sum((0.1 / k + 0.9 * (c == y)) * math.log(p[c]) for c in range(k))

    def soft(p, y):
        return -sum((0.7 * (c == y) + 0.3 * p[c]) * math.log(p[c]) for c in range(k))

    def hard(p, y):
        return -0.7 * math.log(p[y]) - 0.3 * math.log(max(p))

    def generalised(p, y):
        return (1 - p[y] ** 0.7) / 0.7

    def truncated(p, y):
        return (1 - max(p[y], 0.5) ** 0.7) / 0.7

    def symmetric(p, y):
        reverse = -sum(p[c] * -4.0 for c in range(k) if c != y)
        return 0.1 * -math.log(p[y]) + 2.0 * reverse

    ours = {
        smoothed: label_smoothing(logits, labels, smoothing=0.1),
        soft: soft_bootstrapping(logits, labels, beta=0.7),
        hard: hard_bootstrapping(logits, labels, beta=0.7),
        generalised: generalised_cross_entropy(logits, labels, q=0.7),
        truncated: generalised_cross_entropy(logits, labels, q=0.7, truncation=0.5),
        symmetric: symmetric_cross_entropy(logits, labels, alpha=0.1, beta=2.0, log_zero=-4.0),
    }
    for written, computed in ours.items():
        expected = plain(logits, labels, written).float()
        torch.testing.assert_close(computed, expected, msg=written.__name__)


def test_limits_are_cross_entropy():
    logits, labels = answers()
    expected = cross_entropy(logits, labels, reduction="none")
    for computed in (
        label_smoothing(logits, labels, smoothing=0.0),
        soft_bootstrapping(logits, labels, beta=1.0),
        hard_bootstrapping(logits, labels, beta=1.0),
        symmetric_cross_entropy(logits, labels, alpha=1.0, beta=0.0, log_zero=-4.0),
    ):
        torch.testing.assert_close(computed, expected)
    nearly = generalised_cross_entropy(logits, labels, q=1e-4)
    torch.testing.assert_close(nearly, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_robust_gradients_match_finite_differences(kind):
    logits, labels = answers(num=3)
    settings = RobustSettings(kind=kind, truncation=0.05 if kind == "gce" else 0.0)
    leaf = logits.requires_grad_()
    LOSSES[kind](settings, leaf, labels).sum().backward()
    step = 1e-2
    with torch.no_grad():
        for place in ((0, 0), (1, 2), (2, 3)):
            ends = []
            for sign in (1, -1):
                moved = logits.detach().clone()
                moved[place] += sign * step
                ends.append(LOSSES[kind](settings, moved, labels).sum())
            slope = (ends[0] - ends[1]) / (2 * step)
            torch.testing.assert_close(leaf.grad[place], slope, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_sure_answers_stay_finite(kind):
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)
    losses = LOSSES[kind](RobustSettings(kind=kind), logits, torch.tensor([0, 0]))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logits.grad.isfinite().all()


def test_truncated_examples_teach_nothing():
    logits = torch.tensor([[0.0, 3.0], [3.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 0])
    generalised_cross_entropy(logits, labels, q=0.7, truncation=0.5).sum().backward()
    assert not logits.grad[0].any()
    assert logits.grad[1].any()


def test_early_targets_match_a_plain_loop():
    early, beta = EarlyTargets(5, 3), 0.7
    targets = [[0.0] * 3 for _ in range(5)]
    for seed in range(4):
        logits, _ = answers(num=3, num_classes=3, seed=seed)
        rows = torch.tensor([(seed + shift) % 5 for shift in (0, 2, 4)])
        term = early(logits, rows, beta=beta)
        for place, row in enumerate(rows.tolist()):
            chances = logits[place].softmax(dim=0).clamp(1e-4, 1 - 1e-4).tolist()
            answer = [chance / sum(chances) for chance in chances]
            moved = zip(targets[row], answer, strict=True)
            targets[row] = [beta * old + (1 - beta) * new for old, new in moved]
            agreed = sum(t * p for t, p in zip(targets[row], chances, strict=True))
            assert term[place].item() == pytest.approx(math.log(1 - agreed), rel=1e-5)
    torch.testing.assert_close(early.targets, torch.tensor(targets))


def test_early_term_pulls_towards_the_target():
    early = EarlyTargets(1, 2)
    early.targets[:] = torch.tensor([[0.9, 0.1]])
    logits = torch.zeros(1, 2, requires_grad=True)
    early(logits, torch.tensor([0]), beta=0.9).sum().backward()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


def test_kept_share_falls_to_what_is_thought_right():
    shares = [kept_share(step, forget_rate=0.4, ramp=10.0) for step in range(30)]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[10] == shares[29] == 0.6
    assert kept_share(0, forget_rate=0.4, ramp=0.0) == pytest.approx(0.6)


def test_each_network_learns_what_the_other_finds_easy():
    losses = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    chosen = chosen_by_the_other(losses, 0.5)
    assert chosen.tolist() == [[False, False, True, True], [True, True, False, False]]
    mask = torch.tensor([True, True, True, False])
    assert chosen_by_the_other(losses, 0.5, mask)[0].tolist() == [False, True, True, False]
    assert chosen_by_the_other(losses, 0.01).sum(dim=1).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"q": 0.0}, "'robust.q'"),
        ({"q": 1.5}, "'robust.q'"),
        ({"smoothing": 1.0}, "'robust.smoothing'"),
        ({"kind": "bootstrap_soft", "beta": 1.2}, "'robust.beta'"),
        ({"kind": "elr", "beta": 1.0}, "'robust.beta'"),
        ({"log_zero": 1.0}, "'robust.log_zero'"),
        ({"forget_rate": 1.0}, "'robust.forget_rate'"),
        ({"mixup_alpha": -1.0}, "'robust.mixup_alpha'"),
        ({"lam": math.nan}, "'robust.lam'"),
        ({"kind": "gce", "keep_weights": True}, "'robust.keep_weights'"),
        ({"kind": "ciw", "lam": 0.5}, "'robust.lam' is not read"),
        ({"kind": "ciw", "alpha": 1.0}, "'robust.alpha' is not read"),
        ({"q": 0.5}, "'robust.q' is not read by kind 'none'"),
        ({"kind": "gce", "reweighting": ReweightingSettings()}, "'robust.reweighting' is not read"),
        ({"kind": "cicw", "reweighting": ReweightingSettings()}, "'cicw' needs"),
        ({"kind": "cicw_m", "reweighting": ReweightingSettings(lam=5.0)}, "'cicw_m' needs"),
        (
            {"kind": "ciw", "reweighting": ReweightingSettings(class_divergence="tv")},
            "which 'ciw' cannot",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(values, words):
    with pytest.raises(SettingsError, match=words):
        RobustSettings(**values)


def test_every_number_says_which_kinds_read_it():
    """But the kind itself, and what is for boxes alone."""
    names = {entry.name for entry in fields(RobustSettings)}
    assert names - set(READERS) == {"kind", "weigh_boxes"}


def test_numbers_of_a_kind_are_its_papers():
    betas = [RobustSettings(kind=kind).applied_beta for kind in ("bootstrap_soft", "sce", "elr")]
    assert betas == [0.95, 1.0, 0.7]
    assert RobustSettings(kind="elr", beta=0.3).applied_beta == 0.3
    assert RobustSettings(kind="cicw_m").applied_reweighting.lam == 2.5
    given = ReweightingSettings(lam=7.0)
    assert RobustSettings(kind="ciw", reweighting=given).applied_reweighting is given
