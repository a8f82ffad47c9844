"""`tilth evaluate`: score a trained detector on one split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from tilth import lazy
from tilth.cli.options import ProjectOption, QuietOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import shows_progress
from tilth.cli.project import find_project


def command(
    run: Annotated[
        str, typer.Option("--run", metavar="NAME", help="A folder of the project's runs/.")
    ] = "detector",
    split: Annotated[
        Literal["train", "val", "test"], typer.Option("--split", help="Pictures to score on.")
    ] = "test",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Score a trained detector on one split.

    Average precision by the COCO protocol (0 to 1, higher is better): for all classes together
    with a 95 % interval from resampling the pictures, for each class, and for each cluster of
    boxes where there are clusters. With --json also the precision-recall curve. Only original
    pictures are scored; on another split than train, none that the run was trained on.

    \b
    Example:
      tilth evaluate --run first --split test
    """
    root = find_project(project)
    scores: dict[str, Any] = lazy.attribute("tilth.recipes.detector_runs:evaluate")(
        root, run=run, split=split, progress=shows_progress(quiet)
    )
    return Outcome(scores, lambda: _show(scores))


def _show(scores: dict[str, Any]) -> None:
    seen = f"{scores['pictures']} pictures, {scores['boxes']} boxes"
    title = f"run '{scores['run']}' on split {scores['split']}: {seen}"
    overall = [
        ("AP", scores["ap"], _interval(scores["ap_interval"]), "IoU 0.50 to 0.95"),
        ("AP50", scores["ap50"], _interval(scores["ap50_interval"]), "IoU 0.50"),
        ("AP75", scores["ap75"], "", "IoU 0.75"),
        ("AR", scores["ar"], "", "recall of the best 100 detections a picture"),
    ]
    table(("", "value", "95 % interval", ""), overall, title=title)
    if scores["held_out"] is None:
        typer.echo("The data of this run is not kept here: it may have seen these pictures.")
    by_class = [
        (name, ap, scores["per_class_ap50"][name]) for name, ap in scores["per_class"].items()
    ]
    table(("class", "AP", "AP50"), by_class)
    if scores["per_group"]:
        table(("cluster", "AP50"), list(scores["per_group"].items()))


def _interval(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
