"""Scores of a detector, or of any file of detections, on the labelled pictures of a split."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.curate.box_clusters import cluster_labels
from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset
from tilth.data.detection_results import read_detections
from tilth.data.detections import Detections
from tilth.data.formats import load_format
from tilth.data.formats._guess import guess_format
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import DataError, EmptyDatasetError, SettingsError
from tilth.metrics.average_precision import average_precision
from tilth.metrics.operating_points import operating_points
from tilth.recipes.class_mapping import map_classes
from tilth.recipes.detector import Detector, find_objects, load_detector
from tilth.recipes.detector_latency import latency
from tilth.recipes.detector_source import OpenedDetector
from tilth.recipes.evaluation_settings import EvaluationSettings
from tilth.recipes.run_names import existing_run
from tilth.recipes.training_pictures import originals

__all__ = [
    "evaluate",
    "evaluate_file",
    "evaluate_predictions",
    "evaluate_weights",
    "score_detector",
    "scores_of",
    "write_class_table",
]


def evaluate(
    root: Path,
    *,
    run: str,
    split: str,
    progress: bool,
    settings: EvaluationSettings | None = None,
) -> dict[str, Any]:
    """Average precision of a run on the originals of one split, by class and by cluster of boxes.

    Args:
        split: "train", "val" or "test"; only "train" may hold pictures that the run learned from.

    Raises:
        EmptyDatasetError: no labelled picture in the split.
        DataError: no such run, its classes are not those of the project, or it was trained on
            pictures of this split.
    """
    project = Project.open(root)
    detector = load_detector(existing_run(project, run))
    dataset = _labelled(project, split)
    names = tuple(category.name for category in dataset.categories)
    if names != detector.class_names:
        raise DataError(
            "the detector was trained on other classes",
            where=run,
            expected=", ".join(names),
            got=", ".join(detector.class_names),
        )
    learned_from = _seen_by(project, detector.digest)
    if split != "train" and learned_from is not None:
        _refuse_seen(dataset, learned_from, run=run, split=split)
    scores = score_detector(
        detector,
        dataset,
        _paths(project, dataset),
        settings,
        groups=cluster_labels(project, dataset),
        progress=progress,
    )
    return {
        "run": run,
        "split": split,
        "trained_on": detector.digest,
        "held_out": None if learned_from is None else split != "train",
        **scores,
    }


def evaluate_weights(
    root: Path,
    *,
    opened: OpenedDetector,
    split: str,
    classes: Mapping[str, str] | None = None,
    progress: bool = False,
    settings: EvaluationSettings | None = None,
) -> dict[str, Any]:
    """As `evaluate`, of a detector from elsewhere, whose classes may be others.

    Detections of classes that the project does not have are left out; nobody knows here which
    pictures the detector has seen.

    Args:
        classes: detector's class -> the project's; others are matched by name.

    Raises:
        EmptyDatasetError: no labelled picture in the split.
        SettingsError: the detector knows no class of the project.
    """
    project = Project.open(root)
    dataset = _labelled(project, split)
    scores = score_detector(
        opened.detector,
        dataset,
        _paths(project, dataset),
        settings,
        classes=classes,
        groups=cluster_labels(project, dataset),
        progress=progress,
    )
    return {
        "run": opened.name,
        "split": split,
        "trained_on": None,
        "held_out": None,
        "weights_digest": opened.weights_digest,
        **scores,
    }


def evaluate_predictions(
    root: Path,
    *,
    predictions: Path,
    split: str,
    format_name: str | None = None,
    settings: EvaluationSettings | None = None,
) -> dict[str, Any]:
    """Score a file of detections on the originals of one split of a project.

    Detections of pictures outside the split are counted, not scored.

    Raises:
        EmptyDatasetError: no labelled picture in the split.
        LabelError, DataError: see `read_detections`.
    """
    settings = settings or EvaluationSettings()
    project = Project.open(root)
    dataset = _labelled(project, split)
    detections, outside = read_detections(
        predictions, dataset, format_name=format_name, images=project.root
    )
    groups = cluster_labels(project, dataset)
    return _scores_of_file(dataset, detections, outside, predictions, split, settings, groups)


def evaluate_file(
    labels: Path,
    *,
    predictions: Path,
    labels_format: str | None = None,
    format_name: str | None = None,
    images: Path | None = None,
    settings: EvaluationSettings | None = None,
) -> dict[str, Any]:
    """Score a file of detections against a file of labels; no project is needed.

    Raises:
        EmptyDatasetError: no label.
        LabelError, DataError: see `read_detections`.
    """
    settings = settings or EvaluationSettings()
    reader = load_format(labels_format or guess_format(labels))
    dataset, _ = reader.read(labels, media_root=images, options=reader.ReadOptions())
    if not len(dataset.annotations):
        raise EmptyDatasetError("there is no label to score against", where=str(labels))
    detections, outside = read_detections(
        predictions, dataset, format_name=format_name, images=images
    )
    return _scores_of_file(dataset, detections, outside, predictions, str(labels), settings, None)


def score_detector(
    detector: Detector,
    dataset: Dataset,
    images: Sequence[Path],
    settings: EvaluationSettings | None = None,
    *,
    classes: Mapping[str, str] | None = None,
    groups: NDArray[np.int64] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Detect in labelled pictures and score that: the numbers of `scores_of`, and the protocol.

    Args:
        images: n paths, in the order of ``dataset.media``.
        classes: detector's class -> the labels'; others are matched by name, and detections of
            classes that the labels do not have are left out.
        groups: see `average_precision`.

    Raises:
        SettingsError: the detector knows no class of the labels.
        MediaError: a picture is missing or broken, or of another size than its labels say.
    """
    settings = settings or EvaluationSettings()
    names = [category.name for category in dataset.categories]
    mapping = map_classes(detector.class_names, names, classes or {})
    if not mapping.names:
        raise SettingsError(
            "the detector knows no class of the labels",
            expected=", ".join(names),
            got=", ".join(detector.class_names),
            fix="--map DETECTOR=TASK",
        )
    detections = find_objects(
        detector,
        images,
        labelled=dataset,
        score_threshold=settings.score_threshold,
        suppression=settings.suppression,
        progress=progress,
    )
    timed = images[: settings.latency]
    return {
        "protocol": _protocol(settings, detector),
        **scores_of(dataset, mapping.apply(detections), settings, groups=groups),
        "latency": latency(detector, timed, settings.suppression) if timed else None,
    }


def scores_of(
    dataset: Dataset,
    detections: Detections,
    settings: EvaluationSettings,
    *,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """All numbers of `average_precision`, and for each class the threshold of its best F1."""
    strong = np.flatnonzero(detections.score >= settings.score_threshold)
    detections = detections.take(strong)
    measured = average_precision(
        dataset, detections, mode=settings.mode, groups=groups, bootstrap=settings.bootstrap
    )
    best = operating_points(dataset, detections, mode=settings.mode)
    points = {name: None if point is None else vars(point) for name, point in best.items()}
    return {
        "pictures": len(dataset.media),
        "boxes": len(dataset.annotations),
        **measured.to_dict(),
        "best_f1": points,
    }


def write_class_table(scores: dict[str, Any], path: Path) -> None:
    """One line a class, as CSV: truths, AP, AP50, AR, and the threshold of the best F1.

    Raises:
        StorageError: the write failed.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["score", "precision", "recall", "f1"]
    writer.writerow(["class", "mode", "truths", "ap", "ap50", "ar", *columns])
    for name, truths in scores["per_class_truths"].items():
        numbers = [scores[key][name] for key in ("per_class", "per_class_ap50", "per_class_ar")]
        point = scores["best_f1"][name] or dict.fromkeys(columns)
        numbers += [point[column] for column in columns]
        cells = ["" if number is None else f"{number:.6g}" for number in numbers]
        writer.writerow([name, scores["mode"], truths, *cells])
    with atomic_writer(path) as stream:
        stream.write(text.getvalue().encode())


def _scores_of_file(
    dataset: Dataset,
    detections: Detections,
    outside: int,
    predictions: Path,
    split: str,
    settings: EvaluationSettings,
    groups: NDArray[np.int64] | None,
) -> dict[str, Any]:
    return {
        "run": str(predictions),
        "split": split,
        "trained_on": None,
        "held_out": None,
        "detections_of_other_pictures": outside,
        "protocol": _protocol(settings),
        **scores_of(dataset, detections, settings, groups=groups),
        "latency": None,
    }


def _protocol(settings: EvaluationSettings, detector: Detector | None = None) -> dict[str, Any]:
    """What a number depends on, to be published beside it."""
    of_detector = None
    if detector is not None:
        of_detector = {
            "size": detector.settings.size,
            "resize": detector.settings.resize,
            "suppression": vars(settings.suppression),
        }
    return {
        "mode": settings.mode,
        "score_threshold": settings.score_threshold,
        "detector": of_detector,
        "bootstrap": settings.bootstrap,
    }


def _paths(project: Project, dataset: Dataset) -> list[Path]:
    return [project.media_path(uri) for uri in dataset.media.uri]


def _labelled(project: Project, split: str) -> Dataset:
    dataset = originals(project.catalogue.read().of_split(Split[split.upper()]))
    if not len(dataset.annotations):
        raise EmptyDatasetError(f"no labelled picture in the {split} split", fix="tilth split")
    return dataset


def _seen_by(project: Project, digest: str) -> frozenset[str] | None:
    """Training pictures of the version that a detector saw; None where it is not kept here.

    An equal digest is the same pictures in the same splits, whatever the version is called.
    """
    names = [each.name for each in project.catalogue.versions() if each.digest == digest]
    if not names:
        return None
    return frozenset(project.catalogue.read(version=names[0]).of_split(Split.TRAIN).media.uri)


def _refuse_seen(dataset: Dataset, learned_from: frozenset[str], *, run: str, split: str) -> None:
    seen = sorted(learned_from.intersection(dataset.media.uri))
    if seen:
        raise DataError(
            f"the run was trained on pictures that are in the {split} split now",
            where=run,
            expected="pictures that it has not seen",
            got=f"{len(seen)} of {len(dataset.media)} that it has, {seen[0]} first",
            fix="tilth split as it was then, or --split train to score on what it has seen",
        )
