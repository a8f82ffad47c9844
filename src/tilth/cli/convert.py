"""`tilth convert`: labels from one format into another, and what that costs said before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth.cli.label_formats import (
    later,
    local_source,
    names_from,
    read_options,
    source_format,
    write_options,
)
from tilth.cli.options import (
    ImagesOption,
    QuietOption,
    ReadOptionsOption,
    WriteOptionsOption,
)
from tilth.cli.outcome import Outcome
from tilth.cli.problems import problem_documents, show_problems
from tilth.cli.progress import spinner


def command(
    source: Annotated[str, typer.Argument(help="The file or folder of labels, or a URL.")],
    target: Annotated[Path, typer.Argument(help="The file or folder to write.")],
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="See 'tilth formats'.")],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="NAME", help="Otherwise recognised.")
    ] = None,
    images: ImagesOption = None,
    read_option: ReadOptionsOption = None,
    write_option: WriteOptionsOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse, and write nothing, if anything would be lost.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be lost, and write nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that is there already.")
    ] = False,
    on_unknown: Annotated[
        Literal["error", "skip"],
        typer.Option("--on-unknown", help="What to do with a label of an unknown category."),
    ] = "error",
    quiet: QuietOption = False,
) -> Outcome:
    """Turn labels from one format into another.

    No project is needed. What the target cannot hold is said before it is written: a polygon that
    becomes a box, a score or a crowd flag that is lost. With --strict nothing is written then.

    \b
    Example:
      tilth convert labels.json kitti/ --to kitti
      tilth convert Annotations out.json --from pascal --to coco --read-option origin=voc1 --strict
    """
    from tilth.data.formats import load_format

    writer = load_format(to)
    choices = write_options(writer, write_option)
    path = local_source(source)
    name, reader = source_format(from_, path)
    with spinner(f"reading {path.name}", quiet=quiet):
        dataset, read = reader.read(
            path,
            media_root=images,
            on_unknown=on_unknown,
            options=read_options(reader, read_option),
        )
    with spinner(f"fitting to {to}", quiet=quiet):
        fitted, cost = writer.adapt(dataset, options=choices)
    document: dict[str, Any] = {
        "source": path,
        "from": name,
        "target": target,
        "to": to,
        "num_media": cost.num_media,
        "num_annotations": cost.num_annotations,
        "written": False,
        "problems": problem_documents((*read.problems, *cost.problems)),
        "notes": [*read.notes, *cost.notes],
    }
    show_problems(document)
    if strict:
        read.raise_if_any()
        cost.where = f"{to} cannot hold this whole"
        cost.raise_if_any(fix="convert without --strict to accept the loss, or choose a format")
    if not dry_run:
        replace = {"replace": overwrite} if writer.TARGET == "folder" else {}
        with spinner(f"writing {target.name}", quiet=quiet):
            root = images or names_from(fitted.media.uri, path)
            wrote = writer.write(fitted, target, media_root=root, options=choices, **replace)
        late = {
            "problems": problem_documents(later(wrote, cost)),
            "notes": [note for note in wrote.notes if note not in document["notes"]],
        }
        show_problems(late)
        document["written"] = True
        document["problems"] += late["problems"]
        document["notes"] += late["notes"]
    return Outcome(document, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    verb = "->" if document["written"] else "would become"
    typer.echo(
        f"{document['source']} ({document['from']}) {verb} {document['target']} "
        f"({document['to']}): {document['num_media']} pictures, "
        f"{document['num_annotations']} annotations"
    )
