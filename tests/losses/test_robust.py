"""The one switch: every kind gives a finite loss, combines with weights, and repeats by step."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tilth.errors import DataError, TrainingError
from tilth.losses.classification import weighted_mean
from tilth.losses.mixup import MixupPlan, mix, mixed_targets, mixup_plan, weighted_mixup_plan
from tilth.losses.reweighting import Reweighting
from tilth.losses.reweighting_settings import ReweightingSettings
from tilth.losses.robust import RobustLoss
from tilth.losses.robust_blends import blended_answers, blended_targets
from tilth.losses.robust_losses import soft_cross_entropy
from tilth.losses.robust_memory import WeightMemory
from tilth.losses.robust_reweighted import importance_terms
from tilth.losses.robust_settings import RobustSettings
from tilth.ops.evaluation_mode import evaluating
from tilth.seeding import generator

KINDS = (
    *("none", "label_smoothing", "bootstrap_soft", "bootstrap_hard", "gce", "sce", "elr"),
    *("co_teaching", "mixup", "ciw", "cicw", "cicw_m"),
)
NUM_CLASSES, ROWS = 3, 40


def build():
    layers = (nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
    return nn.Sequential(*layers)


def made(kind, *, class_weights=None, steps=100, **values):
    """A loss, its network and a function that gives its batches."""
    torch.manual_seed(0)
    loss = RobustLoss(
        RobustSettings(kind=kind, **values),
        num_classes=NUM_CLASSES,
        steps=steps,
        seed=4,
        num_examples=ROWS,
        class_weights=class_weights,
    )
    return loss, loss.network(build)


def batch(number, size=8):
    random = torch.Generator().manual_seed(number)
    rows = torch.randperm(ROWS, generator=random)[:size]
    return {
        "images": torch.randn(size, 5, generator=random),
        "label": rows % NUM_CLASSES,
        "row": rows,
        "batch_number": number,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [0, 50])
def test_every_kind_teaches(kind, number):
    loss, model = made(kind)
    terms = loss(model.train(), batch(number))
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    terms["total"].backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_terms_have_the_same_names_at_all_steps(kind):
    """The log takes means over steps."""
    loss, model = made(kind)
    assert loss(model.train(), batch(0)).keys() == loss(model, batch(99)).keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_repeats(kind):
    """From the same state, the same numbers: nothing is remembered outside of the module."""
    loss, model = made(kind)
    loss(model.train(), batch(40))
    kept = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    first = loss(model, batch(41))["total"]
    again, other = made(kind)
    other.load_state_dict(kept)
    torch.manual_seed(1)
    assert again(other.train(), batch(41))["total"].equal(first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_is_a_batch(kind):
    loss, model = made(kind)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()  # which itself refuses one example
    terms = loss(model, batch(60, size=1))
    assert terms["total"].isfinite()


@pytest.mark.parametrize("kind", KINDS)
def test_classes_may_be_missing_from_a_batch(kind):
    loss, model = made(kind)
    given = batch(60)
    given["label"] = torch.ones_like(given["label"])
    assert loss(model.train(), given)["total"].isfinite()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("label", [-1, NUM_CLASSES])
def test_labels_outside_of_the_classes_are_named(kind, label):
    loss, model = made(kind)
    given = batch(0)
    given["label"][5] = label
    with pytest.raises(DataError, match="not one of the classes") as caught:
        loss(model.train(), given)
    assert "row 5" in str(caught.value)


@pytest.mark.parametrize("kind", ["ciw", "cicw", "cicw_m"])
def test_answers_that_are_no_numbers_are_named(kind):
    loss, model = made(kind)
    given = batch(60)
    given["images"][2] = torch.nan
    with pytest.raises(TrainingError, match="not a number"):
        loss(model.eval(), given)


def test_rows_that_are_unknown_are_named():
    loss, model = made("elr")
    given = batch(0)
    given["row"][3] = ROWS
    with pytest.raises(DataError, match="none of those that the loss was made for"):
        loss(model.train(), given)


@pytest.mark.parametrize(
    ("kind", "missing"), [("elr", "row"), ("ciw", "batch_number"), ("mixup", "batch_number")]
)
def test_batches_that_lack_an_entry_are_named(kind, missing):
    loss, model = made(kind)
    given = batch(0)
    del given[missing]
    with pytest.raises(TrainingError, match=missing):
        loss(model.train(), given)


@pytest.mark.parametrize("kind", ["elr", "co_teaching"])
def test_a_network_that_cannot_remember_is_refused(kind):
    loss = RobustLoss(RobustSettings(kind=kind), num_classes=3, steps=9, num_examples=ROWS)
    with pytest.raises(TrainingError, match="needs a network that remembers"):
        loss(build(), batch(0))


def test_how_many_examples_there_are_must_be_known():
    with pytest.raises(TrainingError, match="how many there are"):
        RobustLoss(RobustSettings(kind="elr"), num_classes=3, steps=9)


def test_without_a_kind_it_is_weighted_cross_entropy():
    class_weights = torch.tensor([1.0, 0.5, 3.0])
    loss, model = made("none", class_weights=class_weights)
    given = {**batch(0), "weight": torch.rand(8)}
    logits = model.eval()(given["images"])
    losses = cross_entropy(logits, given["label"], reduction="none")
    expected = weighted_mean(losses, class_weights[given["label"]] * given["weight"])
    torch.testing.assert_close(loss(model, given)["total"], expected)


@pytest.mark.parametrize("kind", ["ciw", "cicw"])
def test_reweighted_kinds_are_reweighting(kind):
    loss, model = made(kind)
    given = batch(60)
    logits = model.eval()(given["images"])
    settings = loss.settings.applied_reweighting
    expected, _ = Reweighting(settings, steps=100).loss(logits, given["label"], 60)
    torch.testing.assert_close(loss(model, given)["total"], expected)


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("mixup_kind", ["sample_weight", "sample", "weight"])
def test_cicw_m_looks_blends_and_weighs(mixup_kind, again):
    """The five steps of the released program, one after the other."""
    values = {"mixup_kind": mixup_kind, "mixup_power": 2.0, "reweight_mixed": again}
    loss, model = made("cicw_m", **values)
    given, step = batch(60), 60
    model.eval()
    reweighting = Reweighting(loss.settings.applied_reweighting, steps=100)
    with torch.no_grad():
        _, trust = reweighting.loss(model(given["images"]), given["label"], step)
    plan = weighted_mixup_plan(trust, mixup_kind, 2.0, generator(4, "blends", step), alpha=2.0)
    logits = model(mix(given["images"], plan))
    targets = mixed_targets(given["label"], plan, NUM_CLASSES)
    expected, _ = reweighting.loss(logits, targets, step)
    if not again:
        expected = cross_entropy(logits, targets)
    torch.testing.assert_close(loss(model, given)["total"], expected)


def test_mixup_is_cross_entropy_of_blends():
    loss, model = made("mixup", mixup_alpha=0.4)
    given = batch(7)
    plan = mixup_plan(8, 0.4, generator(4, "blends", 7))
    logits = model.eval()(mix(given["images"], plan))
    own = plan.shares * cross_entropy(logits, given["label"], reduction="none")
    partners = cross_entropy(logits, given["label"][plan.partners], reduction="none")
    expected = (own + (1 - plan.shares) * partners).mean()
    torch.testing.assert_close(loss(model, given)["total"], expected)


def test_early_learning_adds_its_term():
    loss, model = made("elr", lam=2.0, beta=0.5)
    given = batch(0)
    chances = model.eval()(given["images"]).softmax(dim=1)
    held = torch.log(1 - (chances.detach() * 0.5 * chances).sum(dim=1))  # from targets of 0
    plain = cross_entropy(chances.log(), given["label"])
    torch.testing.assert_close(loss(model, given)["total"], plain + 2 * held.mean())


def test_co_teaching_is_the_mean_of_what_the_other_chose_twice():
    loss, model = made("co_teaching", forget_rate=0.5, forget_ramp=0.0)
    given = batch(60)
    model.eval()
    model.training = True  # both answer, and neither normalises by the batch
    both = model(given["images"])
    losses = [cross_entropy(each, given["label"], reduction="none") for each in both]
    expected = sum(own[other.argsort()[:4]].mean() for own, other in (losses, losses[::-1]))
    torch.testing.assert_close(loss(model, given)["total"], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_examples_of_no_weight_teach_nothing(kind):
    """What they are changes no gradient: neither their label nor, but in blends, their picture."""
    gradients = []
    for change in (0, 1):
        loss, model = made(kind)
        model.eval()  # batch statistics would let an example speak through the others
        if kind == "co_teaching":
            model.training = True
        given = batch(60)
        given["weight"] = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 2.0])
        silent = given["weight"] == 0
        given["label"][silent] = (given["label"][silent] + change) % NUM_CLASSES
        loss(model, given)["total"].backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["ciw", "cicw", "cicw_m", "mixup", "gce", "co_teaching"])
def test_nothing_counts_where_all_weights_are_nought(kind):
    loss, model = made(kind)
    total = loss(model.train(), {**batch(60), "weight": torch.zeros(8)})["total"]
    assert total == 0


@pytest.mark.parametrize("kind", ["ciw", "cicw", "cicw_m", "co_teaching"])
def test_wrong_labels_get_less_weight(kind):
    """Two blobs that are easy to tell apart, a fifth of their labels swapped."""
    random = torch.Generator().manual_seed(0)
    truth = torch.arange(ROWS) % 2
    points = torch.randn(ROWS, 5, generator=random) + 4 * truth[:, None]
    wrong = torch.arange(ROWS) % 5 == 0
    loss, model = made(kind, keep_weights=True, steps=60)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for number in range(60):
        chosen = torch.randperm(ROWS, generator=random)[:16]
        labels = torch.where(wrong, 1 - truth, truth)[chosen]
        given = {"images": points[chosen], "label": labels, "row": chosen}
        loss(model.train(), {**given, "batch_number": number})["total"].backward()
        optimiser.step()
        optimiser.zero_grad()
    kept = model.weights.row_weights
    assert kept[wrong].mean() < kept[~wrong].mean() / 1.5
    found = loss.bare(model).eval()(points).argmax(dim=1)
    assert (found == truth).float().mean() > 0.9


def test_pair_answers_twice_in_training_and_once_after():
    loss, model = made("co_teaching")
    pictures = batch(0)["images"]
    assert model.train()(pictures).shape == (2, 8, NUM_CLASSES)
    assert model.eval()(pictures).equal(loss.bare(model)(pictures))
    first, second = (list(side.parameters()) for side in (model.network, model.twin))
    assert not any(
        one.equal(other) for one, other in zip(first, second, strict=True) if one.ndim > 1
    )


def test_accumulated_batches_share_a_step():
    settings = RobustSettings(kind="ciw")
    loss = RobustLoss(settings, num_classes=3, steps=10, batches_per_step=10)
    model = build().eval()
    burning = loss(model, {**batch(0), "batch_number": 7})  # step 0 of 10 burns in
    assert burning["effective_share"] == pytest.approx(1.0)
    assert loss(model, {**batch(0), "batch_number": 70})["effective_share"] < 0.99


def test_first_look_leaves_no_trace():
    _, model = made("none")
    model.train()
    model[3].eval()
    kept = copy.deepcopy(model.state_dict())
    with evaluating(model), torch.no_grad():
        assert not model(batch(0)["images"]).requires_grad
    assert all(value.equal(kept[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model] == [True, True, True, False, True]


def test_blended_targets_are_both_examples_losses():
    random = torch.Generator().manual_seed(3)
    labels = torch.tensor([0, 1, 2, 1])
    weights = torch.tensor([1.0, 0.0, 2.0, 0.0])
    plan = MixupPlan(partners=torch.tensor([1, 2, 0, 3]), shares=torch.tensor([0.2, 0.7, 1.0, 0.4]))
    logits = torch.randn(4, 3, generator=random)
    targets, counted = blended_targets(labels, weights, plan, 3)
    own = plan.shares * weights * cross_entropy(logits, labels, reduction="none")
    partners = cross_entropy(logits, labels[plan.partners], reduction="none")
    partners = (1 - plan.shares) * weights[plan.partners] * partners
    torch.testing.assert_close(soft_cross_entropy(logits, targets) * counted, own + partners)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
    assert blended_targets(labels, None, plan, 3)[0].equal(mixed_targets(labels, plan, 3))


def test_other_inputs_are_blended_before_the_last_layer():
    layers = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    given = batch(0)
    inputs = given.pop("images")
    plan = MixupPlan(partners=torch.arange(8).flip(0), shares=torch.linspace(0, 1, 8))
    answers = blended_answers(lambda model, _: model(inputs), layers, given, plan)
    features = layers[:2](inputs)
    blended = plan.shares[:, None] * features + (1 - plan.shares)[:, None] * features[plan.partners]
    torch.testing.assert_close(answers, layers[2](blended))
    assert layers(inputs).equal(layers[2](features))  # the hook is gone
    with pytest.raises(TrainingError, match="cannot be blended"):
        blended_answers(lambda model, _: model(inputs), nn.Tanh(), given, plan)


def test_memory_is_a_plain_mean():
    memory = WeightMemory(3, num_examples=4)
    memory.observe(torch.tensor([0, 1]), torch.tensor([0.5, 1.5]), torch.tensor([3, 1]))
    memory.observe(torch.tensor([0, 1]), torch.tensor([1.5, 0.5]), torch.tensor([3, 2]))
    np.testing.assert_allclose(memory.row_weights, [np.nan, 1.5, 0.5, 1.0])
    assert memory.row_seen.tolist() == [0, 1, 1, 2]
    assert memory.class_weights[2] == 1  # not seen
    assert memory.class_weights[0] == pytest.approx((0.5 * 0.99 + 1.5) / 1.99)


def test_collapse_is_seen_in_the_log():
    """Two classes that are never learnt lose their weight, and the least weight tells."""
    loss, model = made(
        "ciw", reweighting=ReweightingSettings(divergence="kl", lam=0.05, burn_in=0.0)
    )
    nn.init.zeros_(model.network[4].weight)
    with torch.no_grad():
        model.network[4].bias[:] = torch.tensor([4.0, 0.0, 0.0])
    for number in range(50, 60):
        terms = loss(model.eval(), batch(number))
    assert terms["least_class_weight"] < 1e-3
    assert terms["trusted_loss"] < 4


def test_effective_share_of_one_heavy_example():
    weights = torch.tensor([1.0, 0.0, 0.0, 0.0])
    terms = importance_terms(torch.arange(4.0), weights, weights)
    assert terms["effective_share"] == 0.25
