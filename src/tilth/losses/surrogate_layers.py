"""What the networks that predict metrics are made of: smooth layers, pooling, one number out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["Build", "conv_of", "dense", "one_hot", "pooled"]

# Smooth ones: a gradient that jumps from pixel to pixel teaches a network nothing.
ACTIVATIONS = (nn.SiLU, nn.GELU, nn.Softplus)


@dataclass(frozen=True, kw_only=True)
class Build:
    """How the layers of one network are made.

    Attributes:
        width: channels of the first layer.
        variant: 0, 1, 2, ...: networks of other variants have other layers, not only other weights,
            because those that differ in their starting weights alone err alike.
        is_spectral: every layer enlarges nothing.
    """

    width: int = 24
    variant: int = 0
    is_spectral: bool = False

    @property
    def kernel(self) -> int:
        """Of convolutions."""
        return (5, 3, 5)[self.variant % 3]

    @property
    def channels(self) -> int:
        """The width, larger or smaller by variant, in multiples of 4."""
        return max(4 * round(self.width * (1.0, 0.75, 1.25)[self.variant % 3] / 4), 4)

    def activation(self) -> nn.Module:
        """A smooth one, by variant."""
        return ACTIVATIONS[self.variant % len(ACTIVATIONS)]()

    def layer(self, layer: nn.Module) -> nn.Module:
        """The layer, bounded where that is asked for."""
        return spectral_norm(layer) if self.is_spectral else layer


def dense(sizes: Sequence[int], build: Build) -> nn.Sequential:
    """Fully connected layers with activations between them, none after the last."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(itertools.pairwise(sizes)):
        if number:
            layers.append(build.activation())
        layers.append(build.layer(nn.Linear(before, after)))
    return nn.Sequential(*layers)


def conv_of(rank: int) -> type[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """The convolution over 1, 2 or 3 axes."""
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]


def pooled(values: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
    """Mean, largest value and power mean of order 4 over space: d = 3 c.

    Many metrics are a mean over an object, others (Hausdorff's) live from its worst place; the
    power mean lies between, and its gradient reaches more than one place.
    """
    flat = values.flatten(2)
    power = flat.square().square().mean(dim=2).add(1e-8).sqrt().sqrt()
    return torch.cat([flat.mean(dim=2), flat.amax(dim=2), power], dim=1)


def one_hot(classes: Tensor, num_classes: int) -> Float[Tensor, "n k *rest"]:
    """Classes [n, ...] as [n, k, ...]; all zeros where there is none (below 0)."""
    axis = torch.arange(num_classes, device=classes.device)
    axis = axis.reshape(1, num_classes, *[1] * (classes.ndim - 1))
    return (classes.unsqueeze(1) == axis).float()
