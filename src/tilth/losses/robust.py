"""The loss of a classifier whose labels are partly wrong: one switch, the same batches for all.

What the methods need beside a batch is remembered by the module that `RobustLoss.network` makes
around a network, so that checkpoints hold it; everything that is drawn or scheduled is a function
of the step. A run that is killed therefore goes on as if it had not been.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import TrainingError
from tilth.losses.classification import example_losses, weighted_mean
from tilth.losses.mixup import mixup_plan
from tilth.losses.robust_blends import Forward, blended_answers, blended_targets
from tilth.losses.robust_co_teaching import chosen_by_the_other, kept_share
from tilth.losses.robust_early_learning import EarlyTargets
from tilth.losses.robust_examples import NUMBER, Examples, mean_of
from tilth.losses.robust_losses import LOSSES, soft_cross_entropy
from tilth.losses.robust_memory import WeightMemory
from tilth.losses.robust_network import RobustNetwork
from tilth.losses.robust_reweighted import ReweightedLoss
from tilth.losses.robust_settings import REWEIGHTED_KINDS, WEIGHED_KINDS, RobustSettings
from tilth.seeding import generator

__all__ = ["NUMBER", "RobustLoss", "pictures_forward"]

# Methods that are what they are whatever the step.
UNSCHEDULED_KINDS = (*LOSSES, "elr")


def pictures_forward(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Logits of the pictures of a batch."""
    logits: Tensor = model(batch["images"])
    return logits


class RobustLoss:
    """Loss terms of a batch, as `tilth.train.loop.fit` asks for them.

    A batch has ``label`` int64 [n]; ``weight`` [n], where examples weigh differently; ``row``
    int64 [n], the number of each example among all, for what is remembered by example; and
    ``batch_number``, where the method depends on the step.

    Example weights and class weights multiply what a method gives: it alone decides whom to trust,
    and examples of weight 0 take no part in that.

    Args:
        settings: the method and its numbers.
        num_classes: of the logits.
        steps: of the whole run, which schedules are shares of.
        seed: of partners and shares of blends.
        num_examples: one more than the largest ``row``; "elr" and ``keep_weights`` need it.
        class_weights: of each class; all the same by default.
        forward: gives the logits [n, k] of a batch; must call the module that it is given.
        batches_per_step: accumulated batches times processes.

    Raises:
        TrainingError: every example is to be remembered, and nobody says how many there are.

    >>> loss = RobustLoss(RobustSettings(kind="gce", q=1.0), num_classes=2, steps=10)
    >>> model = loss.network(lambda: nn.Linear(3, 2, bias=False))
    >>> batch = {"images": torch.zeros(4, 3), "label": torch.tensor([0, 1, 1, 0])}
    >>> round(loss(model, batch)["total"].item(), 4)
    0.5
    """

    def __init__(
        self,
        settings: RobustSettings,
        *,
        num_classes: int,
        steps: int,
        seed: int = 0,
        num_examples: int | None = None,
        class_weights: Float[Tensor, "k"] | None = None,
        forward: Forward = pictures_forward,
        batches_per_step: int = 1,
    ) -> None:
        self.settings = settings
        self.num_classes = num_classes
        self.steps = steps
        self.seed = seed
        self.class_weights = class_weights
        self.forward = forward
        self.batches_per_step = batches_per_step
        self.num_rows: int | None = None
        if settings.kind == "elr" or settings.keep_weights:
            self.num_rows = _known_rows(num_examples, settings)
        self._remembered: RobustNetwork | None = None
        self._reweighted: ReweightedLoss | None = None
        if settings.kind in REWEIGHTED_KINDS:
            self._reweighted = ReweightedLoss(
                settings, num_classes=num_classes, steps=steps, forward=forward
            )

    def network(self, build: Callable[[], nn.Module]) -> nn.Module:
        """The module to train: what ``build`` makes, with what the method remembers beside it.

        Where nothing is remembered it is the network itself; see `bare`.

        Args:
            build: a new network with starting weights of its own; called twice for co-teaching.
        """
        kind, network = self.settings.kind, build()
        if kind != "elr" and kind not in WEIGHED_KINDS:
            return network
        kept = (self.num_rows or 0) if self.settings.keep_weights else 0
        self._remembered = RobustNetwork(
            network,
            twin=build() if kind == "co_teaching" else None,
            weights=WeightMemory(self.num_classes, kept) if kind in WEIGHED_KINDS else None,
            early=EarlyTargets(self.num_rows or 0, self.num_classes) if kind == "elr" else None,
        )
        return self._remembered

    @staticmethod
    def bare(model: nn.Module) -> nn.Module:
        """The network within a module that `network` has made: of two, the first."""
        return model.network if isinstance(model, RobustNetwork) else model

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The terms of a batch, ``total`` among them; the others are for the log.

        ``effective_share`` is how many examples the weights amount to, 1 / sum w^2, as a share of
        the batch; ``trusted_loss`` the mean loss of the half with the higher weights; and
        ``least_class_weight`` the lately mean weight of the class that has least, 1 being even.

        Raises:
            DataError: a label or row that is outside of what the loss was made for.
            TrainingError: an entry of the batch that the method needs is missing.
        """
        kind, memory = self.settings.kind, None
        examples = Examples.of(
            batch,
            num_classes=self.num_classes,
            class_weights=self.class_weights,
            num_rows=self.num_rows,
            batches_per_step=self.batches_per_step,
            is_scheduled=kind not in UNSCHEDULED_KINDS,
        )
        if self._remembered is not None:
            memory = self._remembered.weights
        if kind == "elr":
            return self._early_learning(model, batch, examples)
        if kind == "co_teaching":
            return self._co_teaching(model, batch, examples, memory)
        if kind == "mixup":
            return self._mixup(model, batch, examples)
        if self._reweighted is None:
            losses = LOSSES[kind](self.settings, self.forward(model, batch), examples.labels)
            return {"total": mean_of(losses, examples.weights)}
        if kind == "cicw_m":
            draws = self._generator(examples)
            return self._reweighted.blended(model, batch, examples, memory, draws)
        return self._reweighted.weighed(model, batch, examples, memory)

    def _early_learning(
        self, model: nn.Module, batch: Mapping[str, Any], examples: Examples
    ) -> dict[str, Tensor]:
        if self._remembered is None or self._remembered.early is None:
            raise _unknown_network("elr")
        assert examples.rows is not None
        logits = self.forward(model, batch)
        losses = example_losses(logits, examples.labels)
        held = self._remembered.early(logits, examples.rows, beta=self.settings.applied_beta)
        total = mean_of(losses + self.settings.lam * held, examples.weights)
        return {"total": total, "cross_entropy": mean_of(losses.detach(), examples.weights)}

    def _co_teaching(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        examples: Examples,
        memory: WeightMemory | None,
    ) -> dict[str, Tensor]:
        both = self.forward(model, batch)
        if both.ndim != 3:
            raise _unknown_network("co_teaching")
        losses = torch.stack([example_losses(each, examples.labels) for each in both])
        share = kept_share(
            examples.step,
            forget_rate=self.settings.forget_rate,
            ramp=self.settings.forget_ramp * self.steps,
        )
        chosen = chosen_by_the_other(losses, share, examples.mask).float()
        counted = chosen if examples.weights is None else chosen * examples.weights
        # Their sum, so that each network learns as fast as it would alone.
        totals = [weighted_mean(*each) for each in zip(losses, counted, strict=True)]
        if memory is not None:
            memory.observe(*examples.counted(chosen.mean(dim=0) / share))
        return {"total": torch.stack(totals).sum(), "kept_share": chosen.mean()}

    def _mixup(
        self, model: nn.Module, batch: Mapping[str, Any], examples: Examples
    ) -> dict[str, Tensor]:
        labels, draws = examples.labels, self._generator(examples)
        plan = mixup_plan(len(labels), self.settings.mixup_alpha, draws, device=labels.device)
        targets, counted = blended_targets(labels, examples.weights, plan, self.num_classes)
        logits = blended_answers(self.forward, model, batch, plan)
        return {"total": mean_of(soft_cross_entropy(logits, targets), counted)}

    def _generator(self, examples: Examples) -> np.random.Generator:
        return generator(self.seed, "blends", examples.number)


def _known_rows(num_examples: int | None, settings: RobustSettings) -> int:
    if num_examples is None:
        raise TrainingError(
            "the loss remembers every example, and does not know how many there are",
            expected="num_examples",
            got=f"kind {settings.kind!r}, keep_weights = {settings.keep_weights}",
        )
    return num_examples


def _unknown_network(kind: str) -> TrainingError:
    return TrainingError(
        f"the loss '{kind}' needs a network that remembers",
        expected="the module that RobustLoss.network made",
        fix="model = loss.network(build), and train that",
    )
