"""A detector's loss of a batch: that of its family, with weights of truths where they are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tilth.losses.detection import AnchorGrid, DetectionLoss
from tilth.losses.robust_detection import RobustDetectionLoss
from tilth.losses.robust_examples import NUMBER
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.detection_families import family_of
from tilth.recipes.detector_loss_settings import ordinary_loss
from tilth.train.loop import Loss

__all__ = ["detection_loss"]


def detection_loss(
    model: nn.Module,
    settings: DetectSettings,
    *,
    steps: int,
    batches_per_step: int,
    class_counts: Sequence[int] | None = None,
) -> Loss:
    """Loss terms of a batch of `tilth.train.loading.DetectionBatches`.

    With ``settings.robust`` batches must know their number, as those of
    `tilth.train.adversarial.NumberedBatches` do.

    Args:
        steps: of the whole run.
        batches_per_step: accumulated batches times processes.
        class_counts: boxes of each class, for class weights that are to balance them.
    """
    own = ordinary_loss(settings.loss)
    if not settings.robust.is_on:
        return family_of(settings.model).loss(model, own, class_counts=class_counts)
    assert isinstance(model, AnchorGrid)  # `DetectSettings` has refused all others
    loss = DetectionLoss.of_network(model, own, class_counts=class_counts)
    robust = RobustDetectionLoss(loss, settings.robust, steps=steps)

    def batch_loss(network: nn.Module, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        return robust(
            network(batch["images"]),
            batch["boxes_xyxy"],
            batch["class_index"],
            batch["image_index"],
            batch.get("ignore_boxes_xyxy"),
            batch.get("ignore_image_index"),
            box_weights=batch.get("box_weights"),
            step=int(batch[NUMBER]) // batches_per_step,
        )

    return batch_loss
