"""Training with weights of examples and classes, and with blends that the weights choose.

The weights themselves are `tilth.losses.reweighting`'s. Here they meet a network: what is weighed,
when, with what other weights, and what is told to the log.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.gathered_rows import summed, together
from tilth.losses.mixup import MixupPlan, mixup_plan, weighted_mixup_plan
from tilth.losses.reweighting import Reweighting
from tilth.losses.robust_blends import Forward, blended_answers, blended_targets
from tilth.losses.robust_examples import Examples
from tilth.losses.robust_losses import soft_cross_entropy
from tilth.losses.robust_memory import WeightMemory
from tilth.losses.robust_settings import RobustSettings
from tilth.ops.evaluation_mode import evaluating

__all__ = ["ReweightedLoss", "importance_terms"]


class ReweightedLoss:
    """The terms of kinds "ciw", "cicw" and "cicw_m".

    Args:
        steps: of the run.
        forward: see `tilth.losses.robust.RobustLoss`.
    """

    def __init__(
        self, settings: RobustSettings, *, num_classes: int, steps: int, forward: Forward
    ) -> None:
        self.settings = settings
        self.num_classes = num_classes
        self.steps = steps
        self.forward = forward
        self.reweighting = Reweighting(settings.applied_reweighting, steps=steps)
        self.is_global = self.reweighting.settings.scope == "global"

    def weighed(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        examples: Examples,
        memory: WeightMemory | None,
    ) -> dict[str, Tensor]:
        """The examples as they are, each with the weight that its loss gives it."""
        logits, step = self.forward(model, batch), examples.step
        losses = self.reweighting.inner_losses(logits, examples.labels, step)
        weights = self._weights(losses, examples)
        self._observe(memory, examples, weights)
        return self._terms(losses, weights, examples.weights, weights, memory)

    def blended(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        examples: Examples,
        memory: WeightMemory | None,
        generator: np.random.Generator,
    ) -> dict[str, Tensor]:
        """A first look gives the weights, they choose the blends, and the blends are learnt.

        The first look is one of evaluation: nothing is dropped, normalisations use their running
        statistics and leave them alone, so that the weights are those of the network that is kept.
        """
        believed = examples.even
        if self._burns_in(examples.step):
            plan = mixup_plan(
                len(examples.labels),
                self.settings.mixup_alpha,
                generator,
                device=examples.labels.device,
            )
        else:
            with evaluating(model), torch.no_grad():
                logits = self.forward(model, batch)
            seen = self.reweighting.inner_losses(logits, examples.labels, examples.step)
            believed = self._weights(seen, examples)
            self._observe(memory, examples, believed)
            plan = self._weighted_plan(believed, generator)
        targets, counted = blended_targets(
            examples.labels, examples.weights, plan, self.num_classes
        )
        logits = blended_answers(self.forward, model, batch, plan)
        blends = examples._replace(labels=targets.argmax(dim=1), weights=counted)
        if self.settings.reweight_mixed:
            losses = self.reweighting.inner_losses(logits, targets, examples.step)
            weights = self._weights(losses, blends)
        else:
            losses, weights = soft_cross_entropy(logits, targets), self._even(blends)
        return self._terms(losses, weights, counted, believed, memory)

    def _weights(self, losses: Float[Tensor, "n"], examples: Examples) -> Float[Tensor, "n"]:
        return self.reweighting.weights(
            losses, examples.step, mask=examples.mask, groups=examples.labels
        )

    def _weighted_plan(
        self, weights: Float[Tensor, "n"], generator: np.random.Generator
    ) -> MixupPlan:
        return weighted_mixup_plan(
            weights,
            kind=self.settings.mixup_kind,
            power=self.settings.mixup_power,
            alpha=self.settings.mixup_alpha,
            generator=generator,
        )

    def _burns_in(self, step: int) -> bool:
        return step < self.reweighting.settings.burn_in * self.steps

    def _even(self, examples: Examples) -> Float[Tensor, "n"]:
        even = examples.even
        return even / summed(even.sum()) if self.is_global else even

    def _observe(
        self, memory: WeightMemory | None, examples: Examples, weights: Float[Tensor, "n"]
    ) -> None:
        """Remember the weights, 1 being even; those of the burn-in say nothing."""
        if memory is None or self._burns_in(examples.step):
            return
        mask = examples.mask
        counted = torch.ones_like(weights) if mask is None else mask.float()
        count = summed(counted.sum()) if self.is_global else counted.sum()
        memory.observe(*examples.counted(weights * count))

    def _terms(
        self,
        losses: Float[Tensor, "n"],
        weights: Float[Tensor, "n"],
        given: Float[Tensor, "n"] | None,
        believed: Float[Tensor, "n"],
        memory: WeightMemory | None,
    ) -> dict[str, Tensor]:
        terms = {
            "total": self._total(losses, weights, given),
            **importance_terms(losses, weights, believed),
        }
        if memory is not None:
            terms["least_class_weight"] = memory.class_weights.min()
        return terms

    def _total(
        self,
        losses: Float[Tensor, "n"],
        weights: Float[Tensor, "n"],
        given: Float[Tensor, "n"] | None,
    ) -> Float[Tensor, ""]:
        """sum w b l / sum w b, b being the given weights; over all processes where w is."""
        if given is None:
            return self.reweighting.weighted_sum(losses, weights)
        counted = weights * given
        # An infinite loss of weight 0 is no number times nothing.
        total = (counted * losses.where(counted > 0, 0.0)).sum()
        mass, group = counted.sum(), together()
        if self.is_global and group is not None:
            mass = summed(mass) / group.size()  # processes' gradients are averaged afterwards
        return total / torch.where(mass > 0, mass, 1.0)


@torch.no_grad()
def importance_terms(
    losses: Float[Tensor, "n"], weights: Float[Tensor, "n"], believed: Float[Tensor, "n"]
) -> dict[str, Tensor]:
    """For the log: how many examples ``believed`` amounts to, and what the trusted half loses.

    >>> weights = torch.tensor([0.5, 0.5, 0.0, 0.0])
    >>> importance_terms(torch.tensor([1.0, 2.0, 8.0, 9.0]), weights, weights)
    {'effective_share': tensor(0.5000), 'trusted_loss': tensor(1.5000)}
    """
    if not len(losses):
        return {"effective_share": losses.new_tensor(1.0), "trusted_loss": losses.new_tensor(0.0)}
    squares = believed.square().sum()
    share = believed.sum().square() / torch.where(squares > 0, squares * len(believed), 1.0)
    half = weights.topk((len(weights) + 1) // 2).indices
    return {"effective_share": share, "trusted_loss": losses.detach()[half].mean()}
