"""One detector: train it on a data set, find it again by its run's folder, and use it.

A run's folder holds, beside what the loop writes (`tilth.train.run_folder`), ``detector.json``: the
network, the names of its classes, and the digest of the data that it saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import nn

from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.images import expect_size
from tilth.data.read_ahead import read_ahead
from tilth.data.records import Geometry
from tilth.errors import DataError, EmptyDatasetError
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.metrics.average_precision import average_precision
from tilth.models.transfer import TransferReport
from tilth.ops.nms import Suppression
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.detection_families import family_of
from tilth.recipes.detector_plots import plot_data, plot_detections, plot_training
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.picture_detection import LoadedPicture, detect_in, load_picture
from tilth.recipes.starting_weights import RECORD, weights_file, write_transfer
from tilth.recipes.training_plan import training_plan
from tilth.recipes.usable_detector import Detector, for_inference
from tilth.seeding import seed_everything
from tilth.train.adversarial import NumberedBatches, self_adversarial
from tilth.train.augment_on_device import rendering
from tilth.train.checkpoint import load_weights, versions
from tilth.train.epochs import steps_an_epoch
from tilth.train.loading import DetectionBatches
from tilth.train.loop import FitResult, fit
from tilth.train.processes import gathered, is_main, join, num_processes, shard
from tilth.train.run import Batches
from tilth.train.sampling import build_sampler

__all__ = [
    "Detector",
    "device_for",
    "find_objects",
    "keep_detector",
    "load_detector",
    "new_detector",
    "train_detector",
]


DETECTED_TOGETHER = 16  # pictures


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
    if family.starting_file(settings, root=root) is not None:
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
    extend: bool = False,
    plots: bool = False,
    clusters: NDArray[np.int64] | None = None,
) -> FitResult:
    """Train on all media of ``dataset``; the same call after a kill goes on where it stopped.

    Under torchrun all processes make this call; the first one writes.

    Args:
        images: n paths, in the order of ``dataset.media``.
        root: folder that ``settings.model.weights`` is relative to.
        digest: of the data set version that ``dataset`` was taken from.
        seed: of weights that are not given, order of pictures, augmentation.
        validation: labels and pictures that choose the best weights, by AP50; without them the
            last ones are kept.
        extend: accept more steps or epochs than the run had before; see `fit`.
        plots: also write what `tilth.recipes.detector_plots` draws of the run.
        clusters: int64 [n], the cluster of each picture, which ``sampling.kind = "cluster"`` needs.

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
    join(settings.train.device, timeout=settings.train.timeout)
    class_names = tuple(category.name for category in dataset.categories)
    plan = training_plan(
        settings,
        len(images),
        class_names,
        root=root,
        run_dir=run_dir,
        device=device_for(settings.train.device),
    )
    detector, transfer = new_detector(settings.model, class_names, root=root, seed=seed)
    if transfer is not None and is_main():
        write_transfer(run_dir, transfer, class_names)
    model = detector.model
    batches = DetectionBatches(
        images,
        dataset,
        size=settings.model.size,
        batch_size=plan.batch_size,
        seed=seed,
        settings=settings.augment,
        resize=settings.model.resize,
        sampler=build_sampler(dataset, settings.sampling, seed=seed, clusters=clusters),
        include_difficult=settings.include_difficult,
        num_batches=plan.loop.steps * plan.loop.accumulate * num_processes(),
        batches_per_step=plan.loop.accumulate * num_processes(),
        cache=settings.cache,
    )
    more: dict[str, Any] = {}
    weights = family_of(settings.model).starting_file(settings.model, root=root)
    if weights is not None:
        more["starting_weights"] = _digest(weights)
    if settings.loss != DetectionLossSettings():
        more["loss"] = asdict(settings.loss)
    source: Batches = _Described(batches=batches, more=more)

    scorer = None if validation is None else _Scorer(*validation, detector)
    if plots and is_main():
        plot_data(run_dir, batches, dataset)
    is_box = (annotations.geometry != Geometry.LABEL) & ~annotations.is_crowd
    counts = np.bincount(annotations.category_index[is_box], minlength=len(class_names))
    loss = family_of(settings.model).loss(model, settings.loss, class_counts=counts.tolist())
    if settings.adversarial.learning_rate:
        source = NumberedBatches(source=source, settings=settings.adversarial)
        loss = self_adversarial(
            loss,
            settings.adversarial,
            steps=plan.loop.steps,
            warmup_steps=plan.loop.num_warmup_steps,
            batches_per_step=plan.loop.accumulate * num_processes(),
            seed=seed,
        )
    if settings.augment.on_device:
        loss = rendering(loss)
    result = fit(
        model,
        loss,
        source,
        settings=replace(plan.loop, seed=seed),
        run_dir=run_dir,
        evaluate=scorer,
        progress=progress,
        extend=extend,
    )
    if is_main():
        keep_detector(replace(detector, digest=digest), run_dir, seed=seed)
    if plots and is_main():
        each = steps_an_epoch(len(images), plan.batch_size * plan.loop.accumulate * num_processes())
        plot_training(run_dir, result.metrics, steps_an_epoch=each)
        if scorer is not None and scorer.best is not None:
            plot_detections(run_dir, scorer.labelled, scorer.best, class_names)
    return result


def keep_detector(detector: Detector, run_dir: Path, *, seed: int) -> None:
    """Write what `load_detector` reads beside the weights; the record comes last.

    Raises:
        StorageError: the disk is full or not writable.
    """
    record = _Record(
        model=detector.settings,
        class_names=detector.class_names,
        data_digest=detector.digest,
        seed=seed,
        versions={name: str(version) for name, version in versions().items()},
    )
    family_of(detector.settings).keep(detector.model, run_dir)
    with atomic_writer(run_dir / RECORD) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(record)))


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
    iou_threshold: float = 0.5,
    suppression: Suppression | None = None,
    batch_size: int = DETECTED_TOGETHER,
    progress: bool = False,
) -> Detections:
    """Detect in every picture; ``media_index`` counts ``images``.

    Boxes are in the pixels of the stored picture and inside it; those that lie wholly in the
    padding around it are left out. The pictures of the next batch are read while one is looked at.

    Args:
        labelled: what the detections will be scored against, in the order of ``images``.
        iou_threshold: of two boxes of a class that overlap more, the weaker one is dropped.
        suppression: says so in full, in the place of ``iou_threshold``.

    Raises:
        MediaError: a picture is missing or broken, or of another size than its labels say.
    """
    suppression = suppression or Suppression(iou_threshold=iou_threshold)
    detector = for_inference(detector)  # in float32: numbers do not hang on the machine

    def loaded(start: int) -> tuple[int, list[LoadedPicture]]:
        rows = range(start, min(start + batch_size, len(images)))
        pictures = [load_picture(detector, images[row]) for row in rows]
        if labelled is not None:
            for row, picture in zip(rows, pictures, strict=True):
                size = (int(labelled.media.width[row]), int(labelled.media.height[row]))
                expect_size((picture.width, picture.height), size, where=str(images[row]))
        return start, pictures

    parts = []
    starts = track(
        range(0, len(images), batch_size),
        "detecting",
        console=Console(stderr=True),
        transient=True,
        disable=not progress,
    )
    for start, pictures in read_ahead(loaded(start) for start in starts):
        found = detect_in(
            detector, pictures, score_threshold=score_threshold, suppression=suppression
        )
        parts.append(replace(found, media_index=found.media_index + start))
    return Detections.joined(parts)


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
class _Described:
    """Batches with what else decides what the run is: its starting weights, its loss."""

    batches: DetectionBatches
    more: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.batches.identity, **self.more}

    def batch(self, step: int) -> dict[str, Any]:
        return self.batches.batch(step)


class _Scorer:
    """Scores a network on pictures that were held back; all processes look at their share.

    Attributes:
        best: the detections of the best score that was seen by this object, None before one.
    """

    def __init__(self, labelled: Dataset, images: Sequence[Path], detector: Detector) -> None:
        self.labelled = labelled
        self.images = images
        self.detector = detector
        self.best: Detections | None = None
        self._best_score = -1.0

    def __call__(self, network: nn.Module) -> dict[str, float]:
        detector = replace(self.detector, model=network)
        seen = _found_together(detector, self.images, self.labelled)
        if not is_main():  # whose numbers count for all
            return {"score": 0.0}
        measured = average_precision(self.labelled, seen)
        parts = {"ap": measured.ap, "ap50": measured.ap50, "ap75": measured.ap75, "ar": measured.ar}
        score = measured.ap50 or 0.0
        if score > self._best_score:
            self._best_score, self.best = score, seen
        return {"score": score, **{n: value for n, value in parts.items() if value is not None}}


def _found_together(detector: Detector, images: Sequence[Path], labelled: Dataset) -> Detections:
    """As `find_objects` in one process, to the last bit; each process looks at its share."""
    own = shard(len(images), chunk=DETECTED_TOGETHER)
    found = find_objects(detector, [images[row] for row in own], labelled=labelled.take(own))
    parts = gathered(replace(found, media_index=own[found.media_index]))
    together = Detections.joined(parts)
    return together.take(np.argsort(together.media_index, kind="stable"))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
