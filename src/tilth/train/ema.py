"""An exponential moving average of a model's weights: the model that is evaluated and kept."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

__all__ = ["MovingAverage"]


class MovingAverage:
    """A second model that follows the trained one: ``average += (1 - d) * (model - average)``.

    The decay ramps up as ``d = min(decay, (1 + t) / (10 + t))`` over updates ``t``, as in
    TensorFlow's ExponentialMovingAverage; otherwise a short run would still be evaluated with the
    weights that it started from. With ``ramp`` above 0 it is ``d = decay (1 - exp(-(1 + t) /
    ramp))`` instead, as detectors are often trained: that reaches a decay close to 1 sooner.
    Floating-point buffers (running statistics of a normalisation) are averaged too, because they
    belong to the averaged weights; counters are copied.

    Args:
        model: what to follow; the average starts as a copy of it.
        decay: below 1; 0.999 averages over about a thousand steps.
        ramp: updates over which the decay is reached, or 0; 2000 goes with a decay of 0.9998.
    """

    def __init__(self, model: nn.Module, decay: float, *, ramp: float = 0.0) -> None:
        self.decay = decay
        self.ramp = ramp
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._average, self._followed = _paired_tensors(self.model, model, floating=True)
        self._counters, self._counted = _paired_tensors(self.model, model, floating=False)

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move towards the model as it is now; ``updates`` is how often this was done before."""
        decay = self._decay_at(updates)
        torch._foreach_lerp_(self._average, self._followed, 1 - decay)
        for counter, counted in zip(self._counters, self._counted, strict=True):
            counter.copy_(counted)

    def _decay_at(self, updates: int) -> float:
        if self.ramp:
            return self.decay * (1 - math.exp(-(1 + updates) / self.ramp))
        return min(self.decay, (1 + updates) / (10 + updates))


def _paired_tensors(
    average: nn.Module, model: nn.Module, *, floating: bool
) -> tuple[list[Tensor], list[Tensor]]:
    # By identity, so that weights shared by two modules are averaged once, not twice.
    pairs = {
        id(target): (target, source)
        for target, source in zip(
            [*average.parameters(), *average.buffers()],
            [*model.parameters(), *model.buffers()],
            strict=True,
        )
        if source.is_floating_point() == floating
    }
    targets = [target for target, _ in pairs.values()]
    # The parameters themselves, not detached views: moving a module to a device gives its
    # parameters new storage, and a view would go on showing the old one.
    return targets, [source for _, source in pairs.values()]
