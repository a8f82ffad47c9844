"""What the benchmarks of the rebalancing experiment share: their project, and an arm as a claim."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from evidence import claim

from tilth.data.formats import load_format
from tilth.data.project import Project
from tilth.recipes.experiment import Arm, ExperimentResult

__all__ = ["arm_claim", "coco_project", "seed_scores"]


def coco_project(root: Path, labels: Path, images: Path) -> Project:
    """The project in ``root``; made of a COCO file where there is none yet."""
    if (root / "tilth.toml").is_file():
        return Project.open(root)
    if root.exists():
        shutil.rmtree(root)  # half of an init that was killed
    project = Project.init(root)
    dataset, _ = load_format("coco").read(labels, media_root=images)
    project.import_dataset(dataset, origin=labels.stem)
    return project


def arm_claim(
    name: str, arm: Arm, *, source_value: float | None = None, honest: Arm | None = None
) -> dict[str, Any]:
    """The arm's mAP at IoU 0.5, a fraction, with the range of its seeds.

    Args:
        source_value: what the source states for it, under its own protocol.
        honest: the arm that is the same without leakage.
    """
    spread = arm.ap50
    assert spread.mean is not None
    note = f"{arm.num_train_images} training pictures ({arm.num_derived_images} derived), "
    note += f"{arm.steps} steps; " + (
        "optimistic: derived pictures leak" if arm.protocol == "source" else "held-out originals"
    )
    return claim(
        name,
        spread.mean,
        unit="mAP50",
        better="higher",
        spread=(spread.low, spread.high),
        runs=spread.runs,
        note=note,
        source_value=source_value,
        without_leakage=honest.ap50.mean if honest else None,
    )


def seed_scores(result: ExperimentResult) -> dict[str, list[dict[str, Any]]]:
    """For each arm, what every seed gave."""
    return {
        arm.name: [
            {"seed": score.seed, "ap50": score.ap50, "ap": score.ap, "ap75": score.ap75}
            for score in arm.scores
        ]
        for arm in result.arms
    }
