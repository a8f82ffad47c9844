"""The whole experiment on drawn pictures; as a script, one that can be killed.

python small_experiment.py ROOT STEPS     until it is killed or done
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from drawn_sets import drawn_project
from safetensors.torch import load_file

from tilth.curate.augment import Augmentation
from tilth.recipes.detect import experiment
from tilth.recipes.detect_settings import (
    ClusterSettings,
    DetectSettings,
    ExperimentSettings,
    ModelSettings,
    RebalanceSettings,
)
from tilth.recipes.experiment import ExperimentResult
from tilth.train.augment_settings import LIGHT
from tilth.train.loop_settings import LoopSettings

__all__ = ["SMALL", "run_small", "scores_of", "weights_of"]

SMALL = DetectSettings(
    model=ModelSettings(width=0.125, size=64),
    train=LoopSettings(
        steps=8,
        optimiser="adamw",
        learning_rate=0.003,
        ema_decay=0.5,
        checkpoint_every=5,
        log_every=1,
        device="cpu",
    ),
    augment=LIGHT,
    batch_size=4,
    clusters=ClusterSettings(k=3),
    rebalance=RebalanceSettings(augmentation=Augmentation(scale=(0.9, 1.0))),
    experiment=ExperimentSettings(seeds=(0, 1), workers=1, examples=3, score_threshold=0.01),
)


def run_small(root: Path, *, workers: int = 1, steps: int = 8) -> ExperimentResult:
    """`experiment` with `SMALL` settings on the project in ``root``."""
    settings = replace(
        SMALL,
        train=replace(SMALL.train, steps=steps),
        experiment=replace(SMALL.experiment, workers=workers),
    )
    return experiment(root, settings=settings, name="small", progress=False)


def scores_of(result: ExperimentResult) -> dict[str, list[Any]]:
    """All numbers of all seeds by arm, without what a clock says."""
    return {arm.name: [replace(score, seconds=None) for score in arm.scores] for arm in result.arms}


def weights_of(root: Path) -> dict[str, bytes]:
    """The final weights of every trained arm and seed, as bytes."""
    files = sorted((root / "runs" / "small").glob("*/last.safetensors"))
    return {
        f"{file.parent.name}/{name}": tensor.numpy().tobytes()
        for file in files
        for name, tensor in load_file(file).items()
    }


if __name__ == "__main__":
    root = Path(sys.argv[1])
    if not (root / "tilth.toml").exists():
        drawn_project(root)
    run_small(root, steps=int(sys.argv[2]))
