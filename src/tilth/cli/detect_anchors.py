"""`tilth detect anchors`: fit a detector's anchors to the boxes of the project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth import lazy
from tilth.cli.options import (
    OverridesOption,
    ProjectOption,
    QuietOption,
    SeedOption,
)
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import spinner
from tilth.cli.project import find_project
from tilth.config import read_toml


def command(
    settings_file: Annotated[
        Path | None,
        typer.Option("--settings", metavar="FILE", help="A TOML file, its [model] is fitted."),
    ] = None,
    overrides: OverridesOption = None,
    cfg: Annotated[
        Path | None,
        typer.Option("--cfg", metavar="FILE", help="Fit the heads of this network file instead."),
    ] = None,
    k: Annotated[
        int, typer.Option("--k", min=0, help="How many; 0: as many as the network has.")
    ] = 0,
    resize: Annotated[
        Literal["letterbox", "stretch"] | None,
        typer.Option("--resize", help="How pictures come into the network."),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test", "all"], typer.Option("--split", help="Boxes to fit to.")
    ] = "train",
    restarts: Annotated[
        int, typer.Option("--restarts", min=1, help="Starts, of which the best is kept.")
    ] = 10,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write a TOML, or with --cfg a .cfg."),
    ] = None,
    seed: SeedOption = 0,
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Fit a detector's anchors to the boxes of the project.

    k-means on the overlap of widths and heights, in pixels of the network's input. Beside the
    fitted anchors stand those that the network has now. The best possible recall is the share of
    boxes with an anchor whose sides differ by less than four times. What --output writes goes to
    training with 'tilth detect train --settings FILE'.

    \b
    Example:
      tilth detect anchors --set model.size=416 --output anchors.toml
      tilth detect anchors --cfg yolov4-tiny.cfg --resize stretch --output own.cfg
    """
    root = find_project(project)
    values = read_toml(settings_file) if settings_file is not None else {}
    settings = lazy.attribute("tilth.recipes.detect_settings:settings")(values, overrides or [])
    with spinner("fitting anchors", quiet=quiet):
        document: dict[str, Any] = lazy.attribute("tilth.recipes.detector_anchors:fit")(
            root,
            settings.model,
            cfg=cfg,
            k=k,
            resize=resize,
            split=split,
            restarts=restarts,
            seed=seed,
            output=output,
        )
    return Outcome(document, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    rows = [
        (name, fit["mean_best_iou"], fit["best_possible_recall"], len(fit["anchors"]))
        for name, fit in (("now", document["now"]), ("fitted", document["fitted"]))
    ]
    typer.echo(
        f"{document['boxes']} boxes of {document['pictures']} pictures at {document['size']} "
        f"pixels, {document['resize']}"
    )
    table(("anchors", "mean best IoU", "best possible recall", "number"), rows)
    fitted = document["fitted"]
    table(
        ("width", "height", "boxes", "mean IoU"),
        [
            (*anchor, count, iou)
            for anchor, count, iou in zip(
                fitted["anchors"], fitted["counts"], fitted["mean_iou"], strict=True
            )
        ],
    )
    if document["output"]:
        typer.echo(f"written to {document['output']}")
    else:
        pairs = ", ".join(f"[{width:g}, {height:g}]" for width, height in fitted["anchors"])
        typer.echo(f"model.anchors = [{pairs}]")
