"""Constrained instance and class reweighting: a step's loss from the losses of its examples.

Source: Kumar, Amid, 2021, Constrained Instance and Class Reweighting for Robust Learning under
    Label Noise, arXiv 2111.05428 (the authors' released program, google-research ciw_label_noise).
Follows: class weights, then instance weights on the inner losses, both constants of the gradient
    -> `Reweighting`; burn-in, and lam falling in a straight line -> `lam_of_step`.
Symbols: lam, delta, gamma, burn_in, ramp as in `tilth.losses.reweighting_settings`; inner loss =
    sum_k v_k l_k; w = instance weights; step = a batch's number, from 0.
Differs: labels are as given during the burn-in, which the program does not say; burn-in and ramp
    are shares of the run, its 4,000 and 3,000 of 50,000 steps; a radius grows where a temperature
    falls.
Checked by: `test_schedule_of_the_release`, `test_kl_weights_give_the_gradient_of_gce`,
    `test_detached_weights_are_the_gradient_of_the_value`, `test_burn_in_is_plain_cross_entropy`,
    `test_gradient_over_two_processes_is_that_of_one`
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, distributed
from torch.nn.functional import cross_entropy, log_softmax

from tilth.errors import SettingsError
from tilth.losses.class_weights import class_weighted_losses, class_weights
from tilth.losses.gathered_rows import together
from tilth.losses.index_range import refuse_outside
from tilth.losses.instance_weights import element_weights, instance_weights
from tilth.losses.reweighting_settings import ReweightingSettings

__all__ = ["Reweighting", "lam_of_step", "reweighted"]


def lam_of_step(
    settings: ReweightingSettings, step: int, steps: int
) -> tuple[float | None, float | None]:
    """The temperature and the radius of a step, one of which is None; both are in the burn-in.

    >>> lam_of_step(ReweightingSettings(lam=0.1, burn_in=0.1, ramp=0.1), 10, 100)
    (1.0, None)
    """
    begin = settings.burn_in * steps
    if step < begin:
        return None, None
    length = settings.ramp * steps
    done = min((step - begin) / length, 1.0) if length else 1.0
    factor = settings.ramp_from + (1 - settings.ramp_from) * done
    if settings.delta is None:
        return settings.lam * factor, None
    return None, settings.delta * (1 / settings.ramp_from + (1 - 1 / settings.ramp_from) * done)


@dataclass(frozen=True)
class Reweighting:
    """Weights and losses of a run's steps; it remembers nothing from one to the next.

    Over several processes, where the scope is global, the weights of all batches of a step sum to 1
    and `loss` is this process' part times their number, since DistributedDataParallel takes the
    mean of gradients. Batches whose gradients accumulate are weighed one by one.

    Attributes:
        settings: divergences and schedule.
        steps: of the whole run, which the burn-in and the ramp are shares of.
        process_group: whose batches are weighed together under the global scope; None is all
            processes of the run, or this one alone where there is no more.
        capacity: of any batch; saves one of two messages between processes, see `gathered_columns`.
    """

    settings: ReweightingSettings
    steps: int
    process_group: distributed.ProcessGroup | None = None
    capacity: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SettingsError("a schedule needs steps", expected="1 or more", got=str(self.steps))

    def weights(
        self,
        losses: Float[Tensor, "n"],
        step: int,
        *,
        mask: Bool[Tensor, "n"] | None = None,
        groups: Int64[Tensor, "n"] | None = None,
    ) -> Float[Tensor, "n"]:
        """Weights of a step's losses; uniform during the burn-in. See `instance_weights`.

        Args:
            groups: classes, which only settings with ``per_class`` look at.
        """
        return instance_weights(
            losses,
            mask=mask,
            groups=groups if self.settings.per_class else None,
            capacity=self.capacity,
            **self._how(step),
        )

    def element_weights(
        self,
        losses: Float[Tensor, "n *rest"],
        step: int,
        *,
        instance: Literal["example", "element"],
        mask: Bool[Tensor, "n *rest"] | None = None,
    ) -> Float[Tensor, "n *rest"]:
        """As `weights`, of pixels, regions or tokens; see `tilth.losses.instance_weights`."""
        return element_weights(losses, instance=instance, mask=mask, **self._how(step))

    def inner_losses(
        self,
        logits: Float[Tensor, "n k"],
        targets: Int64[Tensor, "n"] | Float[Tensor, "n k"],
        step: int,
    ) -> Float[Tensor, "n"]:
        """Cross-entropy with labels or distributions as the class weights see them, float32.

        Raises:
            DataError: a label outside the classes.
        """
        settings = self.settings
        if settings.class_divergence == "none" or step < settings.burn_in * self.steps:
            if not targets.is_floating_point():
                refuse_outside(targets, logits.shape[1], "a label is not one of the classes")
            return cross_entropy(logits.float(), targets, reduction="none")
        losses_per_class = -log_softmax(logits.float(), dim=1)
        weights = class_weights(
            losses_per_class,
            targets,
            divergence=settings.class_divergence,
            gamma=settings.gamma,
            smoothing=settings.anchor_smoothing,
        )
        return class_weighted_losses(losses_per_class, weights)

    def loss(
        self,
        logits: Float[Tensor, "n k"],
        targets: Int64[Tensor, "n"] | Float[Tensor, "n k"],
        step: int,
        mask: Bool[Tensor, "n"] | None = None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "n"]]:
        """What a step minimises, and the weights behind it.

        Args:
            targets: labels, or distributions over classes.
            mask: examples that count; the others' logits and labels are not looked at.
        """
        classes = targets
        if mask is not None:
            logits = logits.masked_fill(~mask.unsqueeze(1), 0.0)
            targets = targets.where(mask.view(-1, *[1] * (targets.ndim - 1)), _harmless(targets))
        if targets.is_floating_point():
            classes = targets.argmax(dim=1)
        losses = self.inner_losses(logits, targets, step)
        weights = self.weights(losses, step, mask=mask, groups=classes)
        return self.weighted_sum(losses, weights), weights

    def weighted_sum(
        self, losses: Float[Tensor, "n *rest"], weights: Float[Tensor, "n *rest"]
    ) -> Float[Tensor, ""]:
        """Sum of weights times losses, so scaled that the mean over processes is the whole's."""
        group = self._group()
        size = 1 if group is None else group.size()
        # An infinite loss without weight counts nothing, and neither does its gradient.
        return size * (weights * losses.where(weights > 0, 0)).sum()

    def _how(self, step: int) -> dict[str, Any]:
        """What a step asks of `instance_weights`."""
        lam, delta = lam_of_step(self.settings, step, self.steps)
        if lam is None and delta is None:
            # The uniform weights of what can be weighed: an infinite loss has none here either.
            lam = torch.inf
        return {
            "divergence": self.settings.divergence,
            "alpha": self.settings.alpha,
            "lam": lam,
            "delta": delta,
            "process_group": self._group(),
        }

    def _group(self) -> distributed.ProcessGroup | None:
        """Who shares the batch; None where it is this process alone."""
        if self.settings.scope == "local":
            return None
        return together() if self.process_group is None else self.process_group


def reweighted(
    loss_function: Callable[..., Float[Tensor, "n"]], settings: ReweightingSettings, steps: int
) -> Callable[..., tuple[Float[Tensor, ""], Float[Tensor, "n"]]]:
    """Any loss with a value for each example, as the weighted sum of these.

    Args:
        loss_function: gives the losses of the examples of a batch, [n].
        settings: their instance weights; class weights need `Reweighting.loss`.
        steps: of the whole run.

    Returns:
        A function of the same arguments and of the keywords ``step``, ``mask`` and ``groups``. Its
        result is the total, through which a gradient flows, and the weights.

    >>> squared = reweighted(lambda x, y: (x - y) ** 2, ReweightingSettings(divergence="kl"), 100)
    >>> squared(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 3.0]), step=99)
    (tensor(1.6993e-17), tensor([1.0000e+00, 4.2484e-18]))
    """
    reweighting = Reweighting(settings, steps)

    def weighted_loss(
        *arguments: Any,
        step: int,
        mask: Bool[Tensor, "n"] | None = None,
        groups: Int64[Tensor, "n"] | None = None,
        **keywords: Any,
    ) -> tuple[Tensor, Tensor]:
        losses = loss_function(*arguments, **keywords)
        weights = reweighting.weights(losses, step, mask=mask, groups=groups)
        return reweighting.weighted_sum(losses, weights), weights

    return weighted_loss


def _harmless(targets: Tensor) -> Tensor:
    """What stands in for a masked label: the first class, or all classes alike."""
    if targets.is_floating_point():
        return torch.full_like(targets, 1 / targets.shape[1])
    return torch.zeros_like(targets)
