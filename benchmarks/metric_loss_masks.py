"""The Hausdorff distance of masks: noisy digits with a hole, whose strokes a small network finds.

The task of the reference page: MNIST digits under noise of 0.6 with an erased block of 7x7 pixels;
a network of two scales, 500 steps of cross-entropy; the metric is the 95th percentile of surface
distances, in pixels, by distance transforms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from label_noise_data import mnist
from metric_loss_metrics import CAP, dice, hausdorff95
from metric_loss_tasks import (
    SHARED_SOURCES,
    Batch,
    Places,
    Pretraining,
    Task,
    checkpoints,
    digest_of,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from tilth.seeding import generator

__all__ = ["masks_task"]

NOISE = 0.6
HOLE = 7
NUM_TEST = 1000
PRETRAINING = Pretraining(kept=(40, 80, 140, 220, 340, 500), learning_rate=2e-3)


class TwoScales(nn.Module):
    """A logit for each pixel, of the pixel's surroundings at full and at half size."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
        )
        self.joined = nn.Sequential(
            nn.Conv2d(3 * channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 1),
        )

    def forward(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
        fine = self.fine(images)
        return self.joined(torch.cat([fine, self.coarse(fine)], dim=1))


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Batches of noisy digits and of what they hide.

    Attributes:
        images: uint8 [n, 28, 28], the clean ones.
    """

    images: NDArray[np.uint8]
    seed: int
    batch_size: int

    def batch(self, step: int) -> Batch:
        """Drawn with replacement, by the step."""
        draws = generator(self.seed, "masks", step)
        return hidden(self.images[draws.integers(0, len(self.images), self.batch_size)], draws)


def hidden(images: NDArray[np.uint8], draws: np.random.Generator) -> Batch:
    """Digits under noise, a block of each erased, and the mask of each whole digit."""
    pixels = images.astype(np.float32) / 255
    masks = (pixels > 0.5).astype(np.float32)
    corners = draws.integers(0, 28 - HOLE + 1, (2, len(images)))
    for one, top, left in zip(pixels, *corners, strict=True):
        one[top : top + HOLE, left : left + HOLE] = 0
    pixels += NOISE * draws.standard_normal(pixels.shape, dtype=np.float32)
    return {"images": torch.from_numpy(pixels)[:, None], "masks": torch.from_numpy(masks)[:, None]}


def masks_task(places: Places) -> Task:
    """Digits found under noise, by their Hausdorff distance."""
    return Task(
        name="hd95",
        title="Hausdorff distance of masks",
        definition="MNIST digits under noise of 0.6, a block of 7x7 erased; 95th percentile of "
        f"edge distances, at most {CAP:.0f} pixels; {NUM_TEST} test digits",
        unit="pixels",
        train_batches=partial(_train_batches, places.data),
        checkpoints=partial(_checkpoints, places),
        outputs=_outputs,
        proxy=_cross_entropy,
        metric=hausdorff95,
        goal="lower",
        limits=(0.0, CAP),
        inputs="mask",
        evaluate=partial(_evaluate, places.data),
        digest=_digest(),
        steps=240,
        learning_rate=2e-3,
        batch_size=32,
    )


def _train_batches(data: Path, seed: int) -> Digits:
    return Digits(images=_digits(data)[0], seed=seed, batch_size=32)


@lru_cache(maxsize=1)
def _digits(data: Path) -> tuple[NDArray[np.uint8], Batch]:
    """Training digits, and the fixed test batch."""
    digits = mnist(data)
    rows = generator(0, "masks test rows").permutation(len(digits.test_images))[:NUM_TEST]
    test = hidden(digits.test_images[rows], generator(0, "masks test noise"))
    return digits.train_images, test


def _digest() -> str:
    return digest_of([Path(__file__), *SHARED_SOURCES], PRETRAINING)


def _checkpoints(places: Places, seed: int) -> list[nn.Module]:
    return checkpoints(
        "hd95",
        TwoScales,
        _train_batches(places.data, seed),
        _cross_entropy,
        PRETRAINING,
        seed=seed,
        work=places.work,
        digest=_digest(),
    )


def _outputs(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    return model(batch["images"]).sigmoid(), batch["masks"]


def _cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(batch["images"])
    return nn.functional.binary_cross_entropy_with_logits(logits, batch["masks"])


def _evaluate(data: Path, model: nn.Module) -> dict[str, float]:
    _, test = _digits(data)
    model.eval()
    with torch.no_grad():
        found, true = (part.numpy() for part in _outputs(model, test))
    pairs = list(zip(found, true, strict=True))
    return {
        "hd95": float(np.mean([hausdorff95(*pair) for pair in pairs])),
        "dice": float(np.mean([dice(*pair) for pair in pairs])),
    }
