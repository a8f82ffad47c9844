"""Runs of one detector on a project: train it, score it, find objects in new pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tilth.config import settings_to_dict
from tilth.curate.box_clusters import cluster_labels
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.digest import dataset_digest
from tilth.data.images import PICTURE_SUFFIXES, read_image, write_jpeg
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.data.versions import Version
from tilth.errors import DataError, EmptyDatasetError, MediaError, SettingsError
from tilth.metrics.average_precision import average_precision
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.detector import Detector, find_objects, load_detector, train_detector
from tilth.recipes.provenance import record_once
from tilth.recipes.run_names import existing_run, new_run
from tilth.recipes.training_pictures import originals, training_pictures

__all__ = ["evaluate", "predict", "train"]


def train(
    root: Path,
    *,
    settings: DetectSettings,
    name: str,
    plans: Sequence[str] = (),
    progress: bool,
) -> dict[str, Any]:
    """Train on the originals of the training split; record the run with the digest of its data.

    With ``train.evaluate_every`` above 0 the labelled originals of the split "val", where there are
    any, choose the weights that are kept as the best.

    Args:
        plans: of rebalancing, whose pictures are trained on too.
        name: of the run's folder in ``runs/`` and of the data set version it saw. Calling again
            with the same name goes on where a killed run stopped, on the data that it began with.

    Raises:
        EmptyDatasetError: no labelled picture in the training split.
        DataError: a version of this name holds other data, or a plan has made no picture.
        SettingsError: see `new_run`.
    """
    project = Project.open(root)
    run_dir = new_run(project, name)
    version = _version_for(project, name, run_dir, plans)
    dataset = training_pictures(project.catalogue.read(version=name), plans)
    held_back = originals(project.catalogue.read(version=name).of_split(Split.VAL))
    chooses = settings.train.evaluate_every > 0 and len(held_back.annotations) > 0
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
    )
    written = settings_to_dict(settings)
    record_once(project.catalogue, name, version.digest, written, result.loss)
    num_derived = int((dataset.media.parent_id >= 0).sum())
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
        "resumed_from": result.resumed_from,
        "seconds": round(result.seconds, 1),
        "loss": result.loss["total"],
        "best_step": result.best_step,
        "best_val_ap50": result.best_score,
    }


def evaluate(root: Path, *, run: str, split: str, progress: bool) -> dict[str, Any]:
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
    dataset = originals(project.catalogue.read().of_split(Split[split.upper()]))
    if not len(dataset.annotations):
        raise EmptyDatasetError(f"no labelled picture in the {split} split", fix="tilth split")
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
    detections = find_objects(
        detector, _paths(project, dataset), labelled=dataset, progress=progress
    )
    measured = average_precision(
        dataset, detections, groups=cluster_labels(project, dataset), bootstrap=200
    )
    return {
        "run": run,
        "split": split,
        "pictures": len(dataset.media),
        "boxes": len(dataset.annotations),
        "trained_on": detector.digest,
        "held_out": None if learned_from is None else split != "train",
        **measured.to_dict(),
    }


def predict(
    root: Path | None,
    *,
    run: str | Path,
    sources: Sequence[Path],
    score_threshold: float,
    output: Path | None,
) -> dict[str, Any]:
    """Find objects in pictures and folders of pictures.

    Args:
        root: the project that ``run`` is a name in; None where ``run`` is a folder.
        output: a folder for copies with the detections drawn in.

    Raises:
        MediaError: a source is missing, or a picture is broken.
        EmptyDatasetError: no picture among the sources.
        SettingsError: a copy would replace one of the pictures.
    """
    folder = Path(run) if root is None else existing_run(Project.open(root), str(run))
    detector = load_detector(folder)
    images = _pictures(sources)
    targets = [] if output is None else _targets(images, output)
    is_long = len(images) > 50
    found = find_objects(detector, images, score_threshold=score_threshold, progress=is_long)
    by_picture = [_rows(found, number) for number in range(len(images))]
    if output is not None:
        for path, target, own in zip(images, targets, by_picture, strict=True):
            write_jpeg(target, _drawn(read_image(path), own, detector))
    pictures = [
        {"picture": path, "objects": _objects(own, detector)}
        for path, own in zip(images, by_picture, strict=True)
    ]
    return {"run": str(run), "objects": len(found), "pictures": pictures}


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


def _pictures(sources: Sequence[Path]) -> list[Path]:
    images: list[Path] = []
    for source in sources:
        if source.is_dir():
            inside = (path for path in source.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
            images += sorted(inside)
        elif source.is_file():
            images.append(source)
        else:
            raise MediaError("no such picture or folder", where=str(source))
    if not images:
        raise EmptyDatasetError(
            "no picture to look at",
            where=", ".join(map(str, sources)),
            expected=f"files that end in {', '.join(sorted(PICTURE_SUFFIXES))}",
        )
    return images


def _targets(images: Sequence[Path], output: Path) -> list[Path]:
    """One file each in ``output``; same-named pictures of different folders do not collide."""
    originals = {path.resolve() for path in images}
    output.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    targets = []
    for path in images:
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name)
        targets.append(output / f"{name}.jpg")
        if targets[-1].resolve() in originals:
            raise SettingsError(
                "the copies would replace the pictures themselves",
                where=str(targets[-1]),
                expected="a folder for the copies alone",
            )
    return targets


def _rows(found: Detections, media_index: int) -> Detections:
    own = np.flatnonzero(found.media_index == media_index)
    own = own[np.argsort(-found.score[own], kind="stable")]
    return Detections(
        media_index=found.media_index[own],
        category_index=found.category_index[own],
        boxes_xyxy=found.boxes_xyxy[own],
        score=found.score[own],
    )


def _objects(found: Detections, detector: Detector) -> list[dict[str, Any]]:
    rows = zip(found.category_index, found.score, found.boxes_xyxy, strict=True)
    return [
        {
            "class": detector.class_names[category],
            "score": round(float(score), 4),
            "box_xyxy": [round(float(edge), 2) for edge in box],
        }
        for category, score, box in rows
    ]


def _drawn(image_rgb: np.ndarray, found: Detections, detector: Detector) -> np.ndarray:
    drawn = image_rgb.copy()
    thickness = max(1, round(max(drawn.shape[:2]) / 300))
    for item in reversed(_objects(found, detector)):  # the surest on top
        x0, y0, x1, y1 = (round(edge) for edge in item["box_xyxy"])
        cv2.rectangle(drawn, (x0, y0), (x1, y1), (230, 120, 0), thickness)
        text, font = f"{item['class']} {item['score']:.2f}", cv2.FONT_HERSHEY_SIMPLEX
        (width, height), _ = cv2.getTextSize(text, font, 0.4 * thickness, thickness)
        top = max(y0, height + 4)
        cv2.rectangle(drawn, (x0, top - height - 4), (x0 + width, top), (230, 120, 0), -1)
        cv2.putText(drawn, text, (x0, top - 3), font, 0.4 * thickness, (255, 255, 255), thickness)
    return drawn
