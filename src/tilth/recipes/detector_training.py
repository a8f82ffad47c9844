"""Train a detector on a data set: data, network, loss and loop, each said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from torch import nn

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.records import Geometry
from tilth.errors import EmptyDatasetError
from tilth.losses.detection import AnchorGrid
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.losses.robust_examples import NUMBER
from tilth.metrics.average_precision import average_precision
from tilth.recipes.detect_settings import DetectSettings
from tilth.recipes.detected_boxes import detected_boxes
from tilth.recipes.detection_families import family_of
from tilth.recipes.detector import (
    DETECTED_TOGETHER,
    device_for,
    find_objects,
    keep_detector,
    new_detector,
)
from tilth.recipes.detector_loss_settings import metric_of_loss, ordinary_loss
from tilth.recipes.detector_plots import plot_data, plot_detections, plot_training
from tilth.recipes.learned_metric import (
    metric_identity,
    metric_processes,
    with_metric,
    wrapped_loss,
)
from tilth.recipes.metric_record import write_metric_watch
from tilth.recipes.model_settings import COARSEST_STRIDE
from tilth.recipes.robust_detection import detection_loss
from tilth.recipes.starting_weights import file_digest, write_transfer
from tilth.recipes.training_plan import TrainingPlan, training_plan
from tilth.recipes.usable_detector import Detector
from tilth.train.adversarial import NumberedBatches, self_adversarial
from tilth.train.augment_on_device import rendering
from tilth.train.epochs import steps_an_epoch
from tilth.train.loading import DetectionBatches
from tilth.train.loop import FitResult, Loss, fit
from tilth.train.processes import gathered, is_main, join, num_processes, shard
from tilth.train.run import Batches
from tilth.train.sampling import build_sampler
from tilth.train.small_batches import small_batch_warning

__all__ = ["train_detector"]


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
    counts = _boxes_a_class(dataset)
    join(settings.train.device, timeout=settings.train.timeout)
    class_names = tuple(category.name for category in dataset.categories)
    device = device_for(settings.train.device)
    plan = training_plan(
        settings, len(images), class_names, root=root, run_dir=run_dir, device=device
    )

    # Network: where it starts, and whether such batches teach it anything.
    detector, transfer = new_detector(settings.model, class_names, root=root, seed=seed)
    if transfer is not None and is_main():
        write_transfer(run_dir, transfer, class_names)
    _warn_of_small_batches(detector.model, settings, plan, says=progress and is_main())

    # Data: pictures as the network sees them, and those that choose the best weights.
    batches = _batches(dataset, images, settings, plan, seed=seed, clusters=clusters)
    described = _described(batches, settings, root=root)
    scorer = None if validation is None else _Scorer(*validation, detector)
    if plots and is_main():
        plot_data(run_dir, batches, dataset)

    loss = detection_loss(
        detector.model,
        settings,
        steps=plan.loop.steps,
        batches_per_step=_batches_a_step(plan),
        class_counts=counts,
    )
    judged = _judged(loss, detector.model, settings, plan, seed=seed, says=progress and is_main())
    loss, source = _attacked(judged, described, settings, plan, seed=seed)
    with metric_processes(judged):
        result = fit(
            detector.model,
            wrapped_loss(rendering(loss), judged) if settings.augment.on_device else loss,
            source,
            settings=replace(plan.loop, seed=seed),
            run_dir=run_dir,
            evaluate=scorer,
            progress=progress,
            extend=extend,
        )
    if is_main():
        keep_detector(replace(detector, digest=digest), run_dir, seed=seed)
        write_metric_watch(run_dir, judged, seconds=result.seconds)
    if plots and is_main():
        plot_training(run_dir, result.metrics, steps_an_epoch=_steps_an_epoch(images, plan))
        if scorer is not None and scorer.best is not None:
            plot_detections(run_dir, scorer.labelled, scorer.best, class_names)
    return result


def _boxes_a_class(dataset: Dataset) -> list[int]:
    """How many boxes of single objects each class has.

    Raises:
        EmptyDatasetError: none has any.
    """
    annotations = dataset.annotations
    is_box = (annotations.geometry != Geometry.LABEL) & ~annotations.is_crowd
    if not is_box.any():
        raise EmptyDatasetError(
            "no box to learn from",
            expected="a box of a single object",
            got=f"{len(annotations)} labels, all of crowds or without a box",
            fix="choose another split, or import labels",
        )
    counted = np.bincount(annotations.category_index[is_box], minlength=len(dataset.categories))
    return counted.tolist()


def _warn_of_small_batches(
    model: nn.Module, settings: DetectSettings, plan: TrainingPlan, *, says: bool
) -> None:
    warning = small_batch_warning(
        model,
        plan.loop.freeze,
        batch_size=plan.batch_size,
        smallest_map=(settings.model.size // COARSEST_STRIDE) ** 2,
    )
    if warning and says:
        Console(stderr=True).print(f"[yellow]batches:[/yellow] {escape(warning)}")


def _batches(
    dataset: Dataset,
    images: Sequence[Path],
    settings: DetectSettings,
    plan: TrainingPlan,
    *,
    seed: int,
    clusters: NDArray[np.int64] | None,
) -> DetectionBatches:
    return DetectionBatches(
        images,
        dataset,
        size=settings.model.size,
        batch_size=plan.batch_size,
        seed=seed,
        settings=settings.augment,
        resize=settings.model.resize,
        sampler=build_sampler(dataset, settings.sampling, seed=seed, clusters=clusters),
        include_difficult=settings.include_difficult,
        num_batches=plan.loop.steps * _batches_a_step(plan),
        batches_per_step=_batches_a_step(plan),
        cache=settings.cache,
    )


def _described(batches: DetectionBatches, settings: DetectSettings, *, root: Path) -> Batches:
    more: dict[str, Any] = {}
    weights = family_of(settings.model).starting_file(settings.model, root=root)
    if weights is not None:
        more["starting_weights"] = file_digest(weights)
    own = ordinary_loss(settings.loss)
    if own != DetectionLossSettings():
        more["loss"] = asdict(own)
    more |= metric_identity(metric_of_loss(settings.loss))
    if settings.robust.is_on:
        more["robust"] = asdict(settings.robust)
    return _Described(batches=batches, more=more)


def _judged(
    loss: Loss,
    model: nn.Module,
    settings: DetectSettings,
    plan: TrainingPlan,
    *,
    seed: int,
    says: bool,
) -> Loss:
    """The loss with a metric of boxes beside it, where the settings name one."""
    metric = metric_of_loss(settings.loss)
    if not metric.is_on:
        return loss
    assert isinstance(model, AnchorGrid)  # `DetectSettings` has refused all others
    return with_metric(
        loss,
        metric,
        outputs=detected_boxes(model),
        inputs="boxes",
        steps=plan.loop.steps,
        seed=seed,
        accumulate=plan.loop.accumulate,
        batch_size=plan.batch_size,
        says=says,
    )


def _attacked(
    loss: Loss, source: Batches, settings: DetectSettings, plan: TrainingPlan, *, seed: int
) -> tuple[Loss, Batches]:
    """Loss and batches with self-adversarial training, where the settings ask for it."""
    if not settings.adversarial.learning_rate:
        return loss, source
    attacked = self_adversarial(
        loss,
        settings.adversarial,
        steps=plan.loop.steps,
        warmup_steps=plan.loop.num_warmup_steps,
        batches_per_step=_batches_a_step(plan),
        seed=seed,
    )
    return attacked, NumberedBatches(source=source, settings=settings.adversarial)


def _batches_a_step(plan: TrainingPlan) -> int:
    """Of all processes together."""
    return plan.loop.accumulate * num_processes()


def _steps_an_epoch(images: Sequence[Path], plan: TrainingPlan) -> int:
    return steps_an_epoch(len(images), plan.batch_size * _batches_a_step(plan))


@dataclass(frozen=True, kw_only=True)
class _Described:
    """Batches that know their number, and what else decides what the run is."""

    batches: DetectionBatches
    more: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.batches.identity, **self.more}

    def batch(self, step: int) -> dict[str, Any]:
        return {**self.batches.batch(step), NUMBER: step}


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
