"""`tilth export`: write the labels to a file in a known format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth.cli.label_formats import OptionsOption, later, write_options
from tilth.cli.options import ProjectOption, QuietOption, TaskOption
from tilth.cli.outcome import Outcome
from tilth.cli.problems import problem_documents, show_problems
from tilth.cli.progress import spinner
from tilth.cli.project import open_project


def command(
    target: Annotated[Path, typer.Argument(help="The file or folder to write.")],
    format_name: Annotated[
        str, typer.Option("--format", metavar="NAME", help="See 'tilth formats'.")
    ] = "coco",
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Name pictures in here relative to it."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="NAME", help="A version, not the current state."),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option("--split", help="Only this part.")
    ] = None,
    option: OptionsOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse, and write nothing, if anything would be lost.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that is there already.")
    ] = False,
    task: TaskOption = "detection",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Write the labels to a file or folder in a known format.

    A file that is there already is replaced whole or not at all; a folder is replaced when
    --overwrite says so. What the format cannot hold is listed.

    \b
    Example:
      tilth export labels.json --format coco --split train
      tilth export labels.json --version before-rebalancing
    """
    catalogue = open_project(project).catalogue
    from tilth.data.formats import load_format
    from tilth.data.records import Split

    writer = load_format(format_name)
    options = write_options(writer, option)
    with spinner(f"writing {target.name}", quiet=quiet):
        dataset = catalogue.read(task, version=version)
        if split is not None:
            dataset = dataset.of_split(Split[split.upper()])
        dataset, cost = writer.adapt(dataset, options=options)
        if strict:
            cost.where = f"{format_name} cannot hold this whole"
            cost.raise_if_any(fix="export without --strict to accept the loss")
        replace = {"replace": overwrite} if writer.TARGET == "folder" else {}
        report = writer.write(dataset, target, media_root=images, options=options, **replace)
    document = {
        "target": target,
        "format": format_name,
        "num_media": report.num_media,
        "num_annotations": report.num_annotations,
        "problems": problem_documents((*cost.problems, *later(report, cost))),
        "notes": list(dict.fromkeys((*cost.notes, *report.notes))),
    }
    return Outcome(document, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    typer.echo(
        f"{document['num_media']} pictures, {document['num_annotations']} annotations "
        f"-> {document['target']}"
    )
    show_problems(document)
