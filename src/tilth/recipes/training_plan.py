"""How long a detector is trained and with how large a batch, when the settings leave it open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tilth.losses.robust_examples import NUMBER
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.detection_families import family_of
from tilth.recipes.robust_detection import detection_loss
from tilth.train.batch_size import chosen_batch_size, training_steps
from tilth.train.epochs import for_epochs
from tilth.train.loop_settings import LoopSettings
from tilth.train.multi_scale import largest_size
from tilth.train.processes import num_processes

__all__ = ["TrainingPlan", "training_plan"]

BOXES_A_PICTURE = 50  # of the batches that memory is measured with; what is usual is far below


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What `train_detector` goes by.

    Attributes:
        batch_size: pictures a batch, of one process.
        loop: the settings with their number of steps.
    """

    batch_size: int
    loop: LoopSettings


def training_plan(
    settings: DetectSettings,
    num_images: int,
    class_names: Sequence[str],
    *,
    root: Path,
    run_dir: Path,
    device: torch.device,
) -> TrainingPlan:
    """Find the batch size where it is "auto", and the steps of the epochs that were asked for.

    Raises:
        TrainingError: not even a batch of one fits into memory.
        StorageError: the choice could not be written into ``run_dir``.
    """
    if settings.batch_size == "auto":
        probe = DetectorProbe(
            settings=settings,
            num_classes=len(class_names),
            root=root,
            size=largest_size(settings.model.size, settings.augment),
            device=str(device),
        )
        batch_size = chosen_batch_size(run_dir, probe, device=device, largest=num_images)
    else:
        batch_size = min(settings.batch_size, num_images)
    loop = for_epochs(
        settings.train,
        settings.epochs,
        num_samples=num_images,
        batch_size=batch_size,
        processes=num_processes(),
    )
    return TrainingPlan(batch_size=batch_size, loop=loop)


@dataclass(frozen=True, kw_only=True)
class DetectorProbe:
    """Trains a new detector for two steps on made-up pictures; goes to another process whole.

    Attributes:
        size: side of the pictures, pixels: the largest that training will see.
    """

    settings: DetectSettings
    num_classes: int
    root: Path
    size: int
    device: str

    def __call__(self, batch_size: int) -> None:
        family = family_of(self.settings.model)
        model = family.build(self.settings.model, self.num_classes, root=self.root)
        loss = detection_loss(
            model,
            self.settings,
            steps=1,
            batches_per_step=1,
            class_counts=[1] * self.num_classes,
        )
        training_steps(
            model,
            loss,
            _made_up_batch(batch_size, self.size),
            replace(self.settings.train, workers=0),
            device=torch.device(self.device),
        )


def _made_up_batch(batch_size: int, size: int) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    count = batch_size * BOXES_A_PICTURE
    corners = torch.rand(count, 2, generator=random) * size / 2
    sides = torch.rand(count, 2, generator=random) * size / 2 + 1
    return {
        "images": torch.rand(batch_size, 3, size, size, generator=random),
        "boxes_xyxy": torch.cat([corners, corners + sides], dim=1),
        "class_index": torch.zeros(count, dtype=torch.int64),
        "image_index": torch.arange(batch_size).repeat_interleave(BOXES_A_PICTURE),
        "box_weights": torch.ones(count),
        "ignore_boxes_xyxy": torch.zeros(0, 4),
        "ignore_image_index": torch.zeros(0, dtype=torch.int64),
        NUMBER: torch.tensor(1),  # the end of a run of one step: nothing is spared any more
    }
