"""Training on a project: what is recorded, what is trained on, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_sets import drawn_project
from small_experiment import SMALL

from tilth.curate import rebalance
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import DataError, EmptyDatasetError, SettingsError, TrainingError
from tilth.metrics.average_precision import average_precision
from tilth.recipes.detector_evaluation import evaluate
from tilth.recipes.detector_runs import train
from tilth.train.loading import DetectionBatches


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = drawn_project(tmp_path_factory.mktemp("runs") / "project", train=6, test=3)
    train(project.root, settings=SMALL, name="first", progress=False)
    return project


def test_a_run_is_recorded_with_the_digest_of_its_data(project: Project) -> None:
    again = train(project.root, settings=SMALL, name="first", progress=False)
    (run,) = project.catalogue.runs()
    (version,) = project.catalogue.versions()
    assert (run.name, run.digest) == ("first", version.digest)
    assert again["data_digest"] == version.digest
    assert again["resumed_from"] == again["steps"] == 8
    assert (again["pictures"], again["boxes"]) == (6, 9)


def test_other_settings_need_another_name(project: Project) -> None:
    slower = replace(SMALL, train=replace(SMALL.train, learning_rate=0.001))
    with pytest.raises(TrainingError, match="another run"):
        train(project.root, settings=slower, name="first", progress=False)


def test_a_call_that_cannot_train_leaves_the_name_free(tmp_path: Path) -> None:
    project = drawn_project(tmp_path / "p", train=3, test=1)
    media = project.catalogue.read().media
    project.catalogue.set_splits(media.id, np.full(4, Split.NONE, np.int8))
    with pytest.raises(EmptyDatasetError, match="train split"):
        train(project.root, settings=SMALL, name="first", progress=False)
    project.catalogue.set_splits(media.id, media.split)
    assert train(project.root, settings=SMALL, name="first", progress=False)["steps"] == 8


@pytest.mark.parametrize("name", ["../outside", "", ".", "/tmp/elsewhere"])
def test_a_run_stays_inside_runs(project: Project, name: str) -> None:
    versions = project.catalogue.versions()
    with pytest.raises(SettingsError, match="name of a run"):
        train(project.root, settings=SMALL, name=name, progress=False)
    with pytest.raises(SettingsError, match="stays inside runs/"):
        evaluate(project.root, run=name, split="test", progress=False)
    assert project.catalogue.versions() == versions


def resplit(project: Project, **splits: Split) -> None:
    """Move pictures, named by the number in their file's name: ``n00=Split.TEST``."""
    media = project.catalogue.read().media
    rows = [media.uri.index(f"pictures/{number[1:]}.jpg") for number in splits]
    codes = np.array(list(splits.values()), np.int8)
    project.catalogue.set_splits(media.id[rows], codes)


def rebalanced(project: Project, name: str, count: int = 3) -> None:
    """Make new pictures of the training originals, by a plan of this name."""
    dataset = project.catalogue.read()
    originals = dataset.take(np.flatnonzero(dataset.media.parent_id < 0))
    rebalance.run(
        project, rebalance.random_plan(originals, count, name=name, seed=0), progress=False
    )


def test_derived_pictures_are_trained_on_only_when_their_plan_is_named(tmp_path: Path) -> None:
    project = drawn_project(tmp_path / "p", train=4, test=2)
    rebalanced(project, "three")
    rebalanced(project, "five", 5)

    def numbers(name: str, *plans: str) -> tuple[int, int, int]:
        ended = train(project.root, settings=SMALL, name=name, plans=plans, progress=False)
        return ended["pictures"], ended["raw_pictures"], ended["derived_pictures"]

    assert numbers("raw") == (4, 4, 0)
    assert numbers("one-plan", "three") == (7, 4, 3)
    assert numbers("both", "five", "three", "five") == (12, 4, 8)
    with pytest.raises(TrainingError, match="another run"):
        numbers("raw", "three")
    with pytest.raises(DataError, match="plan 'tree'") as caught:
        numbers("typo", "tree")
    assert caught.value.expected == "five, three"
    assert "typo" not in {version.name for version in project.catalogue.versions()}


def test_an_import_between_kill_and_resume_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = drawn_project(tmp_path / "p", train=4, test=2)
    whole = train(project.root, settings=SMALL, name="whole", progress=False)

    def pulled_plug(self: DetectionBatches, step: int) -> None:
        if step == 6:  # one step after the checkpoint
            raise KeyboardInterrupt
        return batch(self, step)

    batch = DetectionBatches.batch
    with monkeypatch.context() as patch:
        patch.setattr(DetectionBatches, "batch", pulled_plug)
        with pytest.raises(KeyboardInterrupt):
            train(project.root, settings=SMALL, name="u", progress=False)
    rebalanced(project, "more")
    resplit(project, n04=Split.TRAIN)
    resumed = train(project.root, settings=SMALL, name="u", progress=False)
    assert (resumed["resumed_from"], resumed["steps"]) == (5, 8)
    assert (resumed["data_digest"], resumed["loss"]) == (whole["data_digest"], whole["loss"])
    assert (whole["data_is_current"], resumed["data_is_current"]) == (True, False)
    # A name that only a version has is not a run's to take.
    project.catalogue.create_version("kept")
    resplit(project, n04=Split.TEST)
    with pytest.raises(DataError, match="other content"):
        train(project.root, settings=SMALL, name="kept", progress=False)


def test_the_val_split_chooses_the_weights_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = drawn_project(tmp_path / "p", train=4, test=3)
    resplit(project, n05=Split.VAL, n06=Split.VAL)
    scored: list[set[str]] = []

    def best_at_first(labelled, detections, **named):
        scored.append(set(labelled.media.uri))
        return replace(average_precision(labelled, detections), ap50=1 / len(scored))

    monkeypatch.setattr("tilth.recipes.detector_training.average_precision", best_at_first)
    often = replace(SMALL, train=replace(SMALL.train, evaluate_every=3))
    chosen = train(project.root, settings=often, name="chosen", progress=False)
    assert (chosen["best_step"], chosen["best_val_ap50"]) == (3, 1.0)
    assert scored == [{"pictures/05.jpg", "pictures/06.jpg"}] * 3  # steps 3, 6 and the last, 8
    files = [project.runs / "chosen" / f"{name}.safetensors" for name in ("best", "last")]
    assert files[0].read_bytes() != files[1].read_bytes()
    # Not asked for, or no label to score by: as without the split.
    train(project.root, settings=SMALL, name="seldom", progress=False)
    resplit(project, n05=Split.NONE, n06=Split.NONE)
    train(project.root, settings=often, name="no-val", progress=False)
    assert len(scored) == 3
    assert not list(project.runs.glob("[sn]*/best.safetensors"))
