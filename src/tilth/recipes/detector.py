"""One detector: train it on a data set, find it again by its run's folder, and use it.

A run's folder holds, beside what the loop writes (`tilth.train.run_folder`), ``detector.json``: the
network, the names of its classes, and the digest of the data that it saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.images import expect_size, read_image
from tilth.data.records import Geometry
from tilth.errors import DataError, EmptyDatasetError
from tilth.metrics.average_precision import average_precision
from tilth.models.detection_network import detect
from tilth.models.transfer import TransferReport
from tilth.ops.letterbox import from_letterbox, letterbox
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.detection_families import family_of
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.starting_weights import RECORD, weights_file
from tilth.seeding import seed_everything
from tilth.train.checkpoint import load_weights, versions
from tilth.train.loading import DetectionBatches
from tilth.train.loop import Evaluate, FitResult, fit
from tilth.train.run import Batches

__all__ = [
    "Detector",
    "device_for",
    "find_objects",
    "load_detector",
    "new_detector",
    "train_detector",
]


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A network with what is needed to use it.

    Attributes:
        model: a `DetectionNetwork`, in eval mode unless it is being trained.
        settings: what built it.
        class_names: in the order of its outputs.
        digest: of the data set version it was trained on, "" for random weights.
    """

    model: nn.Module
    settings: ModelSettings
    class_names: tuple[str, ...]
    digest: str = ""


def new_detector(
    settings: ModelSettings, class_names: Sequence[str], *, root: Path, seed: int
) -> tuple[Detector, TransferReport | None]:
    """A network with its starting weights, and what became of them (None where there are none).

    Args:
        root: folder that ``settings.weights`` is relative to.
        seed: of the random weights.

    Raises:
        TrainingError, LabelError: the network or its starting weights cannot be read, or they are
            of another network. Weights of one for other classes will do: they give everything but
            the scores of the classes that it does not know.
    """
    seed_everything(seed)
    family = family_of(settings)
    model = family.build(settings, len(class_names), root=root)
    transfer = None
    if settings.weights:
        transfer = family.start(model, settings, class_names, root=root)
    detector = Detector(model=model, settings=settings, class_names=tuple(class_names))
    return detector, transfer


def train_detector(
    dataset: Dataset,
    images: Sequence[Path],
    *,
    settings: DetectSettings,
    root: Path,
    run_dir: Path,
    digest: str,
    seed: int,
    validation: tuple[Dataset, Sequence[Path]] | None = None,
    progress: bool = True,
) -> FitResult:
    """Train on all media of ``dataset``; the same call after a kill goes on where it stopped.

    Args:
        images: n paths, in the order of ``dataset.media``.
        root: folder that ``settings.model.weights`` is relative to.
        digest: of the data set version that ``dataset`` was taken from.
        seed: of weights that are not given, order of pictures, jitter.
        validation: labels and pictures that choose the best weights, by AP50; without them the
            last ones are kept.

    Raises:
        EmptyDatasetError: no picture, or no box to learn from.
        TrainingError: the folder holds a run of other data, settings or starting weights; or see
            `fit`, `new_detector`.
        MediaError, StorageError: see `fit`.
    """
    annotations = dataset.annotations
    if not ((annotations.geometry != Geometry.LABEL) & ~annotations.is_crowd).any():
        raise EmptyDatasetError(
            "no box to learn from",
            expected="a box of a single object",
            got=f"{len(annotations)} labels, all of crowds or without a box",
            fix="choose another split, or import labels",
        )
    class_names = tuple(category.name for category in dataset.categories)
    detector, _ = new_detector(settings.model, class_names, root=root, seed=seed)
    model = detector.model
    batches = DetectionBatches(
        images,
        dataset,
        size=settings.model.size,
        batch_size=min(settings.batch_size, len(images)),
        seed=seed,
        settings=settings.jitter,
    )
    source: Batches = batches
    if settings.model.weights:
        weights = weights_file(root / settings.model.weights)
        source = _FromWeights(batches=batches, digest=_digest(weights))

    result = fit(
        model,
        family_of(settings.model).loss(model),
        source,
        settings=replace(settings.train, seed=seed),
        run_dir=run_dir,
        evaluate=None if validation is None else _scored_on(*validation, detector),
        progress=progress,
    )
    record = _Record(
        model=settings.model,
        class_names=class_names,
        data_digest=digest,
        seed=seed,
        versions={name: str(version) for name, version in versions().items()},
    )
    family_of(settings.model).keep(model, run_dir)
    with atomic_writer(run_dir / RECORD) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(record)))
    return result


def device_for(name: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """The device that a setting names; "auto" is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def load_detector(run_dir: Path, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> Detector:
    """The detector that a run left behind, ready to use, on the device.

    Raises:
        DataError: the folder holds no detector, or its record is broken.
        TrainingError: the weights are missing or broken.
    """
    path = run_dir / RECORD
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except OSError as error:
        raise DataError(
            "no trained detector here", where=str(run_dir), fix="tilth train --name NAME"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "the detector's record is broken", where=str(path), got=str(error)
        ) from error
    family = family_of(record.model)
    model = family.rebuild(record.model, len(record.class_names), run_dir=run_dir)
    load_weights(weights_file(run_dir), model)
    return Detector(
        model=model.to(device_for(device)).eval(),
        settings=record.model,
        class_names=record.class_names,
        digest=record.data_digest,
    )


def find_objects(
    detector: Detector,
    images: Sequence[Path],
    *,
    labelled: Dataset | None = None,
    score_threshold: float = 0.001,
    batch_size: int = 16,
    progress: bool = False,
) -> Detections:
    """Detect in every picture; ``media_index`` counts ``images``.

    Boxes are in the pixels of the stored picture and inside it; those that lie wholly in the
    padding around it are left out.

    Args:
        labelled: what the detections will be scored against, in the order of ``images``.

    Raises:
        MediaError: a picture is missing or broken, or of another size than its labels say.
    """
    device = next(detector.model.parameters()).device
    starts = range(0, len(images), batch_size)
    columns: list[tuple[np.ndarray, ...]] = []
    for start in track(
        starts, "detecting", console=Console(stderr=True), transient=True, disable=not progress
    ):
        pictures = [read_image(path) for path in images[start : start + batch_size]]
        if labelled is not None:
            for row, picture in enumerate(pictures, start):
                size = (int(labelled.media.width[row]), int(labelled.media.height[row]))
                expect_size(picture, size, where=str(images[row]))
        placed = [
            letterbox(torch.from_numpy(picture).permute(2, 0, 1), detector.settings.size)
            for picture in pictures
        ]
        squares = torch.stack([square for square, _ in placed]).to(device)
        found = detect(detector.model, squares.float().div_(255), score_threshold=score_threshold)
        for row, (boxes, scores, classes) in enumerate(found):
            height, width = pictures[row].shape[:2]
            inside = from_letterbox(boxes.cpu().double(), placed[row][1]).numpy()
            inside = inside.clip(0, [width, height, width, height])
            kept = (inside[:, 2:] > inside[:, :2]).all(axis=1)
            index = np.full(len(inside), start + row, dtype=np.int64)
            of_picture = (index, classes.cpu().numpy(), inside, scores.cpu().numpy())
            columns.append(tuple(column[kept] for column in of_picture))
    if not columns:
        none = np.zeros(0)
        columns.append((none, none, np.zeros((0, 4)), none))
    media_index, category_index, boxes_xyxy, score = map(np.concatenate, zip(*columns, strict=True))
    return Detections(
        media_index=media_index.astype(np.int64),
        category_index=category_index.astype(np.int64),
        boxes_xyxy=boxes_xyxy.astype(np.float64),
        score=score.astype(np.float32),
    )


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What ``detector.json`` says."""

    model: ModelSettings
    class_names: tuple[str, ...]
    data_digest: str
    seed: int
    versions: dict[str, str]
    format: Literal["tilth.detector/1"] = "tilth.detector/1"


@dataclass(frozen=True, kw_only=True)
class _FromWeights:
    """Batches of a run that starts from given weights: those are part of what the run is."""

    batches: DetectionBatches
    digest: str

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.batches.identity, "starting_weights": self.digest}

    def batch(self, step: int) -> dict[str, Any]:
        return self.batches.batch(step)


def _scored_on(labelled: Dataset, images: Sequence[Path], detector: Detector) -> Evaluate:
    def score(network: nn.Module) -> dict[str, float]:
        found = find_objects(replace(detector, model=network), images, labelled=labelled)
        return {"score": average_precision(labelled, found).ap50 or 0.0}

    return score


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
