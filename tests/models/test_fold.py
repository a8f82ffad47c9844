"""A folded network is the same network."""

from __future__ import annotations

import copy

import pytest
import torch
from normed_networks import networks, with_statistics, worst_relative_difference
from torch import nn

from tilth.models.darknet import Darknet
from tilth.models.darknet_specs import SPECS, built_in_cfg
from tilth.models.fold import fold_batch_norm, folded_convolution
from tilth.models.yolov4 import YoloV4


@pytest.mark.parametrize(("name", "model"), networks(), ids=lambda value: str(value)[:12])
def test_folded_outputs_equal_to_rounding(name: str, model: nn.Module) -> None:
    model = with_statistics(model)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        difference = worst_relative_difference(fold_batch_norm(model)(images), model(images))
    assert difference < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_built_in_network_folds(name: str) -> None:
    model = with_statistics(Darknet(built_in_cfg(name, 4)))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        difference = worst_relative_difference(fold_batch_norm(model)(images), model(images))
    assert difference < 1e-4


def test_folding_leaves_the_model_as_it_was() -> None:
    model = with_statistics(YoloV4(1, variant="yolov4-tiny", width=0.25)).train()
    before = copy.deepcopy(model.state_dict())
    folded = fold_batch_norm(model)
    assert model.training
    assert not folded.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_folding_twice_is_folding_once() -> None:
    once = fold_batch_norm(with_statistics(YoloV4(1, variant="yolov4-tiny", width=0.25)))
    twice = fold_batch_norm(once)
    assert all(map(torch.equal, once.parameters(), twice.parameters()))


def test_one_folded_convolution_equals_the_pair() -> None:
    torch.manual_seed(0)
    for bias, affine in ((False, True), (True, True), (True, False)):
        convolution = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, bias=bias)
        norm = nn.BatchNorm2d(6, affine=affine)
        with_statistics(nn.Sequential(norm)) if affine else norm.eval()
        inputs = torch.randn(2, 4, 9, 9)
        wanted = norm(convolution(inputs))
        assert torch.allclose(folded_convolution(convolution, norm)(inputs), wanted, atol=1e-5)


def test_folding_keeps_channels_last() -> None:
    model = YoloV4(1, variant="yolov4-tiny", width=0.25).to(memory_format=torch.channels_last)
    kernels = fold_batch_norm(model).head_convolutions()[0].weight
    assert kernels.is_contiguous(memory_format=torch.channels_last)
    first = next(part for part in fold_batch_norm(model).modules() if isinstance(part, nn.Conv2d))
    assert first.weight.is_contiguous(memory_format=torch.channels_last)
