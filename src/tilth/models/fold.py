"""Batch normalisation worked into the convolutions before it: one layer less to run, same outputs.

At evaluation a normalisation is y = scale * (x - mean) / sqrt(variance + eps) + shift, a factor and
a summand for each channel. The factor goes into the convolution's kernels, the summand becomes its
bias. Training needs the normalisation back, so the folded network is a copy.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tilth.models.cspdarknet import ConvUnit
from tilth.models.darknet import Convolution

__all__ = ["fold_batch_norm", "folded_convolution"]


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with folded `ConvUnit` and `Convolution` layers, without gradient.

    Other modules are copied as they are. Outputs are equal to rounding; the names of parameters are
    not those of the model.

    >>> from tilth.models.yolov4 import YoloV4
    >>> model = YoloV4(1, variant="yolov4-tiny", width=0.25)
    >>> any(isinstance(part, nn.BatchNorm2d) for part in fold_batch_norm(model).modules())
    False
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for part in folded.modules():
        if isinstance(part, ConvUnit):
            convolution, norm = part[0], part[1]
            if isinstance(norm, nn.BatchNorm2d):  # else it was folded before
                assert isinstance(convolution, nn.Conv2d)
                part[0], part[1] = folded_convolution(convolution, norm), nn.Identity()
        elif isinstance(part, Convolution) and part.norm is not None:
            part.conv, part.norm = folded_convolution(part.conv, part.norm), None
    return folded


@torch.no_grad()
def folded_convolution(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution with a bias for a convolution and the normalisation of its outputs."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    # In float64: a channel of tiny variance has a large factor, and rounding twice would show.
    factor = (variance.double() + norm.eps).rsqrt()
    if norm.affine:
        factor = factor * norm.weight.double()
    before = 0.0 if convolution.bias is None else convolution.bias.double()
    shift = (before - mean.double()) * factor
    if norm.affine:
        shift = shift + norm.bias.double()
    kernels = convolution.weight.double() * factor[:, None, None, None]
    return _with(convolution, kernels, shift)


def _with(convolution: nn.Conv2d, kernels: Tensor, bias: Tensor) -> nn.Conv2d:
    weight = convolution.weight
    made = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        convolution.padding,  # type: ignore[arg-type]
        convolution.dilation,  # type: ignore[arg-type]
        convolution.groups,
        device="meta",  # given its values below
    )
    # `to` keeps the kernels' order in memory, channels last where they were.
    made.weight = nn.Parameter(kernels.to(weight.dtype), requires_grad=False)
    made.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)
    return made.train(convolution.training)
