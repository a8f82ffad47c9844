"""A tiny network and data for tests of the loop; as a script, a run that can be killed.

python toy_training.py RUN_DIR        until it is killed or done
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from torch import nn

from tilth.train.loop import LoopSettings, fit

RESUME_SETTINGS = LoopSettings(
    steps=120,
    learning_rate=0.05,
    warmup_steps=10,
    accumulate=2,
    checkpoint_every=7,  # in no rhythm with log_every, so that the log must be cut
    log_every=3,
    evaluate_every=11,
    ema_decay=0.9,
    seed=5,
    device="cpu",
)


class Blobs:
    """Pictures whose label is the mean of their first channel; sliced from one endless stream."""

    def __init__(self, batch_size: int = 4, pause_s: float = 0.0) -> None:
        self.batch_size = batch_size
        self.pause_s = pause_s

    def batch(self, step):
        time.sleep(self.pause_s)
        first = step * self.batch_size
        images = torch.stack([self._image(first + place) for place in range(self.batch_size)])
        names = [f"blob-{first + place}" for place in range(self.batch_size)]
        return {"images": images, "target": images[:, 0].mean((1, 2)), "names": names}

    def _image(self, position):
        return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(position))


def network(*, normalised: bool = True) -> nn.Sequential:
    """A convolutional network; with batch normalisation and dropout, all that resume must keep."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1)]
    if normalised:
        layers[1:1] = [nn.BatchNorm2d(8), nn.Dropout(0.1)]
    return nn.Sequential(*layers)


def squared_error(model, batch):
    predicted = model(batch["images"]).mean((1, 2, 3))
    error = (predicted - batch["target"]).square().mean()
    return {"error": error, "total": error}


def evaluate(model):
    images = Blobs(16).batch(1_000_000)
    return {"score": -float(squared_error(model, images)["error"])}


if __name__ == "__main__":
    fit(
        network(),
        squared_error,
        Blobs(pause_s=0.01),
        settings=RESUME_SETTINGS,
        run_dir=Path(sys.argv[1]),
        evaluate=evaluate,
        progress=False,
    )
