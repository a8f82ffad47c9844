"""Runs of one detector on a project: the data they saw is named, and what they did recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from tilth.config import settings_to_dict
from tilth.curate.box_clusters import cluster_labels
from tilth.curate.clusters import media_clusters
from tilth.data.dataset import Dataset
from tilth.data.digest import dataset_digest
from tilth.data.label_sanity import label_warnings
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.data.versions import Version
from tilth.errors import DataError
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.detector_training import train_detector
from tilth.recipes.metric_record import METRIC_PAGE, read_metric_watch
from tilth.recipes.provenance import record_once
from tilth.recipes.run_names import new_run
from tilth.recipes.starting_weights import read_transfer
from tilth.recipes.training_pictures import originals, training_pictures
from tilth.train.processes import is_main, join, main_first

__all__ = ["train"]


def train(
    root: Path,
    *,
    settings: DetectSettings,
    name: str,
    plans: Sequence[str] = (),
    progress: bool,
    extend: bool = False,
) -> dict[str, Any]:
    """Train on the originals of the training split; record the run with the digest of its data.

    With ``train.evaluate_every`` or ``epochs`` above 0 the labelled originals of the split "val",
    where there are any, choose the weights that are kept as the best. Under torchrun all processes
    make this call; the first one writes.

    Args:
        plans: of rebalancing, whose pictures are trained on too.
        name: of the run's folder in ``runs/`` and of the data set version it saw. Calling again
            with the same name goes on where a killed run stopped, on the data that it began with.
        extend: accept more steps or epochs than the run had before.

    Raises:
        EmptyDatasetError: no labelled picture in the training split.
        DataError: a version of this name holds other data, or a plan has made no picture.
        SettingsError: see `new_run`.
    """
    project = Project.open(root)
    run_dir = new_run(project, name)
    join(settings.train.device, timeout=settings.train.timeout)
    with main_first():
        version = _version_for(project, name, run_dir, plans)
    dataset = training_pictures(project.catalogue.read(version=name), plans)
    if progress and is_main():
        say_label_warnings(dataset)
    held_back = originals(project.catalogue.read(version=name).of_split(Split.VAL))
    is_scored = settings.train.evaluate_every > 0 or settings.epochs > 0
    by_cluster = settings.sampling.kind == "cluster"
    chooses = is_scored and len(held_back.annotations) > 0
    result = train_detector(
        dataset,
        _paths(project, dataset),
        settings=settings,
        root=root,
        run_dir=run_dir,
        digest=version.digest,
        seed=settings.train.seed,
        validation=(held_back, _paths(project, held_back)) if chooses else None,
        progress=progress,
        extend=extend,
        plots=True,
        clusters=picture_clusters(project, dataset) if by_cluster else None,
    )
    written = settings_to_dict(settings)
    if is_main():
        record_once(project.catalogue, name, version.digest, written, result.loss)
    num_derived = int((dataset.media.parent_id >= 0).sum())
    watched = read_metric_watch(run_dir)
    page = (
        {"metric_page": run_dir / METRIC_PAGE, "metric_notices": watched["notices"]}
        if watched
        else {}
    )
    return {
        "run": name,
        "folder": result.run_dir,
        "pictures": len(dataset.media),
        "raw_pictures": len(dataset.media) - num_derived,
        "derived_pictures": num_derived,
        "boxes": len(dataset.annotations),
        "data_digest": version.digest,
        "data_is_current": dataset_digest(project.catalogue.read()) == version.digest,
        "steps": result.steps,
        "stopped_early": result.stopped_early,
        "resumed_from": result.resumed_from,
        "seconds": round(result.seconds, 1),
        "loss": result.loss["total"],
        "best_step": result.best_step,
        "best_val_ap50": result.best_score,
        "starting_weights": read_transfer(run_dir),
        **page,
    }


def picture_clusters(project: Project, dataset: Dataset) -> NDArray[np.int64]:
    """int64 [n]: the cluster that holds most of a picture's boxes, -1 where none is known.

    Raises:
        DataError: the boxes of the project are in no clusters.
    """
    clusters = media_clusters(dataset, cluster_labels(project, dataset))
    if not (clusters >= 0).any():
        raise DataError(
            "pictures cannot be sampled by cluster: no box is in one",
            fix="tilth clusters, or sampling.kind = 'uniform'",
        )
    return clusters


def say_label_warnings(dataset: Dataset) -> None:
    """Print to stderr what looks odd about the labels, before anything is trained on them."""
    console = Console(stderr=True)
    for warning in label_warnings(dataset):
        console.print(f"[yellow]labels:[/yellow] {escape(str(warning))}")


def _paths(project: Project, dataset: Dataset) -> list[Path]:
    return [project.media_path(uri) for uri in dataset.media.uri]


def _version_for(project: Project, name: str, run_dir: Path, plans: Sequence[str]) -> Version:
    """The version that the run began with, whatever was imported since; for a new run, a new one.

    Raises:
        DataError: a version of the name holds other data, and no run has begun with it.
    """
    kept = [each for each in project.catalogue.versions() if each.name == name]
    if kept and run_dir.is_dir():
        return kept[0]
    # Before the version is made, so that a call that cannot train does not use up the name.
    training_pictures(project.catalogue.read(), plans)
    return project.catalogue.create_version(name)
