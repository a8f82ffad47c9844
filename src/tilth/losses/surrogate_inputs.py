"""The kinds of predictions and targets that a metric can be learned for, one line each.

A kind is what makes channels of a pair, and a network that makes features of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import DataError, SettingsError
from tilth.losses.surrogate_boxes import BoxPairs, box_channels
from tilth.losses.surrogate_images import PicturePairs, image_channels, mask_channels
from tilth.losses.surrogate_layers import Build, dense
from tilth.losses.surrogate_sequences import SequencePairs, match_channels, read_channels
from tilth.losses.surrogate_tables import RowPairs, row_channels

__all__ = ["INPUTS", "Inputs", "SurrogateNetwork", "inputs_of"]

Channels = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A kind of predictions and targets.

    Attributes:
        name: as settings spell it.
        says: what predictions and targets are, in words.
        channels: of prediction and target, differentiable in the prediction.
        network: features of channels, for an example of them.
    """

    name: str
    says: str
    channels: Channels
    network: Callable[[Tensor, Build], Any]


INPUTS = {
    entry.name: entry
    for entry in (
        Inputs(
            name="table",
            says="numbers or class chances [n, k]; the same, or class numbers [n]",
            channels=row_channels,
            network=lambda x, build: RowPairs(x.shape[1], build),
        ),
        Inputs(
            name="image",
            says="pictures or volumes [n, c, h, w], [n, c, d, h, w]; the same",
            channels=image_channels,
            network=lambda x, build: PicturePairs(x.shape[1], x.ndim - 2, build),
        ),
        Inputs(
            name="mask",
            says="chances [n, k, h, w], [n, k, d, h, w]; masks alike, or class numbers [n, h, w]",
            channels=mask_channels,
            network=lambda x, build: PicturePairs(x.shape[1], x.ndim - 2, build),
        ),
        Inputs(
            name="sequence",
            says="chances of classes by place [n, t, k]; class numbers [n, l], -1 beyond the end",
            channels=match_channels,
            network=lambda x, build: SequencePairs(x.shape[1], build),
        ),
        Inputs(
            name="frames",
            says="chances by frame [n, t, k], the last class none (CTC); class numbers [n, l]",
            channels=read_channels,
            network=lambda x, build: PicturePairs(x.shape[1], 2, build),
        ),
        Inputs(
            name="boxes",
            says="[n, m, 5 + k] x0 y0 x1 y1, score, class chances; [n, q, 5] x0 y0 x1 y1, class",
            channels=box_channels,
            network=lambda x, build: BoxPairs(build),
        ),
    )
}


def inputs_of(given: str | Channels | Inputs) -> Inputs:
    """The kind of a name; or of a function that makes a row of numbers [n, d] of a pair.

    Raises:
        SettingsError: no such name.
    """
    if isinstance(given, Inputs):
        return given
    if callable(given):
        name = f"{given.__module__}:{getattr(given, '__qualname__', type(given).__name__)}"
        return Inputs(
            name=name,
            says="what the given function takes",
            channels=given,
            network=lambda x, build: RowPairs(x.shape[1], build),
        )
    if given not in INPUTS:
        raise SettingsError(
            "the inputs of a metric cannot be used",
            expected="one of " + ", ".join(INPUTS) + ", or a function of (prediction, target)",
            got=repr(given),
        )
    return INPUTS[given]


class SurrogateNetwork(nn.Module):
    """Predicts a metric: channels, features, one number within the metric's bounds.

    Args:
        inputs: the kind of predictions and targets.
        example: channels of a few pairs, for their sizes.
        build: how layers are made.
        low, high: bounds of the metric, where there are any.
        is_set: an example is a set of pairs [n, m, ...], and the metric is the set's.
        is_distance: the distance of what the network makes of prediction and target.
    """

    def __init__(
        self,
        inputs: Inputs,
        example: Tensor,
        build: Build,
        *,
        low: float | None,
        high: float | None,
        best: float | None = None,
        is_set: bool = False,
        is_distance: bool = False,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.is_set = is_set
        self.is_distance = is_distance
        self.best = best
        self.bounds = (low, high)
        self.features = inputs.network(example, build)
        num = self.features.num_features * (2 if is_set else 1)
        out = 16 if is_distance else 1
        self.head = dense((num, 2 * build.channels, out), build)
        # Where the values of the bank lie; set by `standardise`.
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.centre: Tensor
        self.scale: Tensor

    @torch.no_grad()
    def standardise(self, values: Float[Tensor, "n"]) -> None:
        """Take the values' mean and standard deviation as the start."""
        self.centre.copy_(values.mean())
        self.scale.copy_(values.std().clamp_min(1e-6))

    def forward(self, prediction: Tensor, target: Tensor) -> Float[Tensor, "n"]:
        """The metric of each example, or of each set.

        Raises:
            DataError: shapes that do not fit.
        """
        if prediction.is_floating_point():  # NumPy's float64, or half precision
            prediction = prediction.to(self.centre.dtype)
        if not self.is_distance:
            found = self.head(self._features(prediction, target))[:, 0]
            return self._bounded(self.centre + self.scale * found)
        if prediction.shape != target.shape:
            raise DataError(
                "form 'distance' needs predictions and targets of one shape",
                expected=str(list(prediction.shape)),
                got=str(list(target.shape)),
                fix="form = 'pair', or classes one-hot",
            )
        other = target.to(prediction.dtype)
        apart = self._code(prediction, other) - self._code(other, other)
        distance = apart.square().mean(dim=1).add(1e-12).sqrt() * self.scale
        low, high = self.bounds
        if low is not None and self.best == low:
            return low + distance
        if high is not None and self.best == high:
            return high - distance
        raise SettingsError(
            "a distance needs the metric's best value", expected="a bound on its good side"
        )

    def _code(self, prediction: Tensor, target: Tensor) -> Tensor:
        code: Tensor = self.head(self._features(prediction, target))
        return code

    def _features(self, prediction: Tensor, target: Tensor) -> Tensor:
        if not self.is_set:
            found: Tensor = self.features(self.inputs.channels(prediction, target))
            return found
        sets, size = prediction.shape[:2]
        flat = self.inputs.channels(prediction.flatten(0, 1), target.flatten(0, 1))
        each = self.features(flat).reshape(sets, size, -1)
        # A root's slope at 0, where all examples of a set are alike, is infinite.
        spread = each.var(dim=1, correction=0).add(1e-6).sqrt()
        return torch.cat([each.mean(dim=1), spread], dim=1)

    def _bounded(self, values: Tensor) -> Tensor:
        """Within the bounds, and nearly the value itself away from them."""
        low, high = self.bounds
        if low is not None and high is not None:
            middle = (values - low) / (high - low)
            return low + (high - low) * torch.sigmoid(4 * (middle - 0.5))
        if low is not None:
            return low + nn.functional.softplus(values - low, beta=_sharp(self.scale))
        if high is not None:
            return high - nn.functional.softplus(high - values, beta=_sharp(self.scale))
        return values


def _sharp(scale: Tensor) -> float:
    return 2.0 / float(scale)


def check_channels(channels: Tensor, inputs: Inputs) -> None:
    """Refuse a function of features that loses the gradient, or the examples.

    Raises:
        DataError: it did.
    """
    if not channels.requires_grad:
        raise DataError(
            f"the features of '{inputs.name}' carry no gradient to the prediction",
            expected="torch operations from end to end: no .detach(), .item(), .numpy() or argmax",
        )
