"""`tilth preannotate`: let a detector propose labels for review."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.detector_options import (
    ClassesOption,
    ModelSetOption,
    ModelSettingsOption,
    RunOption,
    SplitOption,
    chosen_detector,
    class_map,
)
from tilth.cli.options import ProjectOption, QuietOption, TaskOption
from tilth.cli.outcome import Outcome, error_document
from tilth.cli.progress import shows_progress
from tilth.cli.project import open_project


def command(
    run: RunOption = None,
    settings_file: ModelSettingsOption = None,
    overrides: ModelSetOption = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Of the proposals.  [default: the run's]")
    ] = "",
    split: SplitOption = "",
    only_unlabelled: Annotated[
        bool, typer.Option("--only-unlabelled", help="Leave out pictures that have a label.")
    ] = False,
    score: Annotated[
        float, typer.Option("--score", min=0.0, max=1.0, help="Propose detections from here up.")
    ] = 0.25,
    iou: Annotated[
        float, typer.Option("--iou", min=0.0, max=1.0, help="Overlap that drops the weaker box.")
    ] = 0.5,
    classes: ClassesOption = None,
    add_classes: Annotated[
        bool, typer.Option("--add-classes", help="Add the classes that are found and not here.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace what it proposed with other weights before."),
    ] = False,
    task: TaskOption = "detection",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Let a detector propose labels for review.

    The detector is a run, or a network with weights from elsewhere (Darknet's files, a folder of
    Hugging Face). Its boxes become labels of source 'model' with their scores, and say which
    weights made them. Labels by hand are never touched, nor is a proposal that somebody accepted,
    corrected or rejected. No run trains on a proposal before it is reviewed. Interrupted, the same
    command goes on where it stopped.

    \b
    Example:
      tilth preannotate --run first --only-unlabelled
      tilth preannotate --set model.variant=darknet --set model.cfg=yolo.cfg
        --set model.weights=yolo.weights --map person=pedestrian --score 0.4
    """
    opened = open_project(project)
    detector = chosen_detector(opened.root, run, settings_file, overrides)
    settings = lazy.attribute("tilth.recipes.preannotate:PreannotateSettings")(
        name=name,
        split=split,
        score=score,
        iou=iou,
        only_unlabelled=only_unlabelled,
        classes=class_map(classes),
        add_classes=add_classes,
        overwrite=overwrite,
    )
    document: dict[str, Any] = lazy.attribute("tilth.recipes.preannotate:preannotate")(
        opened, detector, settings, task=task, progress=shows_progress(quiet)
    )
    document["errors"] = [error_document(error)["error"] for error in document["errors"]]
    return Outcome(document, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    typer.echo(
        f"{document['added']} proposals of '{document['origin']}' in {document['pictures']} "
        f"pictures; {document['already']} pictures were done already"
    )
    pairs = [f"{a} as {b}" if a != b else a for a, b in document["classes"].items()]
    typer.echo(f"classes: {', '.join(pairs)}")
    if unknown := document["unknown_classes"]:
        shown = ", ".join(unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        typer.echo(f"not proposed, the task has no such class: {shown} (--map, --add-classes)")
    if removed := document["removed"]:
        typer.echo(f"{removed} earlier proposals were replaced")
    if answered := document["answered"]:
        typer.echo(f"{answered} left out: a review has answered them")
    if others := document["of_other_weights"]:
        typer.echo(f"{others} pictures have proposals of other weights or settings: --overwrite")
    for error in document["errors"]:
        typer.echo(f"not read: {error.get('where', '')}: {error['message']}")
