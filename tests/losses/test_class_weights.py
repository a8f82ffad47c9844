"""Class weights solve their problems, and come to bootstrapping where they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot
from weight_problems import constrained

from tilth.errors import DataError, SettingsError, TrainingError
from tilth.losses.class_weights import class_weighted_losses, class_weights

LOSSES = -torch.tensor([[0.6, 0.25, 0.1, 0.05]], dtype=torch.float64).log()
LABEL = torch.tensor([2])
MIXED = torch.tensor([[0.0, 0.3, 0.7, 0.0]], dtype=torch.float64)
# divergence, target, gamma: weights (or None), inner loss.
VECTORS = [
    ("tv", LABEL, 0.1, [0.1, 0, 0.9, 0], 2.123409),
    ("kl", LABEL, 0.1, None, 2.132077),
    ("kl", LABEL, 0.01, [0.00995, 0, 0.99005, 0], 2.284757),
    ("l2", LABEL, 0.02, [0.099232, 0.001519, 0.899249, 0], 2.123394),
    ("l2", LABEL, 0.1, [0.221889, 0.003396, 0.774715, 0], 1.901901),
    ("kl", MIXED, 0.05, [0, 0.454597, 0.545403, 0], 1.886042),
    ("kl", MIXED, 0.2, [0.132197, 0.405499, 0.462304, 0], 1.694164),
]
DIVERGENCES = ("tv", "kl", "l2", "anchored_kl")


def some_batch(n=6, k=5, seed=0):
    rng = np.random.default_rng(seed)
    losses = torch.from_numpy(-np.log(rng.dirichlet(np.ones(k), size=n)))
    labels = torch.from_numpy(rng.integers(k, size=n))
    other = torch.from_numpy(rng.integers(k, size=n))
    share = torch.from_numpy(rng.uniform(0.1, 0.9, size=(n, 1)))
    return losses, labels, share * one_hot(labels, k) + (1 - share) * one_hot(other, k)


def distance(name, v, q):
    """From the target to the weights, by its definition."""
    if name == "tv":
        return (v - q).abs().sum() / 2
    if name == "l2":
        return ((v - q) ** 2).sum()
    if name == "kl":
        return (torch.special.xlogy(q, q) - torch.special.xlogy(q, v)).sum()
    return (torch.special.xlogy(v, v) - v * q.log()).sum()


@pytest.mark.parametrize(("name", "target", "gamma", "weights", "value"), VECTORS)
def test_class_vectors_of_the_derivation(name, target, gamma, weights, value):
    found = class_weights(LOSSES, target, divergence=name, gamma=gamma)
    assert float(class_weighted_losses(LOSSES, found)) == pytest.approx(value, abs=1e-6)
    if weights is not None:
        assert found[0].tolist() == pytest.approx(weights, abs=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("gamma", [0.02, 0.2, 0.6])
@pytest.mark.parametrize("is_mixed", [False, True])
def test_class_weights_match_a_numerical_solver(name, gamma, is_mixed):
    losses, labels, mixed = some_batch(seed=3)
    targets = mixed if is_mixed else labels
    weights = class_weights(losses, targets, divergence=name, gamma=gamma, smoothing=0.1)
    wanted = mixed if is_mixed else one_hot(labels, 5).double()
    if name == "anchored_kl":
        wanted = 0.9 * wanted + 0.1 / 5
    for loss, v, q in zip(losses, weights.double(), wanted, strict=True):
        assert float(distance(name, v, q)) <= gamma + 1e-6
        solved = constrained(
            loss.numpy(),
            lambda w, q=q: distance(name, w, q),
            gamma,
            start=0.999 * q.numpy() + 0.001 / 5,
            floor=0.0 if name in ("tv", "l2") else 1e-9,
        )
        best = float(solved @ loss.numpy())
        assert float(v @ loss) <= best + 1e-5
        if name != "tv":  # total variation is not smooth, and the solver may stop short of it
            assert float(v @ loss) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("name", ["kl", "l2", "anchored_kl"])
@pytest.mark.parametrize("gamma", [1e-6, 0.001, 0.05])
def test_all_of_the_radius_is_used(name, gamma):
    losses, _, mixed = some_batch(n=2000, k=10, seed=9)
    weights = class_weights(losses, mixed, divergence=name, gamma=gamma).double()
    anchors = 0.9 * mixed + 0.01 if name == "anchored_kl" else mixed
    pairs = zip(weights, anchors, strict=True)
    reached = torch.stack([distance(name, v, q) for v, q in pairs])
    # Where all is on the predicted class already, there is nowhere to go.
    is_under_way = weights.gather(1, losses.argmin(dim=1, keepdim=True)).squeeze(1) < 0.999
    assert is_under_way.sum() > 1500
    assert (reached < gamma + 1e-6).all()
    # Weights in float32 say no more of so small a divergence as the least.
    wanted = torch.full_like(reached, gamma)[is_under_way]
    torch.testing.assert_close(reached[is_under_way], wanted, rtol=1e-3, atol=3e-7)


def on_simplex(points):
    """The nearest point whose entries are 0 or more and sum to 1, by sorting."""
    ordered = np.sort(points)[::-1]
    thresholds = (np.cumsum(ordered) - 1) / np.arange(1, len(points) + 1)
    return np.maximum(points - thresholds[(ordered > thresholds).sum() - 1], 0)


@pytest.mark.parametrize("gamma", [0.001, 0.2, 0.9, 1.3])
@pytest.mark.parametrize("is_mixed", [False, True])
def test_l2_of_many_classes_is_the_projection_at_some_temperature(gamma, is_mixed):
    losses, labels, mixed = some_batch(n=12, k=300, seed=11)
    targets = mixed if is_mixed else labels
    weights = class_weights(losses, targets, divergence="l2", gamma=gamma)
    wanted = mixed if is_mixed else one_hot(labels, 300).double()
    for loss, v, q in zip(losses.numpy(), weights.numpy(), wanted.numpy(), strict=True):
        low, high = 1e-12, 1e12
        for _ in range(200):
            middle = math.sqrt(low * high)
            projected = on_simplex(q - loss / middle)
            is_far = ((projected - q) ** 2).sum() > gamma
            low, high = (middle, high) if is_far else (low, middle)
        np.testing.assert_allclose(v, projected, atol=1e-6)


def test_anchored_kl_without_smoothing_stays_on_the_classes_of_the_target():
    weights = class_weights(LOSSES, LABEL, divergence="anchored_kl", gamma=0.3, smoothing=0.0)
    assert weights.tolist() == [[0, 0, 1, 0]]
    losses, _, mixed = some_batch(n=50, seed=12)
    weights = class_weights(losses, mixed, divergence="anchored_kl", gamma=0.1, smoothing=0.0)
    assert (weights[mixed == 0] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(50))
    reached = torch.special.xlogy(weights, weights / mixed.clamp(min=1e-9)).sum(dim=1)
    assert (reached < 0.1 + 1e-5).all()


@pytest.mark.parametrize("gamma", [0.05, 0.3, 0.77])
def test_total_variation_of_mixed_targets_matches_a_linear_programme(gamma):
    from scipy.optimize import linprog

    losses, _, mixed = some_batch(seed=4)
    weights = class_weights(losses, mixed, divergence="tv", gamma=gamma)
    for loss, v, q in zip(losses.numpy(), weights.numpy(), mixed.numpy(), strict=True):
        # Variables v and t, with v - q <= t and sum t <= gamma.
        bound = np.block([[np.eye(5), -np.eye(5)], [np.zeros((1, 5)), np.ones((1, 5))]])
        done = linprog(
            np.concatenate([loss, np.zeros(5)]),
            A_ub=bound,
            b_ub=np.concatenate([q, [gamma]]),
            A_eq=np.concatenate([np.ones(5), np.zeros(5)])[None],
            b_eq=[1.0],
        )
        assert float(v @ loss) == pytest.approx(done.fun, abs=1e-6)


@given(seed=st.integers(0, 1000), gamma=st.floats(0, 1))
def test_total_variation_is_hard_bootstrapping(seed, gamma):
    losses, labels, _ = some_batch(n=20, seed=seed)
    weights = class_weights(losses, labels, divergence="tv", gamma=gamma)
    inner = class_weighted_losses(losses, weights.double())
    # Reed et al. 2014, section 3.3: beta of the label, 1 - beta of the class that is predicted.
    beta = 1 - gamma
    own = losses.gather(1, labels.unsqueeze(1)).squeeze(1)
    predicted = losses.gather(1, (-losses).exp().argmax(dim=1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(inner, beta * own + (1 - beta) * predicted, rtol=1e-6, atol=1e-6)


@given(seed=st.integers(0, 1000), gamma=st.floats(0, 5))
def test_kl_is_total_variation_of_another_radius(seed, gamma):
    losses, labels, _ = some_batch(n=20, seed=seed)
    kl = class_weights(losses, labels, divergence="kl", gamma=gamma)
    moved = class_weights(losses, labels, divergence="tv", gamma=1 - math.exp(-gamma))
    torch.testing.assert_close(kl, moved)
    # A label as a distribution takes the way of mixed ones, to the same end.
    mixed = class_weights(losses, one_hot(labels, 5).double(), divergence="kl", gamma=gamma)
    torch.testing.assert_close(mixed, kl)


@pytest.mark.parametrize("gamma", [0.01, 0.1, 0.15])  # a right label has no more than 0.17
def test_anchored_kl_tempers_the_prediction(gamma):
    losses, labels, _ = some_batch(n=20, seed=5)
    anchors = 0.8 * one_hot(labels, 5) + 0.2 / 5
    weights = class_weights(
        losses, labels, divergence="anchored_kl", gamma=gamma, smoothing=0.2
    ).double()
    # v ~ q p^t with one t for all classes of a row.
    tempered = (weights / anchors).log()
    pairs = (tempered[:, 1:] - tempered[:, :1]) / (losses[:, :1] - losses[:, 1:])
    is_moved = [float(distance("anchored_kl", v, q)) for v, q in zip(weights, anchors, strict=True)]
    assert is_moved == pytest.approx([gamma] * 20, rel=1e-4)
    torch.testing.assert_close(pairs, pairs[:, :1].expand_as(pairs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_radius_of_zero_leaves_targets_and_a_wide_one_predicts(name):
    losses, labels, mixed = some_batch(n=20, seed=6)
    predicted = one_hot(losses.argmin(dim=1), 5).float()
    for targets in (labels, mixed):
        wanted = targets if targets.is_floating_point() else one_hot(targets, 5)
        if name == "anchored_kl":
            wanted = 0.9 * wanted + 0.1 / 5
        same = class_weights(losses, targets, divergence=name, gamma=0.0)
        torch.testing.assert_close(same, wanted.float(), atol=1e-6, rtol=0)
        far = class_weights(losses, targets, divergence=name, gamma=1.0 if name == "tv" else 50.0)
        torch.testing.assert_close(far, predicted, atol=1e-6, rtol=0)


@given(
    seed=st.integers(0, 200),
    name=st.sampled_from(DIVERGENCES),
    gamma=st.floats(0, 1),
    is_mixed=st.booleans(),
)
def test_rows_are_on_the_simplex_and_lose_no_more_than_their_targets(seed, name, gamma, is_mixed):
    losses, labels, mixed = some_batch(n=9, seed=seed)
    targets = mixed if is_mixed else labels
    weights = class_weights(losses, targets, divergence=name, gamma=gamma)
    assert weights.dtype == torch.float32
    assert not weights.requires_grad
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(9), atol=1e-5, rtol=0)
    given_ = class_weights(losses, targets, divergence=name, gamma=0.0)
    lost = class_weighted_losses(losses.float(), weights)
    assert (lost <= class_weighted_losses(losses.float(), given_) + 1e-4).all()


@given(seed=st.integers(0, 100), name=st.sampled_from(DIVERGENCES), data=st.data())
def test_classes_and_rows_may_be_renumbered(seed, name, data):
    losses, _, mixed = some_batch(seed=seed)
    classes = torch.tensor(data.draw(st.permutations(range(5))))
    rows = torch.tensor(data.draw(st.permutations(range(6))))
    weights = class_weights(losses, mixed, divergence=name, gamma=0.2)
    again = class_weights(
        losses[rows][:, classes], mixed[rows][:, classes], divergence=name, gamma=0.2
    )
    torch.testing.assert_close(again, weights[rows][:, classes], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_shift_of_a_rows_losses_changes_nothing(name):
    losses, _, mixed = some_batch(seed=7)
    shifted = losses + torch.arange(6.0).unsqueeze(1)
    weights = class_weights(losses, mixed, divergence=name, gamma=0.2)
    again = class_weights(shifted, mixed, divergence=name, gamma=0.2)
    torch.testing.assert_close(again, weights, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_any_scale_and_precision_gives_numbers(name, scale, dtype):
    losses, labels, mixed = some_batch(seed=8)
    losses = (losses * scale).to(dtype)
    losses[0, 0] = math.inf
    for targets in (labels, mixed, one_hot(labels, 5).float()):
        weights = class_weights(losses, targets, divergence=name, gamma=0.2)
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equal_losses_and_a_single_row_or_class_are_no_trouble(name):
    equal = torch.full((1, 4), 1.3)
    assert class_weights(equal, LABEL, divergence=name, gamma=0.1).isfinite().all()
    assert class_weights(equal, MIXED, divergence=name, gamma=0.1).isfinite().all()
    lone = class_weights(torch.ones(2, 1), torch.tensor([0, 0]), divergence=name, gamma=0.1)
    assert lone.tolist() == [[1.0], [1.0]]
    none = class_weights(
        torch.ones(0, 3), torch.zeros(0, dtype=torch.int64), divergence=name, gamma=0.1
    )
    assert none.shape == (0, 3)


def test_no_divergence_gives_the_targets():
    assert torch.equal(class_weights(LOSSES, MIXED, divergence="none", gamma=0.1), MIXED.float())


def test_an_infinite_loss_without_weight_counts_nothing():
    losses = torch.tensor([[0.1, math.inf]], requires_grad=True)
    inner = class_weighted_losses(losses, torch.tensor([[1.0, 0.0]]))
    inner.sum().backward()
    assert inner.tolist() == pytest.approx([0.1])
    assert losses.grad.tolist() == [[1.0, 0.0]]


def test_labels_outside_the_classes_are_named():
    for label in (-1, 4):
        with pytest.raises(DataError, match="not one of the classes") as caught:
            class_weights(LOSSES, torch.tensor([label]), divergence="tv", gamma=0.1)
        assert "row 0" in caught.value.where
    for row in ([0.5, 0.6, 0.0, 0.0], [1.5, -0.5, 0.0, 0.0], [math.nan, 0.0, 0.0, 1.0]):
        with pytest.raises(DataError, match="no distribution over the classes"):
            class_weights(LOSSES, torch.tensor([row]), divergence="kl", gamma=0.1)
    with pytest.raises(TrainingError, match="not a number"):
        class_weights(LOSSES * math.nan, LABEL, divergence="tv", gamma=0.1)
    with pytest.raises(SettingsError, match="not known"):
        class_weights(LOSSES, LABEL, divergence="tv", gamma=-0.1)
