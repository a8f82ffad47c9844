"""A pruned network is the large one without what did nothing, whatever layers tie its channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_darknet import FASTEST, SHARED, needs_weights, randomised

from tilth.errors import SettingsError
from tilth.models.channel_groups import ChannelGroups, channel_groups
from tilth.models.darknet import Darknet, read_cfg
from tilth.models.darknet_cfg import parse_cfg
from tilth.models.darknet_specs import built_in_cfg
from tilth.models.darknet_weights import load_weights, save_weights
from tilth.models.network_size import layer_sizes, weights_bytes
from tilth.models.pruning import (
    PruningSettings,
    filter_strengths,
    group_strengths,
    prune,
    removed,
)

FREE = PruningSettings(threshold=1e-6, granularity=1, min_filters=1)


def conv(filters: int, size: int = 1, **options: object) -> str:
    options = {"batch_normalize": 1, "activation": "leaky", "pad": 1} | options
    lines = [f"{name}={value}" for name, value in options.items()]
    return "\n".join(["[convolutional]", f"filters={filters}", f"size={size}", *lines, ""])


# One of each thing that ties channels, in a network of its own.
KINDS = {
    "plain": [conv(8, 3)],
    "residual": [conv(8), conv(6), conv(8, 3), "[shortcut]\nfrom=-3"],
    "shortcut of fewer": [conv(8), conv(6), "[shortcut]\nfrom=-2", conv(9), "[shortcut]\nfrom=-2"],
    "depthwise": [conv(8), conv(8, 3, groups=8), conv(6)],
    "two a channel": [conv(4), conv(8, 3, groups=4), conv(6)],
    "groups of two": [conv(8), conv(12, 3, groups=4), conv(6)],
    "concatenation": [conv(6), conv(5), "[route]\nlayers=-1,-2", conv(8)],
    "depthwise on a concatenation": [
        conv(6),
        conv(5),
        "[route]\nlayers=-1,-2",
        conv(11, 5, groups=11),
    ],
    "grouped route": [
        conv(12, 3),
        "[route]\nlayers=-1\ngroups=2\ngroup_id=1",
        conv(6, 3),
        "[route]\nlayers=-1,-2",
        conv(8),
        "[route]\nlayers=-5,-1",
    ],
    "two grouped routes": [
        conv(12),
        "[route]\nlayers=-1\ngroups=2\ngroup_id=0",
        "[route]\nlayers=-2\ngroups=2\ngroup_id=1",
        "[shortcut]\nfrom=-2",
    ],
    "grouped route of a concatenation": [
        conv(6),
        conv(6),
        "[route]\nlayers=-1,-2",
        "[route]\nlayers=-1\ngroups=3\ngroup_id=1",
    ],
    "grouped route of a residual": [
        conv(8),
        conv(8),
        "[shortcut]\nfrom=-2",
        "[route]\nlayers=-1\ngroups=2\ngroup_id=1",
        conv(6),
        "[shortcut]\nfrom=-4",
    ],
    "grouped route of a depthwise": [
        conv(8),
        conv(8, 3, groups=8),
        "[route]\nlayers=-1\ngroups=2",
        conv(6),
    ],
    "halves of halves": [
        conv(8),
        "[route]\nlayers=-1\ngroups=2",
        "[route]\nlayers=-1\ngroups=2\ngroup_id=1",
    ],
    "pyramid": [
        conv(6),
        "[maxpool]\nsize=3\nstride=1",
        "[route]\nlayers=-2",
        "[maxpool]\nsize=5\nstride=1",
        "[route]\nlayers=-1,-3,-4",
    ],
    "enlarged": [
        conv(6),
        conv(8, 3, stride=2),
        "[upsample]\nstride=2",
        "[route]\nlayers=-1,-3",
    ],
    "reorg": [conv(8), "[reorg]\nstride=2", conv(6)],
    "squeeze and excitation": [
        conv(8),
        "[avgpool]",
        conv(4, activation="relu"),
        conv(8),
        "[scale_channels]\nfrom=-4",
    ],
    "dropout": [conv(8), "[dropout]\nprobability=.5", conv(6)],
}


def network(layers: list[str]) -> Darknet:
    """The layers, more of them, and a head."""
    head = conv(21, batch_normalize=0, activation="linear")
    yolo = "[yolo]\nmask=0,1,2\nanchors=4,4, 8,8, 16,16\nclasses=2\nnum=3\n"
    net = "[net]\nwidth=32\nheight=32\nchannels=3\n"
    text = "\n".join([net, conv(8, 3, stride=2), *layers, conv(7, 3), head, yolo])
    return randomised(Darknet(parse_cfg(text)))


@torch.no_grad()
def without_life(model: Darknet, groups: ChannelGroups, dead: np.ndarray) -> None:
    """Make some channels zero, wherever they are made."""
    for index, layer in model.weighted_layers():
        rows = torch.from_numpy(np.flatnonzero(dead[groups.filters[index]]))
        layer.conv.weight[rows] = 0
        if layer.norm is None:
            layer.conv.bias[rows] = 0
        else:
            layer.norm.bias[rows] = 0
            layer.norm.running_mean[rows] = 0


def some_groups(groups: ChannelGroups, seed: int, granularity: int = 1) -> np.ndarray:
    """Drawn by lot, under the same rules as the weak ones."""
    strengths = np.random.default_rng(seed).random(len(groups.unit))
    return removed(strengths, groups, 0.5, replace(FREE, granularity=granularity))


@torch.no_grad()
def assert_equal_without_dead_filters(model: Darknet, size: int, seed: int = 0) -> None:
    groups = channel_groups(model)
    dead = some_groups(groups, seed)
    assert dead.any()
    without_life(model, groups, dead)
    smaller = prune(model, FREE).model
    for index, layer in smaller.weighted_layers():
        assert layer.channels == (~dead[groups.filters[index]]).sum(), index
    pictures = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    for large, small in zip(model(pictures), smaller(pictures), strict=True):
        assert float((large - small).abs().max()) <= 1e-4 * float(large.abs().max())


@pytest.mark.parametrize("name", list(KINDS))
def test_removing_dead_filters_changes_nothing(name: str) -> None:
    for seed in range(2):
        assert_equal_without_dead_filters(network(KINDS[name]), 32, seed)


@pytest.mark.parametrize("name", ["yolov4", "yolov4-tiny", "yolov4-tiny-3l", "yolov4-csp"])
def test_removing_dead_filters_of_a_published_network(name: str) -> None:
    assert_equal_without_dead_filters(randomised(Darknet(built_in_cfg(name, 2, size=64))), 64)


@needs_weights
@pytest.mark.parametrize("name", list(FASTEST))
def test_removing_dead_filters_of_yolo_fastest(name: str) -> None:
    model = Darknet(read_cfg(SHARED / f"{name}.cfg")).eval()
    load_weights(model, SHARED / f"{name}.weights")
    assert_equal_without_dead_filters(model, 64)


def test_parts_of_a_grouped_route_lose_different_filters() -> None:
    model = network(KINDS["grouped route"])
    groups = channel_groups(model)
    halves = np.split(some_groups(groups, 1)[groups.filters[1]], 2)
    assert halves[0].sum() == halves[1].sum() > 0
    assert (halves[0] != halves[1]).any()


def test_heads_and_the_picture_stay() -> None:
    model = network(KINDS["plain"])
    groups = channel_groups(model)
    *others, head = sorted(groups.filters)
    assert groups.is_fixed[groups.filters[head]].all()
    assert groups.is_fixed[groups.inputs[0]].all()
    assert not any(groups.is_fixed[groups.filters[index]].any() for index in others)


def test_the_pruned_network_is_written_and_read_as_darknets_files(tmp_path: Path) -> None:
    model = randomised(Darknet(built_in_cfg("yolov4-tiny", 2, size=64)))
    smaller = prune(model, PruningSettings(keep_flops=0.5)).model
    save_weights(smaller, tmp_path / "p.weights")
    (tmp_path / "p.cfg").write_text(smaller.cfg.text)
    assert (tmp_path / "p.weights").stat().st_size == weights_bytes(smaller)
    assert weights_bytes(smaller) < weights_bytes(model)
    again = Darknet(read_cfg(tmp_path / "p.cfg")).eval()
    load_weights(again, tmp_path / "p.weights")
    pictures = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(smaller(pictures), again(pictures), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    "equalisation", ["union", "intersection", "arithmetic_mean", "geometric_mean"]
)
@pytest.mark.parametrize("kind", ["kernel", "normed"])
def test_strengths_equal_a_plain_twin(kind: str, equalisation: str) -> None:
    model = network(KINDS["residual"])
    with torch.no_grad():
        model.layers[1].conv.weight[3] = 0
    groups = channel_groups(model)
    ours = group_strengths(filter_strengths(model, kind), groups, equalisation)
    norms: dict[int, list[float]] = {}
    for index, layer in model.weighted_layers():
        norms[index] = []
        for number in range(layer.channels):
            norm = sum(float(w) ** 2 for w in layer.conv.weight[number].detach().flatten()) ** 0.5
            if kind == "normed" and layer.norm is not None:
                gain = abs(float(layer.norm.weight[number].detach()))
                norm *= gain / (float(layer.norm.running_var[number]) + layer.norm.eps) ** 0.5
            norms[index].append(norm)
    for group in range(len(groups.unit)):
        values = [
            norm / max(norms[index])
            for index, own in groups.filters.items()
            for norm, of_group in zip(norms[index], own, strict=True)
            if of_group == group
        ]
        expected = {
            "union": max(values),
            "intersection": min(values),
            "arithmetic_mean": sum(values) / len(values),
            "geometric_mean": float(np.prod(values)) ** (1 / len(values)),
        }
        assert ours[group] == pytest.approx(expected[equalisation], rel=1e-5)


def test_granularity_and_smallest_number() -> None:
    model = network([conv(40)])
    groups = channel_groups(model)
    own = groups.filters[1]
    strengths = np.ones(len(groups.unit))
    strengths[own[:21]] = np.linspace(0, 0.05, 21)
    settings = PruningSettings(granularity=8, min_filters=16)
    gone = removed(strengths, groups, 0.1, settings)
    assert gone.sum() == 16  # 21 are weak; 8 at a time
    assert gone[own[:16]].all(), "the weakest first"
    assert removed(strengths, groups, 0.1, replace(settings, min_filters=30)).sum() == 8
    assert removed(strengths, groups, 0.1, replace(settings, min_filters=100)).sum() == 0
    assert removed(strengths, groups, 0.1, replace(settings, excluded=(1,))).sum() == 0


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_keep_flops_is_kept_to(share: float) -> None:
    model = randomised(Darknet(built_in_cfg("yolov4-tiny", 2, size=64)))
    settings = PruningSettings(keep_flops=share, granularity=1, min_filters=2)
    result = prune(model, settings)
    before = sum(layer.flops for layer in result.before)
    after = sum(layer.flops for layer in result.after)
    assert result.after == layer_sizes(result.model)
    assert share - 0.01 < after / before <= share
    # The threshold that was found is the lowest: a hair below it too much stays.
    lower = replace(settings, keep_flops=0.0, threshold=float(np.nextafter(result.threshold, 0)))
    assert sum(layer.flops for layer in prune(model, lower).after) > share * before
    same = replace(settings, keep_flops=0.0, threshold=result.threshold)
    assert prune(model, same).after == result.after


def test_operations_are_those_of_the_published_tables() -> None:
    for name, size, billions in (("yolov4", 416, 60.1), ("yolov4-tiny", 416, 6.9)):
        model = Darknet(built_in_cfg(name, 80, size=size))
        total = sum(layer.flops for layer in layer_sizes(model))
        assert total / 1e9 == pytest.approx(billions, abs=0.06)


def test_too_few_operations_are_refused_with_the_least() -> None:
    model = network(KINDS["plain"])
    with pytest.raises(SettingsError, match="cannot be reached") as caught:
        prune(model, PruningSettings(keep_flops=0.01))
    assert caught.value.expected == "keep_flops of 1.000 or more"


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": -0.1},
        {"keep_flops": 1.0},
        {"granularity": 0},
        {"min_filters": 0},
    ],
)
def test_unusable_settings_are_named(changes: dict) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes))):
        PruningSettings(**changes)


def test_an_excluded_layer_must_be_a_convolution() -> None:
    with pytest.raises(SettingsError, match="no convolution"):
        prune(network(KINDS["dropout"]), PruningSettings(excluded=(2,)))
