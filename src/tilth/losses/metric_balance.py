"""Two losses that pull equally hard at a network's outputs, whatever units they have."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tilth.errors import TrainingError
from tilth.losses.gathered_rows import summed

__all__ = ["GradientBalance"]

# Of the factor from one batch to the next: single batches differ by their hardest example.
KEPT = 0.9
# Beyond it a surrogate is flat, and what is left of its gradient is rounding.
LARGEST = 1e4


class GradientBalance:
    """Scales one loss so that its gradient at the outputs is as long as that of another.

    Args:
        notice: is told of gradients that cannot be balanced.

    Attributes:
        factor: that the loss is multiplied by, smoothed in its logarithm; 0 before the first batch.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self.notice = notice
        self.factor = 0.0

    def scaled(
        self, loss: Tensor, prediction: Tensor, ordinary: Tensor, outputs: Sequence[Tensor]
    ) -> Tensor:
        """``factor`` times ``loss``, whose graph is left where it meets the prediction.

        Args:
            loss: of the prediction alone.
            prediction: follows from the outputs.
            ordinary: the other loss, of the outputs.
            outputs: of the network.

        Raises:
            TrainingError: there are no outputs.
        """
        if not torch.is_grad_enabled():
            return self.factor * loss
        if not outputs:
            raise TrainingError("the loss has not called the model that it was given")
        (pull,) = torch.autograd.grad(loss, prediction)
        self._follow(
            _length(_gradients(prediction, outputs, pull)),
            _length(_gradients(ordinary, outputs)) if ordinary.requires_grad else 0.0,
        )
        # The gradient is at hand: what it says at the prediction goes on from there. Not at the
        # outputs, of which one may follow from another: that would count twice.
        line = (prediction * (self.factor * pull)).sum()
        return line - line.detach() + self.factor * loss.detach()

    def _follow(self, length: float, other: float) -> None:
        if not other and not self.factor:
            self.notice(
                "the ordinary loss has no gradient at the network's outputs, so the metric, "
                "balanced by it, has none either: loss.balance = 'value' needs no other loss"
            )
        factor = other / length if length > 0 else math.inf
        if other > 0 and factor > LARGEST:
            self.notice(
                "the surrogate hardly changes with the outputs: its values lie at a bound of the "
                "metric, or the metric is flat where the network is"
            )
            factor = LARGEST
        if 0 < factor < math.inf:
            known, rate = (math.log(self.factor), KEPT) if self.factor else (0.0, 0.0)
            self.factor = math.exp(rate * known + (1 - rate) * math.log(factor))


def _gradients(
    value: Tensor, outputs: Sequence[Tensor], pull: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(value, outputs, pull, retain_graph=True, allow_unused=True)


def _length(gradients: tuple[Tensor | None, ...]) -> float:
    """Over all processes, so that all of them balance alike."""
    squares = [each.float().square().sum() for each in gradients if each is not None]
    return float(summed(torch.stack(squares).sum()).sqrt()) if squares else 0.0
