"""The arms of an experiment: each is trained and scored in a process of its own.

An arm and seed is a job; a job's run folder lets it go on after a kill, and a finished one costs
only its scoring again. Jobs share nothing but the project on disk.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tilth.curate.clusters import media_clusters
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.preannotation import trusted
from tilth.data.project import Project
from tilth.errors import TrainingError
from tilth.metrics.average_precision import AveragePrecision, average_precision
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.detector import (
    device_for,
    find_objects,
    load_detector,
    new_detector,
)
from tilth.recipes.detector_training import train_detector
from tilth.recipes.experiment import SeedScore

__all__ = ["ArmJob", "ArmOutcome", "run_arms", "score_of", "steps_done"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmJob:
    """One arm with one seed.

    Attributes:
        root: the project's folder.
        version, digest: the data set version that all arms are drawn from.
        arm: name; with the seed it names the run's folder below ``folder``.
        train_rows: int64, media rows of the version to train on; empty scores the starting weights.
        test_rows: int64, media rows to score on.
        clusters: int64, cluster of every annotation of the version, -1 for none.
        num_clusters: how many there are.
    """

    root: Path
    folder: Path
    version: str
    digest: str
    arm: str
    seed: int
    train_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    clusters: NDArray[np.int64]
    num_clusters: int
    settings: DetectSettings

    @property
    def run_dir(self) -> Path:
        """The folder of this run."""
        return self.folder / f"{self.arm}-seed{self.seed}"

    @property
    def steps(self) -> int:
        """Optimisation steps that the job takes."""
        return self.settings.train.steps if len(self.train_rows) else 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmOutcome:
    """What a job gives back: its score, and the detections behind it."""

    job: ArmJob
    score: SeedScore
    detections: Detections


def run_arms(jobs: Sequence[ArmJob], *, workers: int, progress: bool) -> list[ArmOutcome]:
    """Train and score all jobs, ``workers`` at a time (0: one a core, or one on a GPU).

    The first error of a job ends the others too, at once; the same call goes on from their last
    checkpoints.

    Returns:
        One outcome a job, in the order of ``jobs``.

    Raises:
        TilthError: what the job could not do.
        TrainingError: a worker process died without a word.
    """
    if workers == 0:
        workers = 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    workers = min(workers, len(jobs))
    context = multiprocessing.get_context("spawn")  # torch's thread pools do not survive a fork
    columns = (
        TextColumn("training arms"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True)
    pool = ProcessPoolExecutor(
        workers, context, initializer=_take_share_of_cores, initargs=(workers,)
    )
    strangers = set(multiprocessing.active_children())
    with pool, bar:
        line = bar.add_task("arms", total=sum(job.steps for job in jobs))
        futures: list[Future[ArmOutcome]] = [pool.submit(_run, job) for job in jobs]
        pending = set(futures)
        try:
            while pending:
                done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                bar.update(line, completed=sum(steps_done(job) for job in jobs))
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - strangers:
                worker.terminate()  # its checkpoints are whole at any time
            if isinstance(error, BrokenProcessPool):
                raise _worker_died() from error
            raise
        return [future.result() for future in futures]


def steps_done(job: ArmJob) -> int:
    """The last step that the job has logged; a line that is half written counts as none."""
    try:
        lines = (job.run_dir / "metrics.jsonl").read_bytes().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return int(msgspec.json.decode(line)["step"])
        except (msgspec.DecodeError, KeyError, TypeError):
            continue
    return 0


def score_of(
    measured: AveragePrecision, *, seed: int, num_clusters: int, seconds: float, steps: int
) -> SeedScore:
    """An evaluation as the record that the report shows."""
    return SeedScore(
        seed=seed,
        ap=measured.ap,
        ap50=measured.ap50,
        ap75=measured.ap75,
        per_cluster_ap50=[measured.per_group.get(cluster) for cluster in range(num_clusters)],
        per_class_ap50=dict(measured.per_class_ap50),
        recall=measured.recall.tolist(),
        precision=measured.precision.tolist(),
        seconds=seconds,
        steps=steps,
    )


def _train_clusters(job: ArmJob, dataset: Dataset) -> NDArray[np.int64] | None:
    """The cluster of each picture that the arm trains on, where it is sampled by them."""
    if job.settings.sampling.kind != "cluster":
        return None
    labels = [job.clusters[dataset.rows_of(row)] for row in job.train_rows]
    return media_clusters(dataset.take(job.train_rows), np.concatenate(labels))


def _run(job: ArmJob) -> ArmOutcome:
    seconds, device = 0.0, job.settings.train.device
    project = Project.open(job.root)
    dataset = trusted(project.catalogue.read(version=job.version))
    if len(job.train_rows):
        train = dataset.take(job.train_rows)
        seconds += train_detector(
            train,
            _paths(project, train),
            settings=job.settings,
            root=job.root,
            run_dir=job.run_dir,
            digest=job.digest,
            seed=job.seed,
            progress=False,
            clusters=_train_clusters(job, dataset),
        ).seconds  # of all the calls that it took, where some were stopped
        detector = load_detector(job.run_dir, device=device)
    else:
        names = [category.name for category in dataset.categories]
        detector, _ = new_detector(job.settings.model, names, root=job.root, seed=job.seed)
        detector.model.to(device_for(device)).eval()
    started = time.perf_counter()
    test = dataset.take(job.test_rows)
    detections = find_objects(detector, _paths(project, test), labelled=test)
    clusters = np.concatenate([job.clusters[dataset.rows_of(row)] for row in job.test_rows])
    measured = average_precision(test, detections, groups=clusters)
    score = score_of(
        measured,
        seed=job.seed,
        num_clusters=job.num_clusters,
        seconds=seconds + time.perf_counter() - started,
        steps=job.steps,
    )
    return ArmOutcome(job=job, score=score, detections=detections)


def _paths(project: Project, dataset: Dataset) -> list[Path]:
    return [project.media_path(uri) for uri in dataset.media.uri]


def _worker_died() -> TrainingError:
    return TrainingError(
        "a process that trained an arm was ended from outside",
        expected="enough memory for all of them",
        fix="run it again, it goes on from the last checkpoints; "
        "--set experiment.workers=1 needs the least memory",
    )


def _take_share_of_cores(workers: int) -> None:
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // workers))
