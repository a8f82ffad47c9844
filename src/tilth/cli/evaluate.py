"""`tilth evaluate`: score a trained detector on one split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from tilth import lazy
from tilth.cli.options import ProjectOption, QuietOption, RunOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import shows_progress
from tilth.cli.project import find_project


def command(
    run: RunOption = "detector",
    split: Annotated[
        Literal["train", "val", "test"], typer.Option("--split", help="Pictures to score on.")
    ] = "test",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Score a trained detector on one split.

    Average precision by the COCO protocol (0 to 1, higher is better), for all classes together
    and for each.

    \b
    Example:
      tilth evaluate --run first --split test
    """
    root = find_project(project)
    scores: dict[str, Any] = lazy.attribute("tilth.recipes.detector_runs:evaluate")(
        root, run=run, split=split, progress=shows_progress(quiet)
    )
    return Outcome(scores, lambda: table(("", "value"), list(scores.items())))
