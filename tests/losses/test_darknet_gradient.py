"""Darknet's gradient against a loop over slots and truths, and what it promises."""

import math

import darknet_loop
import numpy as np
import pytest
import torch
from detector_maps import (
    ANCHORS,
    CLASSES,
    GRID_SCALES,
    PER_SLOT,
    SIDE,
    make_loss,
    random_maps,
    truths,
)
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingsError
from tilth.losses.darknet_overlap import overlap_deltas
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.ops.boxes import aligned_iou, cxcywh_to_xyxy

KINDS = ("iou", "giou", "diou", "ciou")


def crowded_rows(seed, count=12):
    """Truths of which several fall into one slot: two places, sizes that differ a little."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        picture, category = (int(value) for value in draw.integers(0, (2, CLASSES)))
        x, y = draw.choice([12.0, 37.0]), draw.choice([14.0, 41.0])
        w, h = draw.uniform(4, 30, 2)
        rows.append((picture, category, x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    return rows


def twin_options(given, is_activated=False):
    options = given
    box_gain, objectness_gain, class_gain = options.gains
    weights = options.class_weights
    return {
        "box_gain": box_gain,
        "objectness_gain": objectness_gain,
        "class_gain": class_gain,
        "anchor_threshold": options.anchor_threshold,
        "ignore_threshold": options.ignore_threshold,
        "rewards_overlap": options.rewards_overlap,
        "label_smoothing": options.label_smoothing,
        "focal_gamma": options.focal_gamma,
        "focal_alpha": options.focal("class")[1],
        "class_weights": [1.0] * CLASSES if weights == "none" else weights,
        "max_delta": options.max_delta,
        "box_loss": options.box_loss,
        "is_activated": is_activated,
    }


def compare(maps, rows, options, is_activated=False):
    leaves = [raw.clone().requires_grad_() for raw in maps]
    loss = make_loss(is_activated=[is_activated] * 2, **options)
    loss(leaves, *truths(*rows))["total"].backward()
    deltas = darknet_loop.darknet_deltas(
        [raw.double().numpy() for raw in maps],
        rows,
        ANCHORS,
        GRID_SCALES,
        CLASSES,
        SIDE,
        twin_options(DetectionLossSettings(**options), is_activated),
    )
    for leaf, delta in zip(leaves, deltas, strict=True):
        wanted = torch.from_numpy(-delta / len(maps[0])).float()
        torch.testing.assert_close(leaf.grad, wanted, rtol=2e-4, atol=2e-6)


OPTIONS = [
    {},
    {"box_loss": "iou"},
    {"box_loss": "giou"},
    {"box_loss": "diou"},
    {"box_gain": 3.0, "max_delta": 0.05},
    {"anchor_threshold": 1.0},
    {"label_smoothing": 0.1},
    {"focal_gamma": 2.0},
    {"focal_gamma": 2.0, "focal_alpha": 0.25, "label_smoothing": 0.2},
    {"objectness_target": "iou", "ignore_threshold": 0.3},
    {"ignore_threshold": 0.2},
    {"class_weights": (0.5, 2.0, 1.5), "class_gain": 0.4, "objectness_gain": 2.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradient_equals_darknets_loop(options, seed):
    rows = crowded_rows(seed)
    compare(random_maps(seed=seed, scale=1.5), rows, {"gradient": "darknet", **options})


@pytest.mark.parametrize("options", OPTIONS[::3], ids=str)
def test_activated_maps_get_darknets_gradient(options):
    maps = [raw.sigmoid() for raw in random_maps(seed=3, scale=1.5)]
    compare(maps, crowded_rows(3), {"gradient": "darknet", **options}, is_activated=True)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000))
def test_overlap_deltas_equal_the_plain_formulas(kind, seed):
    draw = np.random.default_rng(seed)
    found, wanted = draw.uniform(0.1, 0.9, (2, 5, 4))
    ours = overlap_deltas(torch.from_numpy(found), torch.from_numpy(wanted), kind=kind)
    plain = [
        darknet_loop.overlap_deltas(first, second, kind)
        for first, second in zip(found.tolist(), wanted.tolist(), strict=True)
    ]
    torch.testing.assert_close(ours, torch.tensor(plain, dtype=torch.float64))


@given(seed=st.integers(0, 1000))
def test_iou_deltas_are_the_true_ones_and_twice_as_large_for_sizes(seed):
    draw = torch.Generator().manual_seed(seed)
    found = torch.rand(6, 4, generator=draw, dtype=torch.float64) * 0.2 + 0.4
    wanted = torch.rand(6, 4, generator=draw, dtype=torch.float64) * 0.2 + 0.4
    found.requires_grad_()
    aligned_iou(cxcywh_to_xyxy(found), cxcywh_to_xyxy(wanted)).sum().backward()
    deltas = overlap_deltas(found.detach(), wanted, kind="iou")
    torch.testing.assert_close(deltas, found.grad * torch.tensor([1.0, 1.0, 2.0, 2.0]))


@pytest.mark.parametrize("kind", ["diou", "ciou"])
def test_overlap_deltas_point_to_the_truth(kind):
    found = torch.tensor([[0.2, 0.5, 0.1, 0.1], [0.5, 0.2, 0.1, 0.1]])
    wanted = torch.tensor([[0.7, 0.5, 0.1, 0.1], [0.5, 0.7, 0.1, 0.1]])
    deltas = overlap_deltas(found, wanted, kind=kind)
    assert deltas[0, 0] > 0
    assert deltas[1, 1] > 0


def test_truths_of_two_classes_in_one_slot_are_both_right():
    rows = [(0, 0, 8.0, 8.0, 16.0, 16.0), (0, 2, 8.0, 8.0, 16.0, 16.0)]
    maps = [raw.requires_grad_() for raw in random_maps(batch=1)]
    make_loss(gradient="darknet")(maps, *truths(*rows))["total"].backward()
    own = maps[0].grad.unflatten(1, (2, PER_SLOT))[0, 0, 5:, 1, 1]
    assert (own < 0).tolist() == [True, False, True]


def test_max_delta_bounds_the_gradient_of_boxes():
    rows = [(0, 0, 0.0, 0.0, 60.0, 62.0)]
    maps = [(5 * raw).requires_grad_() for raw in random_maps(batch=1)]
    settings = {"gradient": "darknet", "box_gain": 1000.0, "max_delta": 0.25}
    make_loss(**settings)(maps, *truths(*rows))["total"].backward()
    boxes = torch.cat([raw.grad.unflatten(1, (2, PER_SLOT))[:, :, :4].flatten() for raw in maps])
    assert boxes.abs().max() == 0.25


def test_terms_are_the_losses_and_add_up():
    rows = crowded_rows(1)
    maps = [raw.requires_grad_() for raw in random_maps()]
    terms = make_loss(gradient="darknet")(maps, *truths(*rows))
    parts = terms["box"] + terms["objectness"] + terms["class"]
    torch.testing.assert_close(terms["total"].detach(), parts)
    assert not parts.requires_grad
    assert terms["total"].requires_grad


def test_gradient_follows_the_factor_of_the_total():
    rows, grads = crowded_rows(2), []
    for factor in (1.0, 0.25):
        maps = [raw.requires_grad_() for raw in random_maps()]
        (factor * make_loss(gradient="darknet")(maps, *truths(*rows))["total"]).backward()
        grads.append(maps[0].grad)
    torch.testing.assert_close(grads[1], 0.25 * grads[0])


@pytest.mark.parametrize("scale", [50.0, 1e4])
def test_gradient_is_finite_whatever_the_maps_hold(scale):
    rows = [*crowded_rows(5), (0, 0, 5.0, 5.0, 5.0, 5.0)]
    maps = [raw.requires_grad_() for raw in random_maps(scale=scale)]
    terms = make_loss(gradient="darknet")(maps, *truths(*rows))
    terms["total"].backward()
    assert terms["total"].isfinite()
    assert all(raw.grad.isfinite().all() for raw in maps)


def test_maps_that_are_not_numbers_give_a_loss_that_says_so():
    maps = [torch.full_like(raw, math.nan) for raw in random_maps()]
    assert make_loss(gradient="darknet")(maps, *truths(*crowded_rows(0)))["total"].isnan()


def test_a_picture_without_objects_teaches_background_alone():
    maps = [raw.requires_grad_() for raw in random_maps()]
    terms = make_loss(gradient="darknet")(maps, *truths())
    terms["total"].backward()
    assert terms["box"] == terms["class"] == terms["num_positives"] == 0
    gradient = maps[0].grad.unflatten(1, (2, PER_SLOT))
    wanted = maps[0].detach().unflatten(1, (2, PER_SLOT))[:, :, 4].sigmoid() / 2
    torch.testing.assert_close(gradient[:, :, 4], wanted)
    assert not gradient[:, :, :4].any()


def test_gains_of_the_gradients_are_their_own():
    assert DetectionLossSettings().gains == (2.0, 1.0, 0.5)
    assert DetectionLossSettings(gradient="darknet").gains == (0.07, 1.0, 1.0)
    assert DetectionLossSettings(gradient="darknet", box_gain=0.5).gains[0] == 0.5
    with pytest.raises(SettingsError, match="focal_terms"):
        DetectionLossSettings(gradient="darknet", focal_terms="both")
