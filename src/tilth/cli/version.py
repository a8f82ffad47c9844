"""Create, list and show immutable dataset versions.

A version is a name for the media, labels and splits as they are now. It never changes; its digest
is what a run records, so that any result can be traced to its exact data.

\b
Example:
  tilth version create before-rebalancing
  tilth version list
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilth.cli.options import ProjectOption, QuietOption, TaskOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import spinner
from tilth.cli.project import open_project
from tilth.errors import DataError

if TYPE_CHECKING:
    from tilth.data.catalogue import Version

NameArgument = Annotated[str, typer.Argument(help="The version.")]


def create(
    name: NameArgument,
    task: TaskOption = "detection",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Name the data as it is now.

    \b
    Example:
      tilth version create before-rebalancing
    """
    catalogue = open_project(project).catalogue
    with spinner("hashing every label", quiet=quiet):
        made = catalogue.create_version(name, task)
    return _outcome([made])


def list_(project: ProjectOption = None) -> Outcome:
    """List all versions, oldest first.

    \b
    Example:
      tilth version list --json
    """
    return _outcome(open_project(project).catalogue.versions())


def show(name: NameArgument, project: ProjectOption = None) -> Outcome:
    """Show one version.

    \b
    Example:
      tilth version show before-rebalancing
    """
    versions = open_project(project).catalogue.versions()
    found = [version for version in versions if version.name == name]
    if not found:
        known = ", ".join(version.name for version in versions)
        raise DataError("no such version", expected=known or "none is made yet", got=name)
    return _outcome(found)


command = {"create": create, "list": list_, "show": show}


def _outcome(versions: list[Version]) -> Outcome:
    rows: list[dict[str, Any]] = [
        {
            "name": version.name,
            "digest": version.digest,
            "num_media": version.num_media,
            "num_annotations": version.num_annotations,
            "created": version.created,
        }
        for version in versions
    ]
    columns = ("version", "digest", "pictures", "annotations", "created")
    shown = [[row["name"], row["digest"][:12], *list(row.values())[2:]] for row in rows]
    return Outcome({"versions": rows}, lambda: table(columns, shown))
