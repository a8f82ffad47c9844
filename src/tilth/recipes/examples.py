"""Which held-out pictures the report shows: those that rebalancing helped most, and least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.images import read_image
from tilth.data.project import Project
from tilth.data.records import Geometry
from tilth.metrics.matching import match
from tilth.recipes.arms import ArmOutcome
from tilth.recipes.detect_settings import ExperimentSettings
from tilth.recipes.example_pictures import MATCH_IOU, example_picture
from tilth.recipes.experiment import ExamplePicture

__all__ = ["CHOICE", "choose_examples"]

AFTER = "rebalanced"
BEFORE = "raw"

CHOICE = (
    "The example pictures are chosen: half are those on which rebalancing helped most against "
    "training on the raw pictures, half those on which it helped least or did harm, counted in "
    "missed objects and false detections of the first seed. They show what changed, not how often."
)


def choose_examples(
    project: Project,
    data: Dataset,
    outcomes: Sequence[ArmOutcome],
    settings: ExperimentSettings,
) -> list[ExamplePicture]:
    """Held-out pictures with the detections of every arm of the first seed.

    Half of them are those that rebalancing helped most against training on the raw pictures, half
    those that it helped least: a choice of successes alone would mislead. The report must say so,
    in the words of `CHOICE`. Only the chosen pictures are decoded.

    Args:
        data: the version that the outcomes were scored on.

    Raises:
        MediaError: a chosen picture has gone since it was scored.
    """
    first = {
        outcome.job.arm: outcome
        for outcome in reversed(outcomes)
        if not outcome.job.arm.startswith("source-")
    }
    test = data.take(first[BEFORE].job.test_rows)
    test = test.keep_annotations(test.annotations.geometry != Geometry.LABEL)
    threshold = settings.score_threshold
    gains = _errors(test, first[BEFORE].detections, threshold) - _errors(
        test, first[AFTER].detections, threshold
    )
    detections = {arm: outcome.detections for arm, outcome in first.items()}
    return [
        _example(project, test, row, detections, threshold)
        for row in _telling_rows(test, gains, settings.examples)
    ]


def _errors(test: Dataset, detections: Detections, score_threshold: float) -> NDArray[np.int64]:
    """int64 [n]: objects missed and false detections in each picture."""
    matches = match(test, detections, iou_threshold=MATCH_IOU, score_threshold=score_threshold)
    missed = test.annotations.media_index[matches.is_missed]
    false = detections.media_index[matches.is_false_positive]
    return np.bincount(np.concatenate([missed, false]), minlength=len(test.media))


def _telling_rows(test: Dataset, gains: NDArray[np.int64], count: int) -> list[int]:
    """Rows of labelled pictures: the largest gains first, the smallest last, none twice."""
    labelled = np.flatnonzero(np.diff(test.offsets))
    ranked = labelled[np.argsort(-gains[labelled], kind="stable")].tolist()
    if len(ranked) <= count:
        return ranked
    worst = count // 2
    return ranked[: count - worst] + ranked[len(ranked) - worst :]


def _example(
    project: Project,
    test: Dataset,
    row: int,
    detections: Mapping[str, Detections],
    score_threshold: float,
) -> ExamplePicture:
    uri = test.media.uri[row]
    return example_picture(
        PurePosixPath(uri).name,
        read_image(project.media_path(uri)),
        test.take(np.array([row])),
        {arm: _of_picture(found, row) for arm, found in detections.items()},
        score_threshold=score_threshold,
    )


def _of_picture(detections: Detections, row: int) -> Detections:
    own = np.flatnonzero(detections.media_index == row)
    return Detections(
        media_index=np.zeros(len(own), dtype=np.int64),
        category_index=detections.category_index[own],
        boxes_xyxy=detections.boxes_xyxy[own],
        score=detections.score[own],
    )
