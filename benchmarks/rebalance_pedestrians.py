"""The rebalancing experiment on photographs of people in streets.

A small YOLOv4-tiny is pretrained for a few epochs on COCO pictures that show a person, then
retrained on the Penn-Fudan pedestrians: on the raw pictures, with random augmentations, and with
cluster-rebalanced ones, three seeds each, scored on held-out pictures.

    python benchmarks/rebalance_pedestrians.py --data ../shared/data

The project that it makes stays in ``--work``; a second call goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from evidence import write_result
from experiment_arms import arm_claim, coco_project, seed_scores
from penn_fudan import write_coco

from tilth.data.project import Project
from tilth.data.splits import split_by_parent
from tilth.recipes.detect import experiment
from tilth.recipes.detect_settings import settings
from tilth.recipes.detector_training import train_detector
from tilth.recipes.experiment import ExperimentResult
from tilth.recipes.report import write_report

SOURCE_BEFORE, SOURCE_AFTER = 0.6986, 0.8479  # mAP50 of the source, its own data and protocol
SIZE = 256
PRETRAIN = [
    "train.optimiser=adamw",
    "train.learning_rate=0.001",
    "train.weight_decay=0.05",
    "train.warmup_steps=100",
    "train.precision=bf16",
    "batch_size=16",
    f"model.size={SIZE}",
    "model.width=0.5",
    # A small change of single pictures: what is compared are the pictures.
    "augment.mosaic=0",
    "augment.close_mosaic=0",
    "augment.scale=0.2",
    "augment.brightness=0.2",
    "augment.saturation=0.2",
    "augment.saturation_factor=1",
    "augment.exposure_factor=1",
]
RETRAIN = [*PRETRAIN, "train.warmup_steps=30", "train.learning_rate=0.0005"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/rebalance-pedestrians"))
    parser.add_argument("--epochs", type=int, default=12, help="of pretraining")
    parser.add_argument("--steps", type=int, default=300, help="of each retrained arm")
    parser.add_argument("--pretrain-only", action="store_true")
    arguments = parser.parse_args()
    data, work = arguments.data.resolve(), arguments.work
    weights = pretrain(data / "coco-person", work / "coco-person", epochs=arguments.epochs)
    if arguments.pretrain_only:
        return
    project = street_project(data / "penn-fudan", work / "penn-fudan")
    chosen = settings(overrides=[*RETRAIN, f"train.steps={arguments.steps}"])
    chosen = replace(chosen, model=replace(chosen.model, weights=str(weights)))
    result = experiment(project.root, settings=chosen, name="pedestrians")
    write_report(result, project.runs / "pedestrians")
    record(result, pretrained_epochs=arguments.epochs)


def pretrain(source: Path, root: Path, *, epochs: int) -> Path:
    """Train the small detector on COCO's people; returns its run's folder."""
    project = coco_project(root, source / "instances.json", source / "images")
    dataset = project.catalogue.read()
    version = project.catalogue.create_version("pretraining")
    chosen = settings(overrides=PRETRAIN)
    steps = epochs * len(dataset.media) // chosen.batch_size
    chosen = replace(chosen, train=replace(chosen.train, steps=steps))
    torch.set_num_threads(2)
    train_detector(
        dataset,
        [project.media_path(uri) for uri in dataset.media.uri],
        settings=chosen,
        root=project.root,
        run_dir=project.runs / "pretrained",
        digest=version.digest,
        seed=0,
    )
    return project.runs / "pretrained"


def street_project(source: Path, root: Path) -> Project:
    """Penn-Fudan with 60% of the pictures to train on and 40% held out."""
    root.parent.mkdir(parents=True, exist_ok=True)
    labels = write_coco(source, root.parent / "penn-fudan.json")
    project = coco_project(root, labels, source / "images")
    dataset = project.catalogue.read()
    originals = dataset.take(np.flatnonzero(dataset.media.parent_id < 0))
    # Neighbouring numbers are often the same street a moment later: groups of five stay together.
    groups = [
        f"{Path(uri).stem[:-5]}{int(Path(uri).stem[-5:]) // 5}" for uri in originals.media.uri
    ]
    splits = split_by_parent(originals, (0.6, 0.0, 0.4), 0, groups=groups)
    project.catalogue.set_splits(originals.media.id, splits)
    return project


def record(result: ExperimentResult, *, pretrained_epochs: int) -> None:
    """Write the claims; every number is mAP at IoU 0.5 (one class: AP50), as a fraction."""
    arms = {arm.name: arm for arm in result.arms}
    source_before, source_after = arms["source-pretrained"], arms["source-retrained"]
    claims = [
        arm_claim(f"penn_map50_{name}", arms[name])
        for name in ("pretrained", "raw", "random", "rebalanced")
    ]
    for arm, source_value, honest in (
        (source_before, SOURCE_BEFORE, arms["pretrained"]),
        (source_after, SOURCE_AFTER, arms["rebalanced"]),
    ):
        name = f"penn_map50_{arm.name.replace('-', '_')}"
        claims.append(arm_claim(name, arm, source_value=source_value, honest=honest))
    write_result(
        "rebalance_pedestrians",
        claims,
        data={"name": "penn-fudan", "digest": result.datasets["pedestrians"]},
        detail={
            "summary": result.summary,
            "pretraining": f"coco-person, {pretrained_epochs} epochs, {SIZE} px, width 0.5",
            "seconds": result.seconds,
            "settings": result.settings,
            "scores": seed_scores(result),
        },
    )


if __name__ == "__main__":
    main()
