"""`tilth remove`: take pictures out of the catalogue."""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilth.cli.options import ProjectOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.project import open_project
from tilth.errors import DataError, SettingsError

if TYPE_CHECKING:
    from tilth.data.project import Project


def command(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Pictures by path, as 'tilth export' writes it; * stands for any text."
        ),
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only pictures whose file is not there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would go, and change nothing.")
    ] = False,
    project: ProjectOption = None,
) -> Outcome:
    """Take pictures out of the catalogue.

    Their labels and measurements go with them, in all tasks, and so do the pictures that were made
    from them. The files stay where they are, and versions keep what they hold.

    \b
    Example:
      tilth remove --missing --dry-run
      tilth remove 'photos/blurred/*'
    """
    if pattern is None and not missing:
        raise SettingsError("which pictures?", expected="a pattern, --missing, or both")
    opened = open_project(project)
    import numpy as np

    ids, uris = opened.catalogue.media_uris()
    rows = _matching(uris, pattern)
    if missing:
        rows = _without_file(opened, uris, rows)
    removal = opened.catalogue.remove_media(ids[np.array(rows, dtype=np.int64)], dry_run=dry_run)
    examples = [uris[row] for row in rows[:5]]
    document = {"dry_run": dry_run, **dataclasses.asdict(removal), "examples": examples}
    return Outcome(document, lambda: _show(document))


def _matching(uris: list[str], pattern: str | None) -> list[int]:
    if pattern is None:
        return list(range(len(uris)))
    rows = [row for row, uri in enumerate(uris) if fnmatchcase(uri, pattern)]
    if not rows:
        raise DataError(
            "no picture matches",
            got=pattern,
            expected=f"a path such as {uris[0]}" if uris else "pictures; none are imported",
            fix="* stands for any text: '*/blurred/*'",
        )
    return rows


def _without_file(project: Project, uris: list[str], rows: list[int]) -> list[int]:
    from tilth.data.presence import find_files

    found = find_files([uris[row] for row in rows], project.media_path)
    return [rows[at] for at in found.missing]


def _show(document: dict[str, Any]) -> None:
    title = "would be taken out" if document["dry_run"] else "taken out of the catalogue"
    counts = {
        "pictures": document["media"],
        "pictures made from them": document["derived"],
        "labels": document["annotations"],
        "of these reviewed or edited": document["reviewed"],
    }
    table(("", "count"), list(counts.items()), title=title)
    for uri in document["examples"]:
        typer.echo(f"  {uri}")
    if document["media"] > len(document["examples"]):
        typer.echo("  ...")
