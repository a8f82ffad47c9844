"""What a metric of pictures, masks and volumes is predicted from, and the network that does it."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import DataError
from tilth.losses.surrogate_layers import Build, conv_of, one_hot, pooled

__all__ = ["PicturePairs", "image_channels", "mask_channels", "signed_distance"]

REACH = 12  # pixels


def image_channels(prediction: Tensor, target: Tensor) -> Float[Tensor, "n c *space"]:
    """Prediction, target and how far they are apart, as channels: c is three times theirs.

    Args:
        prediction: [n, h, w], [n, c, h, w] or [n, c, d, h, w].
        target: of the same shape.

    Raises:
        DataError: the shapes differ.
    """
    if prediction.shape != target.shape:
        raise DataError(
            "predictions and targets of pictures differ in shape",
            expected=str(list(prediction.shape)),
            got=str(list(target.shape)),
        )
    if prediction.ndim == 3:
        prediction, target = prediction.unsqueeze(1), target.unsqueeze(1)
    target = target.to(prediction.dtype)
    return torch.cat([prediction, target, _apart(prediction, target)], dim=1)


def mask_channels(prediction: Tensor, target: Tensor) -> Float[Tensor, "n c *space"]:
    """Probabilities, mask, how far they are apart, the distance to the mask's edge, and that
    distance where the two disagree.

    Args:
        prediction: chances [n, h, w], or [n, k, *space] of k classes.
        target: 0 and 1 of the same shape, or whole numbers [n, *space] that name the classes.

    Raises:
        DataError: the shapes do not fit.
    """
    if prediction.ndim == 3:
        prediction = prediction.unsqueeze(1)
    if target.ndim == prediction.ndim - 1:
        is_named = prediction.shape[1] > 1
        target = one_hot(target, prediction.shape[1]) if is_named else target.unsqueeze(1)
    if prediction.shape != target.shape:
        raise DataError(
            "chances and masks differ in shape",
            expected=f"{list(prediction.shape)}, or classes without the second axis",
            got=str(list(target.shape)),
        )
    target = target.to(prediction.dtype)
    distance = signed_distance(target) / REACH
    apart = _apart(prediction, target)
    return torch.cat([prediction, target, apart, distance, apart * distance], dim=1)


def _apart(prediction: Tensor, target: Tensor) -> Tensor:
    # Not |p - t|, which has a corner where the two meet.
    return (prediction - target).square()


@torch.no_grad()
def signed_distance(mask: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
    """Pixels to the other side of a mask's edge, at most 12: above 0 outside, below 0 inside.

    Euclidean and exact up to there: the least squared distance along one axis after the other.

    >>> signed_distance(torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]]))
    tensor([[[[ 2.,  1., -1., -2.]]]])
    """
    inside = mask > 0.5
    far = float(REACH**2)
    squared = torch.stack([inside, ~inside]).logical_not().float() * far  # to inside, to outside
    for axis in range(3, squared.ndim):
        squared = _least_along(squared, axis, far)
    to_inside, to_outside = squared.sqrt()
    return to_inside - to_outside


def _least_along(squared: Tensor, axis: int, far: float) -> Tensor:
    """The least of each value's neighbours along an axis, plus their squared distance to it."""
    size = squared.shape[axis]
    least = squared.clone()
    for shift in range(1, min(REACH, size)):
        near = squared + shift**2
        ahead, behind = least.narrow(axis, shift, size - shift), least.narrow(axis, 0, size - shift)
        torch.minimum(ahead, near.narrow(axis, 0, size - shift), out=ahead)
        torch.minimum(behind, near.narrow(axis, shift, size - shift), out=behind)
    return least.clamp_max_(far)


class PicturePairs(nn.Module):
    """Features of pairs from convolutions at a half and a quarter of the size, each pooled over
    space.

    Args:
        channels: of the input, see `image_channels` and `mask_channels`.
        rank: axes of space, 1 to 3.
    """

    def __init__(self, channels: int, rank: int, build: Build) -> None:
        super().__init__()
        conv, width = conv_of(rank), build.channels
        sizes = (channels, width, 2 * width, 2 * width)
        self.layers = nn.ModuleList()
        for number, (before, after) in enumerate(itertools.pairwise(sizes)):
            kernel = build.kernel if number == 0 else 3
            layer = conv(before, after, kernel, stride=2 if number < 2 else 1, padding=kernel // 2)
            self.layers.append(nn.Sequential(build.layer(layer), build.activation()))
        self.num_features = 3 * sum(sizes[1:])

    def forward(self, channels: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
        """Features [n, d]."""
        found = []
        for layer in self.layers:
            channels = layer(channels)
            found.append(pooled(channels))
        return torch.cat(found, dim=1)
