"""The rebalancing experiment: does equalising clusters of objects make a better detector?

The workflow is that of NVIDIA's post on TAO and Innotescus: measure every box, cluster the boxes,
augment until the clusters are equal, retrain, compare mAP before and after. The controls make it
honest. All arms start from the same weights, take the same number of steps, and are scored on the
same held-out pictures, of which nothing derived is ever trained on:

    pretrained   the starting weights as they are; random ones where none are given
    raw          trained on the labelled pictures
    random       trained on them and on random augmentations, as many as rebalancing makes
    rebalanced   trained on them and on the augmentations that equalise the clusters

Beside them stands the source's own protocol: 30% of the augmented set held out, where copies of
one picture lie on both sides. It is called optimistic wherever it is shown.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.config import settings_to_dict
from tilth.curate import rebalance
from tilth.curate.box_clusters import cluster_boxes, cluster_labels
from tilth.curate.clusters import media_clusters
from tilth.curate.measure import MeasureReport, measure
from tilth.curate.rebalance import RebalancePlan, RebalanceReport, pictures_of
from tilth.data.dataset import Dataset
from tilth.data.preannotation import trusted
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import EmptyDatasetError, MediaError, SettingsError
from tilth.recipes.arms import ArmJob, ArmOutcome, run_arms, steps_done
from tilth.recipes.cluster_view import cluster_view
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.examples import CHOICE, choose_examples
from tilth.recipes.experiment import Arm, ExperimentResult
from tilth.recipes.provenance import machine, package_versions, record_once
from tilth.recipes.run_names import new_run
from tilth.seeding import generator
from tilth.train.run_lock import run_lock

__all__ = ["experiment"]

ARMS: dict[str, tuple[str, str]] = {
    "pretrained": ("pretrained", "the starting weights as they are"),
    "raw": ("raw pictures", "retrained on the labelled pictures"),
    "random": ("random augmentation", "as many new pictures, of parents drawn at random"),
    "rebalanced": ("cluster-rebalanced", "new pictures until all clusters are equal"),
    "source-pretrained": ("pretrained, source's protocol", "on 30% of the augmented set"),
    "source-retrained": ("retrained, source's protocol", "on the other 70% of the augmented set"),
}

# Without starting weights the same arms score a network that has learned nothing.
UNTRAINED: dict[str, tuple[str, str]] = {
    "pretrained": ("untrained (random weights)", "random weights, as no others were given"),
    "source-pretrained": ("untrained, source's protocol", "on 30% of the augmented set"),
}
UNTRAINED_NOTE = (
    "No starting weights were given (model.weights): every arm starts from random ones, and the "
    "untrained network stands where a pretrained one would. A gain over it says nothing about "
    "retraining a detector."
)


def experiment(
    root: Path, *, settings: DetectSettings, name: str = "experiment", progress: bool = True
) -> ExperimentResult:
    """Run all arms and seeds on a project whose pictures are split into train and test.

    What is done already is found again: the same call after a kill goes on.

    Args:
        root: the project's folder; ``runs/<name>/`` keeps the runs.
        name: also of the data set version, and of the folders of new pictures.

    Raises:
        EmptyDatasetError: no labelled picture in the training or in the test split.
        MediaError: one of their pictures is missing or broken; every arm would fail on it.
        DataError: the name belongs to an experiment on other data.
        TrainingError: see `run_arms`; or another process is running this experiment.
        SettingsError: see `new_run`.
    """
    _refuse_unequal_steps(settings)
    project = Project.open(root)
    folder = new_run(project, name)
    with run_lock(folder):  # of the whole; every arm holds its own folder too
        return _experiment(project, folder, settings=settings, name=name, progress=progress)


def _refuse_unequal_steps(settings: DetectSettings) -> None:
    """Arms differ in their pictures alone; epochs would give the larger set more steps."""
    if settings.epochs or settings.batch_size == "auto":
        raise SettingsError(
            "the arms of an experiment are compared after equal steps of equal batches",
            expected="train.steps and batch_size as numbers, epochs = 0",
            got=f"epochs = {settings.epochs}, batch_size = {settings.batch_size}",
        )


def _experiment(
    project: Project, folder: Path, *, settings: DetectSettings, name: str, progress: bool
) -> ExperimentResult:
    started = time.perf_counter()

    # Data: measure every picture and box once, and cluster the boxes of the training originals.
    seed = settings.train.seed
    originals = _originals(trusted(project.catalogue.read()))
    measured = measure(project, progress=progress)
    _refuse_unreadable(project, originals, measured)
    cluster_boxes(project, k=settings.clusters.k, seed=seed)
    training = originals.of_split(Split.TRAIN)
    clusters = media_clusters(training, cluster_labels(project, training))

    # Curate: new pictures until the clusters are equal; as many of parents drawn at random.
    target, ranges = settings.rebalance.target, settings.rebalance.augmentation
    balanced = rebalance.plan(
        training,
        clusters,
        target=target,
        name=f"{name}-rebalanced",
        seed=seed,
        augmentation=ranges,
    )
    random = rebalance.random_plan(
        training, balanced.to_make, name=f"{name}-random", seed=seed, augmentation=ranges
    )
    made = [rebalance.run(project, plan, progress=progress) for plan in (balanced, random)]

    # The new boxes are measured too, and join the clusters that the originals made.
    measured = measure(project, progress=progress)
    projection = settings.clusters.projection
    boxes = cluster_boxes(project, k=settings.clusters.k, projection=projection, seed=seed)
    version = project.catalogue.create_version(name)
    data = trusted(project.catalogue.read(version=name))
    labels = cluster_labels(project, data)

    # Train and score: every arm is a choice of rows of that version.
    rows = _arm_rows(data, balanced, random, settings)
    settings = _with_common_batch(settings, rows)
    jobs = [
        ArmJob(
            root=project.root,
            folder=folder,
            version=name,
            digest=version.digest,
            arm=arm,
            seed=one_seed,
            train_rows=train_rows,
            test_rows=test_rows,
            clusters=labels,
            num_clusters=boxes.clusters.k,
            settings=settings,
        )
        for arm, (train_rows, test_rows) in rows.items()
        for one_seed in _seeds(settings, trains=len(train_rows) > 0)
    ]
    found = sum(map(steps_done, jobs))
    outcomes = run_arms(jobs, workers=settings.experiment.workers, progress=progress)

    # Report.
    result = ExperimentResult(
        title="Cluster rebalancing: before and after",
        summary=_summary(data, jobs[0], balanced),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        seeds=list(settings.experiment.seeds),
        machine=machine(),
        versions=package_versions(),
        settings=settings_to_dict(settings),
        datasets={name: version.digest},
        class_names=[category.name for category in data.categories],
        arms=_arms(data, outcomes, settings.model.weights),
        clusters=cluster_view(data, labels, boxes, balanced, projection=projection),
        examples=choose_examples(project, data, outcomes, settings.experiment),
        notes=_notes(measured, made, found, jobs),
    )
    for outcome in outcomes:
        scores = {"ap": outcome.score.ap, "ap50": outcome.score.ap50, "ap75": outcome.score.ap75}
        run_name = outcome.job.run_dir.relative_to(project.runs).as_posix()
        record_once(project.catalogue, run_name, version.digest, result.settings, scores)
    return result


def _seeds(settings: DetectSettings, *, trains: bool) -> tuple[int, ...]:
    """All seeds for an arm that trains; the starting weights score the same under each."""
    return settings.experiment.seeds if trains else settings.experiment.seeds[:1]


def _originals(data: Dataset) -> Dataset:
    """Media that were not derived; the arms add what the plans have made."""
    originals = data.take(np.flatnonzero(data.media.parent_id < 0))
    for split in (Split.TRAIN, Split.TEST):
        if not len(originals.of_split(split).annotations):
            raise EmptyDatasetError(
                f"no labelled picture in the {split.name.lower()} split",
                expected="pictures to train on, and others to score on",
                fix="tilth split",
            )
    return originals


def _refuse_unreadable(project: Project, originals: Dataset, measured: MeasureReport) -> None:
    """An arm would stop at such a picture too, but only after minutes."""
    if not measured.errors:
        return
    used = np.isin(originals.media.split, (Split.TRAIN, Split.TEST))
    paths = {
        str(project.media_path(uri))
        for uri, is_used in zip(originals.media.uri, used, strict=True)
        if is_used
    }
    for error in measured.errors:
        if isinstance(error, MediaError) and error.where in paths:
            raise error


def _with_common_batch(
    settings: DetectSettings, rows: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> DetectSettings:
    """A batch that the smallest training set can fill: a step is as many pictures in each arm."""
    assert settings.batch_size != "auto"
    smallest = min(len(train) for train, _ in rows.values() if len(train))
    return replace(settings, batch_size=min(settings.batch_size, smallest))


def _arm_rows(
    data: Dataset, balanced: RebalancePlan, random: RebalancePlan, settings: DetectSettings
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Media rows of ``data`` that each arm trains on, and is scored on."""
    original = data.media.parent_id < 0
    raw = original & (data.media.split == Split.TRAIN)
    test = np.flatnonzero(original & (data.media.split == Split.TEST))
    augmented = _in_lasting_order(data, raw | pictures_of(data, balanced.name))
    shuffled = generator(settings.train.seed, "source protocol").permutation(augmented)
    cut = round(settings.experiment.holdout * len(shuffled))
    nothing = np.zeros(0, dtype=np.int64)
    return {
        "pretrained": (nothing, test),
        "raw": (np.flatnonzero(raw), test),
        "random": (_in_lasting_order(data, raw | pictures_of(data, random.name)), test),
        "rebalanced": (augmented, test),
        "source-pretrained": (nothing, shuffled[:cut]),
        "source-retrained": (shuffled[cut:], shuffled[:cut]),
    }


def _in_lasting_order(data: Dataset, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The chosen media rows: originals as they are catalogued, then derived pictures by name.

    Derived pictures are catalogued as workers finish them. Training in that order would give other
    numbers in every run of the same experiment.
    """
    rows = np.flatnonzero(chosen)
    derived = data.media.parent_id[rows] >= 0
    pairs = zip(rows.tolist(), derived.tolist(), strict=True)
    names = [data.media.uri[row] if late else "" for row, late in pairs]
    return rows[np.argsort(np.array(names, dtype=str), kind="stable")]


def _arms(data: Dataset, outcomes: list[ArmOutcome], weights: str) -> list[Arm]:
    arms = []
    words = ARMS if weights else ARMS | UNTRAINED
    for name, (label, description) in words.items():
        own = [outcome for outcome in outcomes if outcome.job.arm == name]
        rows = own[0].job.train_rows
        arms.append(
            Arm(
                name=name,
                label=label,
                description=description,
                protocol="source" if name.startswith("source-") else "held-out",
                num_train_images=len(rows),
                num_derived_images=int((data.media.parent_id[rows] >= 0).sum()),
                steps=own[0].job.steps,
                scores=[outcome.score for outcome in own],
            )
        )
    return arms


def _notes(
    measured: MeasureReport, made: Sequence[RebalanceReport], found: int, jobs: Sequence[ArmJob]
) -> list[str]:
    """What a reader of the figures has to know.

    Args:
        made: of the rebalancing plan and of the random one.
        found: training steps that an earlier call had done.
    """
    notes = [CHOICE]
    if not jobs[0].settings.model.weights:
        notes.append(UNTRAINED_NOTE)
    for report, kind in zip(made, ("rebalanced", "random"), strict=True):
        if report.without_objects:
            notes.append(
                f"{report.without_objects} {kind} pictures were left out: each of ten draws "
                "would have lost all objects of the parent."
            )
    if found:
        notes.append(
            f"{found} of {sum(job.steps for job in jobs)} training steps were found done; the "
            "time of the experiment is that of its last part."
        )
    return notes + [f"not measured: {error.message} ({error.where})" for error in measured.errors]


def _summary(data: Dataset, job: ArmJob, balanced: RebalancePlan) -> str:
    have = sum(cluster.have for cluster in balanced.clusters)
    return (
        f"{have} labelled training pictures, {balanced.to_make} new ones made to equalise "
        f"{len(balanced.clusters)} clusters of objects; scored on {len(job.test_rows)} held-out "
        f"pictures. Every retrained arm starts from the same weights and takes "
        f"{job.settings.train.steps} steps of {job.settings.batch_size} pictures."
    )
