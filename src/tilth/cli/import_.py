"""`tilth import`: bring labelled pictures into the catalogue."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth.cli.formats import format_module
from tilth.cli.options import ProjectOption, QuietOption, TaskOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.project import find_project, open_project, shows_progress
from tilth.cli.verify import verify_media


def command(
    source: Annotated[Path, typer.Argument(help="The label file.")],
    format_name: Annotated[
        str, typer.Option("--format", metavar="NAME", help="See 'tilth formats'.")
    ] = "coco",
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", metavar="FOLDER", help="Where the pictures are; otherwise beside the file."
        ),
    ] = None,
    task: TaskOption = "detection",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first label that is not in order.")
    ] = False,
    on_unknown: Annotated[
        Literal["error", "skip"],
        typer.Option("--on-unknown", help="What to do with a label of an unknown category."),
    ] = "error",
    verify: Annotated[
        bool, typer.Option("--verify", help="Decode every picture now, and keep its hash.")
    ] = False,
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Bring labelled pictures into the catalogue.

    The pictures stay where they are. Importing the same file twice changes nothing.

    \b
    Example:
      tilth import labels.json --format coco --images photos
      tilth import labels.json --strict --verify
    """
    root = find_project(project)
    reader = format_module(format_name)
    dataset, read = reader.read(
        source, media_root=images or source.parent, strict=strict, on_unknown=on_unknown
    )
    opened = open_project(root)
    report = opened.catalogue.import_dataset(dataset, task=task, origin=str(source.resolve()))
    problems = [dataclasses.asdict(problem) for problem in (*read.problems, *report.problems)]
    document = {"source": source, "format": format_name, **dataclasses.asdict(report)}
    document["problems"] = problems
    if verify:
        document["verified"] = verify_media(opened, task, progress=shows_progress(quiet))
    return Outcome(document, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    outcomes = ("added", "updated", "unchanged", "kept")
    rows = [
        (what, *(document.get(f"{what}_{outcome}", "") for outcome in outcomes))
        for what in ("media", "annotations")
    ]
    table(("", *outcomes), rows)
    for problem in document["problems"]:
        places = "; ".join(problem["examples"])
        typer.echo(f"{problem['count']} x {problem['kind']} ({problem['action']}): {places}")
    if "verified" in document:
        typer.echo(f"{document['verified']} pictures decoded and hashed")
