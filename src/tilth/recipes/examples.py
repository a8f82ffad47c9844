"""Which held-out pictures the report shows: those where the first and the last arm differ most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.images import read_image
from tilth.data.project import Project
from tilth.recipes.arms import ArmOutcome
from tilth.recipes.detect_settings import ExperimentSettings
from tilth.recipes.example_pictures import example_picture
from tilth.recipes.experiment import ExamplePicture

__all__ = ["choose_examples"]

AFTER = "rebalanced"
BEFORE = "raw"
CANDIDATES = 60  # pictures that are matched to find the telling ones


def choose_examples(
    project: Project,
    data: Dataset,
    outcomes: Sequence[ArmOutcome],
    settings: ExperimentSettings,
) -> list[ExamplePicture]:
    """Held-out pictures with the detections of every arm of the first seed.

    Half of them are those that rebalancing helped most against training on the raw pictures, half
    those that it helped least: a choice of successes alone would mislead.
    """
    first = {
        outcome.job.arm: outcome
        for outcome in reversed(outcomes)
        if not outcome.job.arm.startswith("source-")
    }
    test = data.take(first[BEFORE].job.test_rows)
    shown = [
        _example(project, test, row, first, settings)
        for row in range(min(CANDIDATES, len(test.media)))
        if len(range(*test.rows_of(row).indices(len(test.annotations))))
    ]
    ranked = sorted(shown, key=_gain, reverse=True)
    best = (settings.examples + 1) // 2
    worst = settings.examples - best
    rest = ranked[best:]
    return ranked[:best] + (rest[-worst:] if worst else [])


def _gain(picture: ExamplePicture) -> int:
    """Objects found more, and false alarms fewer, than before."""

    def errors(arm: str) -> int:
        false = [box for box in picture.predictions[arm] if box.state == "false positive"]
        return len(picture.missed[arm]) + len(false)

    return errors(BEFORE) - errors(AFTER)


def _example(
    project: Project,
    test: Dataset,
    row: int,
    outcomes: dict[str, ArmOutcome],
    settings: ExperimentSettings,
) -> ExamplePicture:
    uri, truth = test.media.uri[row], test.rows_of(row)
    return example_picture(
        PurePosixPath(uri).name,
        read_image(project.media_path(uri)),
        test.annotations.boxes_xyxy[truth],
        test.annotations.category_index[truth].tolist(),
        {arm: _of_picture(outcome.detections, row) for arm, outcome in outcomes.items()},
        [category.name for category in test.categories],
        score_threshold=settings.score_threshold,
    )


def _of_picture(detections: Detections, row: int) -> tuple:
    own = detections.media_index == row
    return detections.boxes_xyxy[own], detections.score[own], detections.category_index[own]
