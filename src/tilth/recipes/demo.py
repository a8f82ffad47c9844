"""The whole way in minutes, on two cores and without a download.

A small detector learns digits and faces on plain textures, which stands for the pretrained
detector that one begins with. It is then retrained for street-like scenes whose training pictures
were collected mostly near by day, while it will be used near and far, by day and at dusk.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.curate.augment import Augmentation
from tilth.data.formats import load_format
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import SettingsError
from tilth.recipes.demo_data import DemoSet, write_demo_set
from tilth.recipes.detect import experiment
from tilth.recipes.detect_settings import (
    DetectSettings,
    ExperimentSettings,
    ModelSettings,
    RebalanceSettings,
)
from tilth.recipes.detector_training import train_detector
from tilth.recipes.experiment import ExperimentResult
from tilth.train.augment_settings import LIGHT
from tilth.train.loop_settings import LoopSettings

__all__ = ["demo"]

SIZE = 160

TEXTURES = DemoSet(
    name="textures",
    shares={"near, day": 100, "far, day": 60, "near, dusk": 40},
    side=0,
    photographs=False,
)
COLLECTED = DemoSet(
    name="collected",
    shares={"near, day": 90, "far, day": 16, "near, dusk": 10, "far, dusk": 4},
    side=0,
)
DEPLOYED = DemoSet(
    name="deployed",
    shares={"near, day": 30, "far, day": 30, "near, dusk": 30, "far, dusk": 30},
    side=1,
)
OWN_FOLDERS = (
    *(f"pictures/{demo_set.name}/" for demo_set in (TEXTURES, COLLECTED, DEPLOYED)),
    "augmented/demo-",
)

LOOP = LoopSettings(
    steps=300,
    optimiser="adamw",
    learning_rate=0.002,
    weight_decay=0.02,
    warmup_steps=20,
    ema_decay=0.98,
    checkpoint_every=100,
)
DEMO = DetectSettings(
    model=ModelSettings(variant="yolov4-tiny", width=0.25, size=SIZE),
    train=LOOP,
    augment=LIGHT,
    rebalance=RebalanceSettings(augmentation=Augmentation(scale=(0.5, 1.2))),
    experiment=ExperimentSettings(seeds=(0, 1, 2)),
)


def demo(
    folder: Path, *, seed: int, progress: bool, settings: DetectSettings = DEMO
) -> ExperimentResult:
    """Make the pictures, pretrain, run the experiment with its controls.

    Args:
        folder: becomes a project; a second call goes on where the first was stopped.
        seed: of the pictures; the seeds of training are those of ``settings``.

    Raises:
        SettingsError: the folder holds something else, or the demo of another seed.
    """
    settings = replace(settings, train=replace(settings.train, seed=seed))
    project = _demo_project(folder)
    weights = _pretrained(folder / "pretraining", settings, seed=seed, progress=progress)
    for demo_set, split in ((COLLECTED, Split.TRAIN), (DEPLOYED, Split.TEST)):
        ids = _imported(project, demo_set, seed=seed)
        project.catalogue.set_splits(ids, np.full(len(ids), split, dtype=np.int8))
    # Relative, so that the folder can be moved and gone on with.
    model = replace(settings.model, weights=weights.relative_to(project.root).as_posix())
    result = experiment(
        project.root, settings=replace(settings, model=model), name="demo", progress=progress
    )
    return replace(result, title="Demo: digits and faces, near and far, by day and at dusk")


def _demo_project(folder: Path) -> Project:
    """The project in a folder: a new one, or that of an earlier call, never somebody's own."""
    if (folder / "tilth.toml").is_file():
        project = Project.open(folder)
        for uri in project.catalogue.read().media.uri:
            if not uri.startswith(OWN_FOLDERS):
                raise _not_ours(folder, got=f"a project with {uri}")
        return project
    if folder.exists() and any(folder.iterdir()):
        raise _not_ours(folder, got=f"{next(folder.iterdir()).name} and maybe more")
    return Project.init(folder)


def _not_ours(folder: Path, *, got: str) -> SettingsError:
    return SettingsError(
        "the demo wants a folder of its own",
        where=str(folder),
        expected="a folder that is empty or does not exist, or that of an earlier demo",
        got=got,
        fix="tilth demo SOME_OTHER_FOLDER",
    )


def _pretrained(folder: Path, settings: DetectSettings, *, seed: int, progress: bool) -> Path:
    """A detector that knows the objects, on textures: the folder of its run."""
    project = _demo_project(folder)
    _imported(project, TEXTURES, seed=seed)
    version = project.catalogue.create_version("textures")
    dataset = project.catalogue.read(version="textures")
    run_dir = project.runs / "pretrained"
    train_detector(
        dataset,
        [project.media_path(uri) for uri in dataset.media.uri],
        settings=settings,
        root=project.root,
        run_dir=run_dir,
        digest=version.digest,
        seed=seed,
        progress=progress,
    )
    return run_dir


def _imported(project: Project, demo_set: DemoSet, *, seed: int) -> NDArray[np.int64]:
    """Write a set and bring it into the project; ids of its media."""
    images = project.root / "pictures"
    labels = write_demo_set(images, demo_set, size=SIZE, seed=seed)
    dataset, _ = load_format("coco").read(labels, media_root=images / demo_set.name)
    project.import_dataset(dataset, origin=demo_set.name)
    media = project.catalogue.read().media
    # The picture's folder says which set it is from; derived pictures live elsewhere.
    own = [Path(uri).parent.name == demo_set.name for uri in media.uri]
    return media.id[np.flatnonzero(own)]
