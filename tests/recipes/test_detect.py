"""The experiment is fair: its arms, their data, and what a second call or another machine changes.

Most tests leave the training out: a stand-in for `run_arms` gives back made-up detections.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawn_sets import detected, drawn_project
from small_experiment import SMALL, run_small, scores_of, weights_of

from tilth.data.dataset import Dataset
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import DataError, EmptyDatasetError, MediaError, SettingsError, TrainingError
from tilth.metrics.average_precision import average_precision
from tilth.recipes import detect
from tilth.recipes.arms import ArmJob, ArmOutcome, run_arms, score_of
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.experiment import ExperimentResult
from tilth.recipes.report.headline import headline
from tilth.train.run_lock import run_lock

ARMS = ["pretrained", "raw", "random", "rebalanced", "source-pretrained", "source-retrained"]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """An experiment with the jobs that it was made of."""

    project: Project
    result: ExperimentResult
    jobs: dict[str, ArmJob]

    @property
    def data(self) -> Dataset:
        return self.project.catalogue.read(version="small")


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Iterator[None]:
    """Sums of floats depend on the number of threads; workers inherit this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    project = drawn_project(tmp_path_factory.mktemp("experiment") / "project")
    jobs: list[ArmJob] = []

    def run_and_keep(given: Sequence[ArmJob], **named) -> list[ArmOutcome]:
        jobs.extend(given)
        return run_arms(given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "run_arms", run_and_keep)
        result = run_small(project.root)
    return Ran(project=project, result=result, jobs={job.arm: job for job in jobs})


def all_found(jobs: Sequence[ArmJob], **named: object) -> list[ArmOutcome]:
    """In the place of `run_arms`: every label is detected, except by the arm "raw"."""
    outcomes = []
    for job in jobs:
        data = Project.open(job.root).catalogue.read(version=job.version)
        test = data.take(job.test_rows)
        labels = test.annotations
        count = 0 if job.arm == "raw" else len(labels)
        found = detected(
            labels.boxes_xyxy[:count],
            np.full(count, 0.9),
            labels.category_index[:count],
            labels.media_index[:count],
        )
        measured = average_precision(test, found)
        score = score_of(
            measured, seed=job.seed, num_clusters=job.num_clusters, seconds=1.0, steps=job.steps
        )
        outcomes.append(ArmOutcome(job=job, score=score, detections=found))
    return outcomes


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[ArmJob]]:
    """Leaves the training out; the jobs of each call."""
    calls: list[Sequence[ArmJob]] = []

    def keep(jobs: Sequence[ArmJob], **named: object) -> list[ArmOutcome]:
        calls.append(jobs)
        return all_found(jobs)

    monkeypatch.setattr(detect, "run_arms", keep)
    return calls


def test_the_arms_and_their_seeds(ran: Ran) -> None:
    assert [arm.name for arm in ran.result.arms] == ARMS
    seeds = {arm.name: [score.seed for score in arm.scores] for arm in ran.result.arms}
    assert seeds == {name: [0] if "pretrained" in name else [0, 1] for name in ARMS}
    protocols = {arm.name: arm.protocol for arm in ran.result.arms}
    assert [name for name in ARMS if protocols[name] == "source"] == ARMS[4:]


def test_every_trained_arm_takes_the_same_steps_of_the_same_batch(ran: Ran) -> None:
    assert {arm.name: arm.steps for arm in ran.result.arms} == {
        name: 0 if "pretrained" in name else 8 for name in ARMS
    }
    assert {job.settings.batch_size for job in ran.jobs.values()} == {4}
    assert len({job.settings.model for job in ran.jobs.values()}) == 1


def test_a_batch_is_one_that_every_training_set_fills(tmp_path: Path, untrained) -> None:
    project = drawn_project(tmp_path / "p", train=6, test=2)
    settings = replace(SMALL, batch_size=100)
    detect.experiment(project.root, settings=settings, name="small", progress=False)
    jobs = [job for job in untrained[0] if len(job.train_rows)]
    smallest = min(len(job.train_rows) for job in jobs)
    assert {job.settings.batch_size for job in jobs} == {smallest}


def test_random_makes_as_many_pictures_as_rebalancing(ran: Ran) -> None:
    planned = sum(row.to_make for row in ran.result.clusters.plan)
    assert planned > 0
    assert not any("left out" in note for note in ran.result.notes)
    derived = {arm.name: arm.num_derived_images for arm in ran.result.arms}
    assert derived["random"] == derived["rebalanced"] == planned
    assert derived["raw"] == derived["pretrained"] == 0
    pictures = {arm.name: arm.num_train_images for arm in ran.result.arms}
    assert pictures["raw"] == 10
    assert pictures["random"] == pictures["rebalanced"] == 10 + planned


def test_copies_that_are_left_out_are_told(
    tmp_path: Path, untrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing stays visible of most pictures that are shifted by two thirds of their side.
    project = drawn_project(tmp_path / "p")
    ranges = replace(SMALL.rebalance.augmentation, translate=(0.66, 0.66), min_visible=0.9)
    settings = replace(SMALL, rebalance=replace(SMALL.rebalance, augmentation=ranges))
    result = detect.experiment(project.root, settings=settings, name="small", progress=False)
    planned = sum(row.to_make for row in result.clusters.plan)
    told = sum(
        int(note.split()[0]) for note in result.notes if "rebalanced pictures were left out" in note
    )
    assert told > 0
    assert result.arm("rebalanced").num_derived_images == planned - told


def test_nothing_derived_from_a_test_picture_is_trained_on(ran: Ran) -> None:
    media = ran.data.media
    row_of = {int(media_id): row for row, media_id in enumerate(media.id)}
    for name in ARMS[:4]:
        job = ran.jobs[name]
        assert set(media.split[job.test_rows]) == {Split.TEST}
        assert (media.parent_id[job.test_rows] < 0).all()
        assert not set(job.train_rows) & set(job.test_rows)
        for row in job.train_rows:
            parent = int(media.parent_id[row])
            source = row if parent < 0 else row_of[parent]
            assert media.split[source] == Split.TRAIN
            assert media.parent_id[source] < 0


def test_an_arm_is_trained_on_the_pictures_of_its_own_plan(ran: Ran) -> None:
    media = ran.data.media
    for name in ("random", "rebalanced"):
        rows = ran.jobs[name].train_rows
        folders = {media.uri[row].rsplit("/", 1)[0] for row in rows}
        assert folders == {"pictures", f"augmented/small-{name}"}


def test_the_sources_protocol_divides_the_augmented_set(ran: Ran) -> None:
    retrained, before = ran.jobs["source-retrained"], ran.jobs["source-pretrained"]
    train, test = set(retrained.train_rows), set(retrained.test_rows)
    assert not train & test
    assert train | test == set(ran.jobs["rebalanced"].train_rows)
    assert len(test) == round(0.3 * (len(train) + len(test)))
    assert set(before.test_rows) == test
    assert not len(before.train_rows)


def test_the_order_in_which_workers_finish_changes_no_arm(ran: Ran) -> None:
    data = ran.data
    derived = data.media.parent_id >= 0
    late_first = np.concatenate([np.flatnonzero(~derived), np.flatnonzero(derived)[::-1]])
    plans = [SimpleNamespace(name=f"experiment-{kind}") for kind in ("rebalanced", "random")]

    def named(some: Dataset) -> dict[str, list[list[str]]]:
        rows = detect._arm_rows(some, *plans, DetectSettings())
        return {arm: [[some.media.uri[r] for r in part] for part in rows[arm]] for arm in rows}

    assert derived.sum() > 4
    assert named(data) == named(data.take(late_first))


def test_every_run_is_recorded_with_the_digest_of_its_data(ran: Ran) -> None:
    (version,) = ran.project.catalogue.versions()
    assert ran.result.datasets == {"small": version.digest}
    runs = ran.project.catalogue.runs()
    assert {run.digest for run in runs} == {version.digest}
    trained = {f"small/{name}-seed{seed}" for name in ARMS for seed in (0, 1)}
    alone = {f"small/{name}-seed1" for name in ARMS if "pretrained" in name}
    assert {run.name for run in runs} == trained - alone
    ap50 = {run.name: run.results["ap50"] for run in runs}
    assert ap50["small/raw-seed1"] == ran.result.arm("raw").scores[1].ap50


def test_examples_are_held_out_pictures_with_every_arm(ran: Ran) -> None:
    media = ran.data.media
    held_out = {Path(media.uri[row]).name for row in ran.jobs["raw"].test_rows}
    assert len(ran.result.examples) == 3
    assert {picture.name for picture in ran.result.examples} <= held_out
    assert all(set(picture.predictions) == set(ARMS[:4]) for picture in ran.result.examples)
    assert any("helped most" in note for note in ran.result.notes)


@pytest.mark.cluster
def test_a_second_call_trains_nothing_and_scores_the_same(ran: Ran) -> None:
    files = sorted((ran.project.runs / "small").glob("*/last.safetensors"))
    assert len(files) == 8
    before = [file.stat().st_mtime_ns for file in files]
    runs, digest = len(ran.project.catalogue.runs()), ran.result.datasets
    pictures = len(ran.data.media)
    again = run_small(ran.project.root)
    assert scores_of(again) == scores_of(ran.result)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert again.datasets == digest
    assert len(ran.data.media) == pictures
    assert len(ran.project.catalogue.runs()) == runs
    assert any("64 of 64 training steps were found done" in note for note in again.notes)
    seconds = [score.seconds for score in again.arm("raw").scores]
    # The time of training that was done before counts; only scoring is new.
    trained = [
        json.loads(record.read_bytes())["progress"]["seconds"]
        for record in sorted((ran.project.runs / "small").glob("raw-*/*/step-*08/checkpoint.json"))
    ]
    assert all(one > other > 0 for one, other in zip(seconds, trained, strict=True))


@pytest.mark.cluster
def test_the_number_of_workers_changes_nothing(ran: Ran, tmp_path: Path) -> None:
    project = drawn_project(tmp_path / "project")
    result = run_small(project.root, workers=2)
    assert scores_of(result) == scores_of(ran.result)
    assert weights_of(project.root) == weights_of(ran.project.root)
    assert result.datasets == ran.result.datasets


@pytest.mark.slow
@pytest.mark.cluster
def test_a_killed_experiment_ends_in_the_same_scores(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    drawn_project(whole)
    expected = run_small(whole, steps=30)
    for arm, step in (("raw-seed1", 7), ("rebalanced-seed0", 12)):
        _kill_at(killed, arm, step, steps=30)
    assert not (killed / "runs" / "small" / "rebalanced-seed0" / "detector.json").exists()
    result = run_small(killed, steps=30)
    assert any("training steps were found done" in note for note in result.notes)
    assert scores_of(result) == scores_of(expected)
    assert weights_of(killed) == weights_of(whole)


def _kill_at(root: Path, arm: str, step: int, *, steps: int) -> None:
    """Start the experiment in a group of processes and kill them all while ``arm`` trains."""
    script = [sys.executable, str(Path(__file__).parent / "small_experiment.py")]
    log = root / "runs" / "small" / arm / "metrics.jsonl"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*script, str(root), str(steps)], start_new_session=True, env=environment
    ) as process:
        deadline = time.monotonic() + 240
        while not (log.exists() and log.read_bytes().count(b"\n") >= step):
            assert process.poll() is None, "the experiment ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_class_without_a_held_out_sample(tmp_path: Path, untrained) -> None:
    project = drawn_project(tmp_path / "p", classes=(0,))
    result = detect.experiment(project.root, settings=SMALL, name="small", progress=False)
    assert result.class_names == ["bright", "dark"]
    (score,) = result.arm("pretrained").scores
    assert score.per_class_ap50 == {"bright": pytest.approx(1.0), "dark": None}
    assert score.ap50 == pytest.approx(1.0)


def test_gains_and_losses_are_shown_in_equal_numbers(tmp_path: Path, untrained) -> None:
    project = drawn_project(tmp_path / "p", train=6, test=6)
    result = detect.experiment(project.root, settings=SMALL, name="small", progress=False)
    # "raw" finds nothing, so a picture's gain is its number of objects: two or one.
    gains = [len(picture.truth) for picture in result.examples]
    assert gains == [2, 2, 1]
    assert all(len(picture.missed["raw"]) == len(picture.truth) for picture in result.examples)
    assert not any(picture.missed["rebalanced"] for picture in result.examples)


def test_only_the_shown_pictures_are_decoded(
    tmp_path: Path, untrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = drawn_project(tmp_path / "p", train=6, test=6)
    read: list[Path] = []
    original = detect.choose_examples.__globals__["read_image"]
    monkeypatch.setattr(
        "tilth.recipes.examples.read_image", lambda path: (read.append(path), original(path))[1]
    )
    detect.experiment(project.root, settings=SMALL, name="small", progress=False)
    assert len(read) == SMALL.experiment.examples


def small(project: Project) -> ExperimentResult:
    return detect.experiment(project.root, settings=SMALL, name="small", progress=False)


def test_an_empty_project(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="no labelled picture in the train split"):
        small(Project.init(tmp_path / "p"))


def test_no_split_and_nothing_held_out(tmp_path: Path) -> None:
    project = drawn_project(tmp_path / "p")
    media = project.catalogue.read().media
    project.catalogue.set_splits(media.id, np.full(len(media), Split.NONE, np.int8))
    with pytest.raises(EmptyDatasetError, match="in the train split") as caught:
        small(project)
    assert caught.value.fix == "tilth split"
    project.catalogue.set_splits(media.id, np.full(len(media), Split.TRAIN, np.int8))
    with pytest.raises(EmptyDatasetError, match="in the test split"):
        small(project)
    assert not project.catalogue.versions()


@pytest.mark.parametrize("split", [Split.TRAIN, Split.TEST])
def test_a_truncated_picture_stops_everything_before_training(
    tmp_path: Path, split: Split, untrained
) -> None:
    project = drawn_project(tmp_path / "p")
    media = project.catalogue.read().media
    uri = media.uri[int(np.flatnonzero(media.split == split)[2])]
    broken = project.media_path(uri)
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(MediaError) as caught:
        small(project)
    assert caught.value.where == str(broken)
    assert not untrained
    assert not project.catalogue.versions()


def test_a_broken_picture_of_no_split_is_a_note(tmp_path: Path, untrained) -> None:
    project = drawn_project(tmp_path / "p", train=6, test=4)
    media = project.catalogue.read().media
    last = int(np.argsort(media.uri)[-1])
    project.catalogue.set_splits(media.id[[last]], np.array([Split.VAL], np.int8))
    broken = project.media_path(media.uri[last])
    broken.write_bytes(b"")
    result = small(project)
    assert any("not measured" in note and str(broken) in note for note in result.notes)


def test_the_name_of_an_experiment_on_other_labels(tmp_path: Path, untrained) -> None:
    project = drawn_project(tmp_path / "p")
    small(project)
    data = project.catalogue.read()
    original = np.flatnonzero(data.media.parent_id < 0)
    moved = data.media.id[original[data.media.split[original] == Split.TRAIN][:3]]
    project.catalogue.set_splits(moved, np.full(3, Split.TEST, np.int8))
    with pytest.raises(DataError):
        small(project)


@pytest.mark.parametrize("name", ["../outside", "a/b", ""])
def test_a_name_that_is_no_name(tmp_path: Path, name: str) -> None:
    project = drawn_project(tmp_path / "p", train=4, test=2)
    with pytest.raises(SettingsError):
        detect.experiment(project.root, settings=SMALL, name=name, progress=False)
    assert not list(tmp_path.glob("outside*"))


def test_an_experiment_runs_once_at_a_time(tmp_path: Path, untrained) -> None:
    project = drawn_project(tmp_path / "p", train=4, test=2)
    with run_lock(project.runs / "small"), pytest.raises(TrainingError, match="another process"):
        small(project)
    assert not project.catalogue.versions()
    assert small(project).arms


@pytest.mark.parametrize(
    ("weights", "label"),
    [("", "untrained (random weights)"), ("runs/other", "pretrained")],
)
def test_only_given_weights_are_called_pretrained(
    tmp_path: Path, untrained, weights: str, label: str
) -> None:
    project = drawn_project(tmp_path / "p", train=4, test=2)
    settings = replace(SMALL, model=replace(SMALL.model, weights=weights))
    result = detect.experiment(project.root, settings=settings, name="small", progress=False)
    arm = result.arm("pretrained")
    assert arm is not None
    assert arm.label == label
    assert headline(result).change.startswith(f'From "{label}" to "cluster-rebalanced"')
    assert any("untrained" in note for note in result.notes) == (not weights)
