"""`tilth export`: write the labels to a file in a known format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tilth.cli.formats import format_module
from tilth.cli.options import ProjectOption, TaskOption
from tilth.cli.outcome import Outcome
from tilth.cli.project import open_project


def command(
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    format_name: Annotated[
        str, typer.Option("--format", metavar="NAME", help="See 'tilth formats'.")
    ] = "coco",
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="NAME", help="A version, not the current state."),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option("--split", help="Only this part.")
    ] = None,
    task: TaskOption = "detection",
    project: ProjectOption = None,
) -> Outcome:
    """Write the labels to a file in a known format.

    A file that is there already is replaced whole or not at all.

    \b
    Example:
      tilth export labels.json --format coco --split train
      tilth export labels.json --version before-rebalancing
    """
    from tilth.data.records import Split

    writer = format_module(format_name)
    dataset = open_project(project).catalogue.read(task, version=version)
    if split is not None:
        dataset = dataset.of_split(Split[split.upper()])
    writer.write(dataset, target)
    document = {
        "target": target,
        "format": format_name,
        "num_media": len(dataset.media),
        "num_annotations": len(dataset.annotations),
    }
    text = f"{len(dataset.media)} pictures, {len(dataset.annotations)} annotations -> {target}"
    return Outcome(document, lambda: typer.echo(text))
