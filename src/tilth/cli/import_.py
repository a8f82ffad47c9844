"""`tilth import`: bring labelled pictures into the catalogue."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth.cli.options import ProjectOption, QuietOption, TaskOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.problems import problem_documents, show_problems
from tilth.cli.progress import progress_bar, spinner
from tilth.cli.project import open_project
from tilth.errors import SettingsError


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
    origin: Annotated[
        str | None,
        typer.Option(
            "--origin",
            metavar="NAME",
            help="The source of these labels; otherwise the file's name.",
        ),
    ] = None,
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

    The pictures stay where they are. Importing the same file twice changes nothing; what was
    reviewed or edited here is never overwritten. Labels that another origin has already are
    refused, unless --origin is given. Problems are counted and listed.

    \b
    Example:
      tilth import labels.json --format coco --images photos
      tilth import labels.json --strict --verify
    """
    opened = open_project(project)
    if images is not None and not images.is_dir():
        raise SettingsError(
            "the folder of the pictures is not there",
            where=f"--images {images}",
            fix="check its spelling",
        )
    from tilth.data.formats import load_format

    reader = load_format(format_name)
    with spinner(f"reading {source.name}", quiet=quiet):
        dataset, read = reader.read(source, media_root=images, on_unknown=on_unknown)
    if strict:
        read.raise_if_any()
    with progress_bar("importing", len(dataset.annotations), quiet=quiet) as advance:
        report = opened.import_dataset(
            dataset,
            task=task,
            origin=origin or source.stem,
            allow_duplicates=origin is not None,
            verify=verify,
            advance=advance,
        )
    document = {"source": source, "format": format_name, **dataclasses.asdict(report)}
    document["problems"] = problem_documents((*read.problems, *report.problems))
    document["notes"] = read.notes
    return Outcome(document, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    outcomes = ("added", "updated", "unchanged", "kept")
    rows = [
        (what, *(document.get(f"{what}_{outcome}", "") for outcome in outcomes))
        for what in ("media", "annotations")
    ]
    table(("", *outcomes), rows)
    if absent := document["annotations_absent"]:
        typer.echo(f"no longer in the file: {absent} annotations, kept")
    show_problems(document)
