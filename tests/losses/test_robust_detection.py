"""Weights of truths in the detection loss: what they change, what they leave, whom they trust."""

import math

import pytest
import torch
from detector_maps import ANCHORS, CLASSES, PER_SLOT, STRIDES, make_loss, random_maps, truths

from tilth.losses.reweighting_settings import ReweightingSettings
from tilth.losses.robust_detection import RobustDetectionLoss, likeliest_classes
from tilth.losses.robust_settings import RobustSettings

ROWS = ((0, 1, 4, 4, 14, 12), (0, 2, 30, 30, 60, 50), (1, 0, 10, 10, 34, 60), (1, 2, 40, 8, 52, 20))
STEPS = 100
KEYS = ("box", "objectness", "class", "total")


def robust(kind="ciw", *, weigh_boxes=False, loss=None, **reweighting):
    given = None
    if reweighting:
        given = ReweightingSettings(**{"burn_in": 0.0, "ramp": 0.0, **reweighting})
    settings = RobustSettings(kind=kind, reweighting=given, weigh_boxes=weigh_boxes)
    return RobustDetectionLoss(loss or make_loss(), settings, steps=STEPS)


def terms_of(loss, maps, rows=ROWS, *, weights=None, step=STEPS - 1):
    return loss(maps, *truths(*rows), box_weights=weights, step=step)


def gradient_of(terms, maps):
    return torch.autograd.grad(terms["total"], maps)


@pytest.mark.parametrize("gradient", ["true", "darknet"])
@pytest.mark.parametrize("weigh_boxes", [False, True])
def test_uniform_weights_are_the_plain_loss(gradient, weigh_boxes):
    maps = [raw.requires_grad_() for raw in random_maps()]
    given = torch.tensor([1.0, 0.5, 2.0, 1.0])
    plain = make_loss(gradient=gradient)
    expected = plain(maps, *truths(*ROWS), box_weights=given)
    loss = robust(loss=plain, weigh_boxes=weigh_boxes, divergence="alpha", lam=1e9)
    for step in (0, STEPS - 1):
        terms = terms_of(loss, maps, weights=given, step=step)
        for key in KEYS:
            torch.testing.assert_close(terms[key], expected[key], msg=key)
        assert terms["num_positives"] == expected["num_positives"]
        assert terms["effective_share"] == pytest.approx(1.0)
        wanted = gradient_of(expected | {"total": expected["total"] * 1}, maps)
        for one, other in zip(gradient_of(terms, maps), wanted, strict=True):
            torch.testing.assert_close(one, other)
        expected = plain(maps, *truths(*ROWS), box_weights=given)


def test_burn_in_is_the_plain_loss():
    maps, settings = random_maps(), RobustSettings(kind="cicw")
    loss = RobustDetectionLoss(make_loss(), settings, steps=STEPS)
    expected = make_loss()(maps, *truths(*ROWS))
    assert terms_of(loss, maps, step=0)["total"].equal(expected["total"])
    assert not terms_of(loss, maps, step=50)["total"].equal(expected["total"])


def test_boxes_are_weighed_on_request_only():
    maps = random_maps()
    expected = make_loss()(maps, *truths(*ROWS))
    left = terms_of(robust(lam=0.01), maps)
    torch.testing.assert_close(left["box"], expected["box"])
    assert not torch.isclose(left["class"], expected["class"])
    weighed = terms_of(robust(lam=0.01, weigh_boxes=True), maps)
    assert not torch.isclose(weighed["box"], expected["box"])


def test_weights_go_by_class_and_objectness():
    """The weighted terms are those of box weights that the losses of these two terms give."""
    maps, plain = random_maps(), make_loss(box_gain=0.0)
    _, losses = plain.with_box_losses(maps, *truths(*ROWS))
    weights = torch.softmax(-losses / 0.5, dim=0) * len(ROWS)
    expected = plain(maps, *truths(*ROWS), box_weights=weights)
    terms = terms_of(robust(divergence="kl", lam=0.5), maps)
    for key in ("objectness", "class"):
        torch.testing.assert_close(terms[key], expected[key])


@pytest.mark.parametrize("divergence", ["tv", "kl"])
def test_class_weights_are_a_soft_target(divergence):
    """Cross-entropy of sigmoids with (1 - g) on the given class and g on the likeliest."""
    maps, gamma = random_maps(), 0.3
    share = gamma if divergence == "tv" else 1 - math.exp(-gamma)
    loss = robust("cicw", class_divergence=divergence, gamma=gamma, lam=1e9)
    terms = terms_of(loss, maps)
    boxes, given, image = truths(*ROWS)
    likeliest, is_seen = likeliest_classes(make_loss(), maps, boxes, image)
    assert is_seen.all()
    assert not likeliest.equal(given)
    one, other = (make_loss()(maps, boxes, kind, image) for kind in (given, likeliest))
    torch.testing.assert_close(terms["class"], (1 - share) * one["class"] + share * other["class"])
    torch.testing.assert_close(terms["objectness"], one["objectness"])
    torch.testing.assert_close(terms["box"], one["box"])


def test_class_weights_of_the_recipe_stay_those_of_the_given_class():
    maps, given = random_maps(), (3.0, 0.5, 1.0)
    loss = robust("cicw", loss=make_loss(class_weights=given), class_divergence="tv", lam=1e9)
    expected = make_loss(class_weights=given)(maps, *truths(*ROWS))
    terms = terms_of(loss, maps)
    torch.testing.assert_close(terms["objectness"], expected["objectness"])
    torch.testing.assert_close(terms["box"], expected["box"])


def test_likeliest_class_is_that_of_the_truths_slots():
    maps = random_maps(scale=0.0)
    boxes, _, image = truths(*ROWS)
    for raw, anchors, stride in zip(maps, ANCHORS, STRIDES, strict=True):
        own = raw.unflatten(1, (len(anchors), PER_SLOT))
        for (x0, y0, x1, y1), picture in zip(boxes.tolist(), image.tolist(), strict=True):
            column, row = int((x0 + x1) / 2 // stride), int((y0 + y1) / 2 // stride)
            own[picture, :, 5 + (int(x0) % CLASSES), row, column] = 4.0
    found, is_seen = likeliest_classes(make_loss(), maps, boxes, image)
    assert is_seen.all()
    assert found.tolist() == [int(x0) % CLASSES for x0 in boxes[:, 0].tolist()]


def test_truths_without_a_slot_take_no_part():
    """The later of two truths in the same place has all slots: the first has no loss, no weight."""
    maps, rows = random_maps(), (ROWS[1], ROWS[1], ROWS[0], ROWS[2])
    terms = terms_of(robust(lam=0.05), maps, rows)
    expected = terms_of(robust(lam=0.05), maps, rows[1:])
    for key in KEYS:
        torch.testing.assert_close(terms[key], expected[key])


def test_truths_of_no_weight_take_no_part():
    maps = random_maps()
    weights = torch.tensor([1.0, 1.0, 0.0, 1.0])
    changed = (*ROWS[:2], (1, 1, 10, 10, 34, 60), ROWS[3])
    one, other = (
        terms_of(robust(lam=0.05), maps, rows, weights=weights) for rows in (ROWS, changed)
    )
    for key in KEYS:
        torch.testing.assert_close(one[key], other[key])


@pytest.mark.parametrize("kind", ["ciw", "cicw"])
@pytest.mark.parametrize("step", [0, STEPS - 1])
def test_a_batch_without_truths_is_background_alone(kind, step):
    maps = random_maps()
    loss = RobustDetectionLoss(make_loss(), RobustSettings(kind=kind), steps=STEPS)
    terms = terms_of(loss, maps, (), step=step)
    expected = make_loss()(maps, *truths())
    for key in KEYS:
        torch.testing.assert_close(terms[key], expected[key])
    assert terms["effective_share"] == 1


def test_swapped_classes_get_less_weight():
    """Maps fitted to right classes in eight pictures of ten: the swapped ones are trusted less."""
    random = torch.Generator().manual_seed(0)
    maps = [raw.requires_grad_() for raw in random_maps(batch=1, scale=0.1)]
    seen = []
    for kind in ("none", "ciw"):
        fitted = [raw.detach().clone().requires_grad_() for raw in maps]
        optimiser = torch.optim.Adam(fitted, lr=0.1)
        loss = robust(divergence="alpha", lam=0.1, ramp=0.1, burn_in=0.1) if kind == "ciw" else None
        for step in range(0, STEPS, 3):
            classes = torch.where(torch.rand(10, generator=random) < 0.2, 2, 0)
            rows = [(n, int(kind_of), 30, 30, 60, 50) for n, kind_of in enumerate(classes)]
            many = [raw.expand(10, -1, -1, -1) for raw in fitted]
            if loss is None:
                total = make_loss()(many, *truths(*rows))["total"]
            else:
                total = terms_of(loss, many, rows, step=step)["total"]
            total.backward()
            optimiser.step()
            optimiser.zero_grad()
        boxes, _, image = truths((0, 0, 30, 30, 60, 50))
        seen.append(likely_of(fitted, boxes, image))
    _, weights = loss.truth_weights(many, truths(*rows), None, torch.ones(10), STEPS - 1)
    swapped = torch.tensor([kind == 2 for _, kind, *_ in rows])
    assert 0 < swapped.sum() < 10
    assert weights[swapped].max() < weights[~swapped].min() / 2
    assert seen[1][2] < seen[0][2] / 2, "the wrong class is believed half as much at most"
    assert seen[1][0] > seen[0][0]


def likely_of(maps, boxes, image):
    """Mean chance of each class at the slots of one truth."""
    losses = []
    for kind in range(CLASSES):
        only_classes = make_loss(box_gain=0.0, objectness_gain=0.0, class_gain=1.0)
        _, loss = only_classes.with_box_losses(maps, boxes, torch.tensor([kind]), image)
        losses.append(-loss)
    return torch.softmax(torch.cat(losses), dim=0).tolist()
