"""Darknet networks with random weights, and how far OpenCV is from ours on the same files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from tilth.models.darknet import Darknet

__all__ = ["randomised", "worst_difference_to_opencv"]


@torch.no_grad()
def randomised(model: Darknet, seed: int = 0) -> Darknet:
    """Weights of a sane size, and statistics that are no identity."""
    generator = torch.Generator().manual_seed(seed)
    for _, layer in model.weighted_layers():
        fan_in = layer.conv.weight[0].numel()
        layer.conv.weight.copy_(
            torch.randn(layer.conv.weight.shape, generator=generator) * (0.7 / fan_in**0.5)
        )
        if layer.norm is None:
            layer.conv.bias.copy_(0.1 * torch.randn(layer.conv.bias.shape, generator=generator))
            continue
        shape = layer.norm.weight.shape
        layer.norm.weight.copy_(0.8 + 0.4 * torch.rand(shape, generator=generator))
        layer.norm.bias.copy_(0.1 * torch.randn(shape, generator=generator))
        layer.norm.running_mean.copy_(0.1 * torch.randn(shape, generator=generator))
        layer.norm.running_var.copy_(0.5 + torch.rand(shape, generator=generator))
    return model.eval()


@torch.no_grad()
def worst_difference_to_opencv(model: Darknet, cfg: Path, weights: Path, size: int) -> float:
    """Over box centres and sizes (shares of the picture) and objectness of all heads."""
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    raw_maps = model(image)
    boxes, _ = model.decode(raw_maps)
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.setInput(image.numpy())
    outputs = net.forward(net.getUnconnectedOutLayersNames())
    worst, at = 0.0, 0
    heads = zip(outputs, raw_maps, model.anchors, model.is_activated, strict=True)
    for output, raw, anchors, is_activated in heads:
        count, (height, width) = len(anchors), raw.shape[-2:]
        rows = boxes[0, at : at + count * height * width] / size
        at += len(rows)
        # OpenCV's rows run over cells, then anchors.
        ours = rows.view(count, height, width, 4).permute(1, 2, 0, 3).reshape(-1, 4).numpy()
        centre, shape = (ours[:, :2] + ours[:, 2:]) / 2, ours[:, 2:] - ours[:, :2]
        objectness = raw.view(count, -1, height, width)[:, 4].permute(1, 2, 0).reshape(-1)
        objectness = objectness if is_activated else objectness.sigmoid()
        theirs = output.reshape(-1, output.shape[-1])
        worst = max(
            worst,
            float(np.abs(centre - theirs[:, :2]).max()),
            float(np.abs(shape - theirs[:, 2:4]).max()),
            float(np.abs(objectness.numpy() - theirs[:, 4]).max()),
        )
    return worst
