"""Small networks whose normalisations are no identity, and how far two answers lie apart."""

from __future__ import annotations

import torch
from torch import nn

from tilth.models.darknet import Darknet
from tilth.models.darknet_cfg import parse_cfg
from tilth.models.yolov4 import YoloV4

DEPTHWISE = """[net]
width=64
height=64
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
groups=8
filters=8
size=3
pad=1
activation=mish

[convolutional]
filters=14
size=1
activation=linear

[yolo]
mask=0,1
anchors=10,10, 30,30
classes=2
"""


def with_statistics(model: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with statistics and factors that are no identity."""
    generator = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(0.2 * torch.randn(part.num_features, generator=generator))
            part.running_var.copy_(0.3 + torch.rand(part.num_features, generator=generator))
            part.weight.data.copy_(0.7 + 0.6 * torch.rand(part.num_features, generator=generator))
            part.bias.data.copy_(0.2 * torch.randn(part.num_features, generator=generator))
    return model.eval()


def worst_relative_difference(ours: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """Over all maps, of the greatest value in each."""
    pairs = zip(ours, wanted, strict=True)
    return max(float((one - two).abs().max() / two.abs().max()) for one, two in pairs)


def networks() -> list[tuple[str, nn.Module]]:
    made: list[tuple[str, nn.Module]] = [
        ("yolov4", YoloV4(3, width=0.25, depth=0.3)),
        ("yolov4-tiny", YoloV4(3, variant="yolov4-tiny", width=0.5)),
        ("depthwise", Darknet(parse_cfg(DEPTHWISE, where="depthwise.cfg"))),
    ]
    return made
