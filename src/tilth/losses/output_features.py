"""Numbers about outputs, for regressors that were told numbers: the same for fit and for loss.

A regressor of scikit-learn predicts a metric from features. To be a loss, it needs features that
are differentiable and exactly those that it was fitted to, so both come from one function here:

    told = told_of(mask_features, predictions, targets)      # NumPy, for fit
    MetricSurrogate(metric, regressor, inputs=mask_features)  # torch, with a gradient

In a recipe: ``loss.inputs = "tilth.losses.output_features:mask_features"``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tilth.errors import DataError

__all__ = [
    "log_spectrum",
    "mask_features",
    "moments",
    "picture_features",
    "regions",
    "signal_features",
    "soft_histogram",
    "steepness",
    "told_of",
]

BINS = 16
BANDS = 8
TINY = 1e-6


def moments(values: Float[Tensor, "n *rest"]) -> Float[Tensor, "n 4"]:
    """Mean, standard deviation, skewness and kurtosis (3 for a normal distribution) of an example.

    >>> moments(torch.tensor([[0.0, 1.0]]))
    tensor([[0.5000, 0.5000, 0.0000, 1.0000]])
    """
    flat = values.flatten(1)
    mean = flat.mean(dim=1, keepdim=True)
    apart = flat - mean
    deviation = apart.square().mean(dim=1, keepdim=True).add(TINY**2).sqrt()
    unit = apart / deviation
    columns = [mean, deviation, unit.pow(3).mean(dim=1, keepdim=True)]
    return torch.cat([*columns, unit.pow(4).mean(dim=1, keepdim=True)], dim=1)


def soft_histogram(
    values: Float[Tensor, "n *rest"], *, low: float, high: float, bins: int = BINS
) -> Float[Tensor, "n bins"]:
    """Share of an example's values at each of ``bins`` places from ``low`` to ``high``.

    A value falls to the two nearest places, in shares that change with it; what lies outside falls
    to the end, and has no gradient.

    Raises:
        DataError: low is not below high, or there are fewer than two places.

    >>> soft_histogram(torch.tensor([[0.0, 0.25]]), low=0.0, high=1.0, bins=3)
    tensor([[0.7500, 0.2500, 0.0000]])
    """
    if not low < high or bins < 2:
        raise DataError(
            "a histogram cannot be made",
            expected="low below high, and two places or more",
            got=f"{low} to {high}, {bins} places",
        )
    place = (values.flatten(1).clamp(low, high) - low) * ((bins - 1) / (high - low))
    at = torch.arange(bins, device=values.device, dtype=values.dtype)
    # One place at a time: all at once would be as many copies of a picture.
    return torch.stack([(1 - (place - each).abs()).clamp_min(0).mean(dim=1) for each in at], dim=1)


def steepness(pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3"]:
    """Of the gradient's length over the picture: mean, deviation and power mean of order 4.

    Differences of neighbours, which a blurred picture has small and a noisy one large.
    """
    down = pictures[..., 1:, :-1] - pictures[..., :-1, :-1]
    across = pictures[..., :-1, 1:] - pictures[..., :-1, :-1]
    length = (down.square() + across.square() + TINY**2).sqrt().flatten(1)
    mean = length.mean(dim=1)
    deviation = length.var(dim=1, correction=0).add(TINY**2).sqrt()
    return torch.stack([mean, deviation, length.pow(4).mean(dim=1).pow(0.25)], dim=1)


def log_spectrum(
    values: Float[Tensor, "n *rest"], *, axes: int, bands: int = BANDS
) -> Float[Tensor, "n bands"]:
    """Logarithm of the mean power in each of ``bands`` bands from the slowest frequency to the
    fastest, over the last ``axes`` axes; the mean (frequency 0) is left out.

    Args:
        axes: 1 for signals, 2 for pictures, 3 for volumes.
    """
    sizes = values.shape[-axes:]
    power = torch.fft.fftn(values, dim=tuple(range(-axes, 0)), norm="ortho").abs().square()
    grid = torch.meshgrid(
        *(torch.fft.fftfreq(size, device=values.device) for size in sizes), indexing="ij"
    )
    frequency = torch.stack([each.square() for each in grid]).sum(dim=0).sqrt()
    band = (frequency * (2 * bands)).long().clamp_max(bands - 1).flatten()
    power = power.reshape(len(values), -1, band.numel()).mean(dim=1)
    means = []
    for number in range(bands):
        chosen = (band == number) & (frequency.flatten() > 0)
        some = power[:, chosen] if bool(chosen.any()) else torch.zeros_like(power[:, :1])
        means.append(some.mean(dim=1))
    return torch.stack(means, dim=1).add(TINY).log()


def regions(chances: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 6*c"]:
    """Of each class' chances: share of the picture, length of the edge (as a share of the side),
    centre (down, across) and spread (down, across), the last four as shares of the sides."""
    height, width = chances.shape[-2:]
    area = chances.mean(dim=(2, 3))
    down = (chances[..., 1:, :] - chances[..., :-1, :]).square().sum(dim=(2, 3))
    across = (chances[..., 1:] - chances[..., :-1]).square().sum(dim=(2, 3))
    edge = (down + across) / max(height, width)
    columns = [area, edge, *_places(chances, height, width)]
    return torch.stack(columns, dim=2).flatten(1)


def _places(chances: Tensor, height: int, width: int) -> list[Tensor]:
    mass = chances.sum(dim=(2, 3)).clamp_min(TINY)
    rows = (torch.arange(height, device=chances.device) + 0.5) / height
    columns = (torch.arange(width, device=chances.device) + 0.5) / width
    centres, spreads = [], []
    for along, weights in ((rows, chances.sum(dim=3)), (columns, chances.sum(dim=2))):
        along = along.to(chances.dtype)
        centre = (weights * along).sum(dim=2) / mass
        square = (weights * (along - centre[..., None]).square()).sum(dim=2) / mass
        centres.append(centre)
        spreads.append(square.add(TINY**2).sqrt())
    return [*centres, *spreads]


def picture_features(prediction: Tensor, target: Tensor) -> Float[Tensor, "n d"]:
    """Of pictures [n, c, h, w] with values in 0..1, of what they should be, and of the difference:
    moments, histogram, steepness and spectrum."""
    _expect_alike(prediction, target, 4)
    target = target.to(prediction.dtype)
    parts = []
    for values in (prediction, target, prediction - target):
        low = -1.0 if values is not prediction and values is not target else 0.0
        parts += [
            moments(values),
            soft_histogram(values, low=low, high=1.0),
            steepness(values),
            log_spectrum(values, axes=2),
        ]
    return torch.cat(parts, dim=1)


def mask_features(prediction: Tensor, target: Tensor) -> Float[Tensor, "n d"]:
    """Of chances [n, c, h, w] and masks alike: regions of both, their common share and what each
    has alone, and how sure the chances are (histogram)."""
    _expect_alike(prediction, target, 4)
    target = target.to(prediction.dtype)
    common = (prediction * target).mean(dim=(2, 3))
    found_alone = (prediction * (1 - target)).mean(dim=(2, 3))
    true_alone = ((1 - prediction) * target).mean(dim=(2, 3))
    both = (prediction + target).mean(dim=(2, 3)).clamp_min(TINY)
    overlap = 2 * common / both
    return torch.cat(
        [
            regions(prediction),
            regions(target),
            common,
            found_alone,
            true_alone,
            overlap,
            soft_histogram(prediction, low=0.0, high=1.0),
        ],
        dim=1,
    )


def signal_features(prediction: Tensor, target: Tensor) -> Float[Tensor, "n d"]:
    """Of signals [n, t] or [n, c, t], of what they should be, and of the difference: moments and
    spectrum; and the ratio of signal to what is left, in decibels."""
    _expect_alike(prediction, target, None)
    target = target.to(prediction.dtype)
    left = prediction - target
    parts = []
    for values in (prediction, target, left):
        parts += [moments(values), log_spectrum(values, axes=1)]
    power = [each.flatten(1).square().mean(dim=1) + TINY for each in (target, left)]
    return torch.cat([*parts, 10 * (power[0] / power[1]).log10()[:, None]], dim=1)


def told_of(
    features: Callable[[Tensor, Tensor], Tensor], predictions: Any, targets: Any
) -> NDArray[np.float64]:
    """Features as a regressor is fitted to them, float64 [n, d], by the function of the loss.

    Args:
        predictions, targets: arrays or tensors, examples along the first axis.
    """
    with torch.no_grad():
        sides = (torch.as_tensor(each) for each in (predictions, targets))
        told: NDArray[np.float64] = features(*sides).double().numpy()
    return told


def _expect_alike(prediction: Tensor, target: Tensor, rank: int | None) -> None:
    if prediction.shape != target.shape or (rank is not None and prediction.ndim != rank):
        raise DataError(
            "features need predictions and targets of one shape",
            expected="[n, c, h, w]" if rank == 4 else str(list(prediction.shape)),
            got=f"{list(prediction.shape)} and {list(target.shape)}",
        )
