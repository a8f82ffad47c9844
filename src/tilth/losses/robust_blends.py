"""Blended batches: of pictures the pixels, of anything else what enters the last linear layer.

Words cannot be averaged, but the features that a text comes to can; so texts are blended there,
which also blends the number and category columns beside them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tilth.errors import TrainingError
from tilth.losses.mixup import MixupPlan, mix

__all__ = ["Forward", "blended_answers", "blended_targets"]

Forward = Callable[[nn.Module, Mapping[str, Any]], Tensor]


def blended_answers(
    forward: Forward, model: nn.Module, batch: Mapping[str, Any], plan: MixupPlan
) -> Float[Tensor, "n k"]:
    """What ``model`` says of the blends of a batch."""
    if "images" in batch:
        return forward(model, {**batch, "images": mix(batch["images"], plan)})
    with _blended_features(model, plan):
        return forward(model, batch)


def blended_targets(
    labels: Int64[Tensor, "n"],
    weights: Float[Tensor, "n"] | None,
    plan: MixupPlan,
    num_classes: int,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n"] | None]:
    """The targets of the blends, and how much each counts.

    Cross-entropy with these targets times these weights is the sum of both examples' own, each with
    its weight; so a label that weighs nothing teaches nothing in a blend either.
    """
    own = one_hot(labels, num_classes).float()
    targets = mix(own, plan)
    if weights is None:
        return targets, None
    blended = mix(weights, plan)
    weighted = mix(own * weights[:, None], plan) / torch.where(blended > 0, blended, 1.0)[:, None]
    return torch.where(blended[:, None] > 0, weighted, targets), blended


@contextmanager
def _blended_features(model: nn.Module, plan: MixupPlan) -> Iterator[None]:
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise TrainingError(
            "examples of this network cannot be blended",
            expected="batches with 'images', or a network that ends in a linear layer",
            got=type(model).__name__,
        )

    def blend(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (mix(inputs[0], plan),)

    handle = layers[-1].register_forward_pre_hook(blend)
    try:
        yield
    finally:
        handle.remove()
