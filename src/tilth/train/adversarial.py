"""Self-adversarial training: a detector hides the objects of a picture from itself, then learns it.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection,
    arXiv 2004.10934v1 (section 3.3), as the authors' program Darknet does it
    (network_kernels.cu).
Follows: section 3.3, first stage -> `hidden`; second stage -> `self_adversarial`.
Symbols: learning_rate = adversarial_lr.
Differs: the loss of the first stage is the detector's own for pictures without any object, where
    Darknet has one that weighs large boxes more; no pixel moves further than max_change; the
    gradient is that of each picture, whatever the size of the batch.
Checked by: `test_hidden_pictures_hold_fewer_objects`, `test_changes_are_bounded`,
    `test_gradients_are_those_of_the_second_stage_alone`,
    `test_a_resumed_run_changes_the_same_pictures`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tilth.ops.evaluation_mode import evaluating
from tilth.seeding import generator
from tilth.train.adversarial_settings import AdversarialSettings
from tilth.train.loop import Loss
from tilth.train.run import Batches

__all__ = ["NumberedBatches", "hidden", "self_adversarial"]

NUMBER = "batch_number"
# A picture's gradient is small: under fp16 it would vanish on its way back. A power of two
# changes no other precision.
GRADIENT_SCALE = 1024.0


@dataclass(frozen=True, kw_only=True)
class NumberedBatches:
    """Batches that know their number, which `self_adversarial` reads; part of the run's identity.

    Attributes:
        source: where the batches come from.
        settings: of the training that they are for.
    """

    source: Batches
    settings: AdversarialSettings

    @property
    def identity(self) -> dict[str, Any]:
        """That of the source, and the settings."""
        return {**getattr(self.source, "identity", {}), "adversarial": asdict(self.settings)}

    def batch(self, step: int) -> dict[str, Any]:
        """The batch of the source, and its number."""
        return {**self.source.batch(step), NUMBER: step}


def self_adversarial(
    loss: Loss,
    settings: AdversarialSettings,
    *,
    steps: int,
    warmup_steps: int,
    batches_per_step: int,
    seed: int,
) -> Loss:
    """``loss``, of pictures that the network has changed first, on a share of the steps.

    What happens to a step is a function of its number, so it is the same after a resume and in all
    processes. The first stage runs the bare module in evaluation mode: nothing is counted, no
    gradient is left on a weight, and no process waits for another.

    Args:
        loss: of batches of `NumberedBatches`, with entries as `DetectionBatches` has them.
        steps: of the whole run.
        warmup_steps: steps at the beginning that leave pictures as they are.
        batches_per_step: accumulated batches times processes.
        seed: of the choice of steps.
    """
    if not settings.learning_rate:
        return loss

    def adversarial_loss(model: nn.Module, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        step = batch[NUMBER] // batches_per_step
        is_chosen = generator(seed, "adversarial", step).random() < settings.share
        if step < warmup_steps or not is_chosen:
            return loss(model, batch)
        images = hidden(
            loss,
            model,
            batch,
            rate=settings.learning_rate * step / steps,
            max_change=settings.max_change,
        )
        return loss(model, {**batch, "images": images})

    return adversarial_loss


def hidden(
    loss: Loss, model: nn.Module, batch: Mapping[str, Any], *, rate: float, max_change: float
) -> Float[Tensor, "b 3 h w"]:
    """The batch's pictures, moved to where the network sees less in them.

    Args:
        rate: of the step down the gradient of the loss that a picture without objects has.
        max_change: of a pixel, either way.

    Returns:
        A new tensor, in 0..1.
    """
    images: Tensor = batch["images"]
    # Not the wrapper: its forward would wait for the other processes.
    network = model.module if isinstance(model, DistributedDataParallel) else model
    with evaluating(network), torch.enable_grad():
        leaf = images.detach().requires_grad_()
        terms = loss(network, {**_without_objects(batch), "images": leaf})
        # The loss is a mean over pictures; their own gradients do not depend on the others.
        total = terms["total"] * (len(images) * GRADIENT_SCALE)
        (gradient,) = torch.autograd.grad(total, leaf)
    change = (gradient.nan_to_num(0.0, 0.0, 0.0) * (-rate / GRADIENT_SCALE)).to(images.dtype)
    return (images + change.clamp(-max_change, max_change)).clamp(0.0, 1.0)


def _without_objects(batch: Mapping[str, Any]) -> dict[str, Any]:
    of_boxes = ("boxes_xyxy", "class_index", "image_index", "box_weights")
    of_regions = ("ignore_boxes_xyxy", "ignore_image_index")
    emptied = {name: batch[name][:0] for name in (*of_boxes, *of_regions) if name in batch}
    return {**batch, **emptied}
