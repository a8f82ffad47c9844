"""`tilth import`: bring labelled pictures into the catalogue."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth.cli.detector_options import class_map
from tilth.cli.label_formats import (
    FormatOption,
    OptionsOption,
    local_source,
    read_options,
    source_format,
)
from tilth.cli.options import ProjectOption, QuietOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.problems import problem_documents, show_problems
from tilth.cli.progress import progress_bar, spinner
from tilth.cli.project import open_project
from tilth.errors import SettingsError

_KINDS = {
    "classification": "CLASSIFICATION",
    "detection": "OBJECT_DETECTION",
    "segmentation": "SEGMENTATION",
    "instance-segmentation": "INSTANCE_SEGMENTATION",
}
_TASKS = {
    "CLASSIFICATION": "classification",
    "OBJECT_DETECTION": "detection",
    "SEGMENTATION": "segmentation",
    "INSTANCE_SEGMENTATION": "detection",  # its boxes serve detection as they are
}
"""The name of a task that was not named, by the kind of its labels."""


def command(
    source: Annotated[str, typer.Argument(help="The file or folder of labels, or a URL.")],
    format_name: FormatOption = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", metavar="FOLDER", help="Where the pictures are; otherwise beside the file."
        ),
    ] = None,
    option: OptionsOption = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="NAME",
            help="The labelling task; otherwise detection, or classification, or segmentation.",
        ),
    ] = None,
    kind: Annotated[
        Literal["classification", "detection", "segmentation", "instance-segmentation"] | None,
        typer.Option("--kind", help="Of a new task; otherwise what its labels are."),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--origin",
            metavar="NAME",
            help="The source of these labels; otherwise the file's name.",
        ),
    ] = None,
    as_preannotation: Annotated[
        bool,
        typer.Option(
            "--as-preannotation", help="A model made these labels: unreviewed, scores kept."
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Labels of this origin become what the file says, reviewed or not."
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first label that is not in order.")
    ] = False,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FILE=HERE",
            help="Another name for a class; two of one name are joined, 'NAME=' is left out.",
        ),
    ] = None,
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
    reviewed or edited here is not overwritten unless --overwrite says so. Labels that another
    origin has already are refused, unless --origin is given. Problems are counted and listed.

    \b
    Example:
      tilth import labels.json --images photos
      tilth import Annotations --format pascal --option origin=voc1 --strict --verify
      tilth import detections.json --as-preannotation --origin yolo
      tilth import label_2 --format kitti --map Van=Car --map DontCare=
    """
    opened = open_project(project)
    if images is not None and not images.is_dir():
        raise SettingsError(
            "the folder of the pictures is not there",
            where=f"--images {images}",
            fix="check its spelling",
        )
    path = local_source(source)
    name, reader = source_format(format_name, path)
    options = read_options(reader, option)
    with spinner(f"reading {path.name}", quiet=quiet):
        dataset, read = reader.read(path, media_root=images, on_unknown=on_unknown, options=options)
    if strict:
        read.raise_if_any()
    from tilth.data.class_renaming import rename_classes
    from tilth.data.importing import task_kind_of
    from tilth.data.preannotation import as_preannotations
    from tilth.data.records import TaskKind

    if classes:
        dataset = rename_classes(dataset, class_map(classes))
    if as_preannotation:
        dataset = as_preannotations(dataset)
    task_kind = task_kind_of(dataset) if kind is None else TaskKind[_KINDS[kind]]
    with progress_bar("importing", len(dataset.annotations), quiet=quiet) as advance:
        report = opened.import_dataset(
            dataset,
            task=task or _TASKS[task_kind.name],
            kind=task_kind,
            origin=origin or path.stem,
            allow_duplicates=origin is not None or as_preannotation,
            overwrite=overwrite,
            verify=verify,
            advance=advance,
        )
    document = {"source": path, "format": name, **dataclasses.asdict(report)}
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
    if removed := document["annotations_removed"]:
        typer.echo(f"no longer in the file: {removed} annotations, deleted")
    show_problems(document)
