"""train, evaluate and predict on a project: what is recorded, scored, drawn and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_sets import drawn_project
from small_experiment import SMALL

from tilth.curate import rebalance
from tilth.data.images import read_image
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import DataError, EmptyDatasetError, MediaError, SettingsError, TrainingError
from tilth.metrics.average_precision import average_precision
from tilth.recipes.detector_runs import evaluate, predict, train
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


def test_evaluate_counts_and_names_what_it_scored(project: Project) -> None:
    scores = evaluate(project.root, run="first", split="test", progress=False)
    assert (scores["pictures"], scores["boxes"]) == (3, 4)
    assert scores["trained_on"] == project.catalogue.versions()[0].digest
    assert set(scores["per_class"]) == {"bright", "dark"}
    with pytest.raises(EmptyDatasetError, match="val split"):
        evaluate(project.root, run="first", split="val", progress=False)
    with pytest.raises(DataError, match="no trained detector"):
        evaluate(project.root, run="second", split="test", progress=False)


def test_evaluate_refuses_a_detector_of_other_classes(project: Project) -> None:
    record = project.runs / "first" / "detector.json"
    original = record.read_text()
    try:
        record.write_text(original.replace('"dark"', '"dim"'))
        with pytest.raises(DataError, match="other classes") as caught:
            evaluate(project.root, run="first", split="test", progress=False)
    finally:
        record.write_text(original)
    assert caught.value.expected == "bright, dark"
    assert caught.value.got == "bright, dim"


def resplit(project: Project, **splits: Split) -> None:
    """Move pictures, named by the number in their file's name: ``n00=Split.TEST``."""
    media = project.catalogue.read().media
    rows = [media.uri.index(f"pictures/{number[1:]}.jpg") for number in splits]
    codes = np.array(list(splits.values()), np.int8)
    project.catalogue.set_splits(media.id[rows], codes)


def test_evaluate_refuses_pictures_that_the_run_was_trained_on(project: Project) -> None:
    resplit(project, n03=Split.TEST, n01=Split.TEST)
    try:
        with pytest.raises(DataError, match="trained on pictures") as caught:
            evaluate(project.root, run="first", split="test", progress=False)
        assert caught.value.got == "2 of 5 that it has, pictures/01.jpg first"
        assert "tilth split" in str(caught.value.fix)
        # What is left of its training set may be scored, by that name.
        scores = evaluate(project.root, run="first", split="train", progress=False)
        assert (scores["pictures"], scores["held_out"]) == (4, False)
        # Without the kept data nobody can tell, and the result says so.
        record = project.runs / "first" / "detector.json"
        original = record.read_text()
        record.write_text(original.replace(scores["trained_on"], "0" * 64))
        try:
            unknown = evaluate(project.root, run="first", split="test", progress=False)
        finally:
            record.write_text(original)
        assert unknown["held_out"] is None
    finally:
        resplit(project, n03=Split.TRAIN, n01=Split.TRAIN)
    scores = evaluate(project.root, run="first", split="test", progress=False)
    assert (scores["pictures"], scores["held_out"]) == (3, True)


def test_derived_pictures_are_not_scored(tmp_path: Path) -> None:
    project = drawn_project(tmp_path / "p", train=4, test=2)
    train(project.root, settings=SMALL, name="first", progress=False)
    rebalanced(project, "more")
    assert (project.catalogue.read().media.parent_id >= 0).sum() == 3
    scores = evaluate(project.root, run="first", split="train", progress=False)
    assert scores["pictures"] == 4


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

    monkeypatch.setattr("tilth.recipes.detector.average_precision", best_at_first)
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


def stub(model, squares, *, score_threshold):
    """Two boxes in every picture, the weaker one first."""
    boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0], [30.0, 30.0, 60.0, 50.0]])
    return [(boxes, torch.tensor([0.5, 0.75]), torch.tensor([1, 0])) for _ in squares]


def test_predict_lists_the_surest_first_and_draws_copies(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth.recipes.detector.detect", stub)
    one = project.root / "pictures" / "00.jpg"
    before = one.read_bytes()
    twin = tmp_path / "elsewhere" / "00.jpg"
    twin.parent.mkdir()
    twin.write_bytes(before)
    found = predict(
        project.root, run="first", sources=[one, twin], score_threshold=0.1, output=tmp_path / "out"
    )
    assert found["objects"] == 4
    assert [picture["picture"] for picture in found["pictures"]] == [one, twin]
    assert found["pictures"][0]["objects"] == [
        {"class": "bright", "score": 0.75, "box_xyxy": [30.0, 30.0, 60.0, 50.0]},
        {"class": "dark", "score": 0.5, "box_xyxy": [4.0, 4.0, 20.0, 20.0]},
    ]
    # Pictures of the same name do not replace each other, and the originals stay.
    copies = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert copies == ["00-2.jpg", "00.jpg"]
    assert one.read_bytes() == before
    drawn = read_image(tmp_path / "out" / "00.jpg").astype(int)
    assert np.abs(drawn - read_image(one)).max() > 60


def test_predict_in_a_folder_finds_its_pictures_in_order(project: Project) -> None:
    folder = project.runs / "first"
    found = predict(
        None, run=folder, sources=[project.root / "pictures"], score_threshold=0.5, output=None
    )
    names = [picture["picture"].name for picture in found["pictures"]]
    assert names == [f"{number:02}.jpg" for number in range(9)]


def test_copies_never_replace_the_pictures(project: Project) -> None:
    folder = project.root / "pictures"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SettingsError, match="replace the pictures"):
        predict(project.root, run="first", sources=[folder], score_threshold=0.5, output=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_sources_that_are_missing_or_empty(project: Project, tmp_path: Path) -> None:
    def look(source: Path) -> None:
        predict(project.root, run="first", sources=[source], score_threshold=0.5, output=None)

    with pytest.raises(MediaError) as caught:
        look(tmp_path / "nowhere.jpg")
    assert caught.value.where == str(tmp_path / "nowhere.jpg")
    with pytest.raises(EmptyDatasetError, match="no picture"):
        look(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(MediaError) as caught:
        look(tmp_path / "broken.jpg")
    assert "broken.jpg" in str(caught.value)
