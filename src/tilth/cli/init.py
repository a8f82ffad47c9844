"""`tilth init`: make a project in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilth.cli.outcome import Outcome


def command(
    folder: Annotated[Path, typer.Argument(help="Made if it is missing.")] = Path(),
    database: Annotated[
        str | None,
        typer.Option(
            "--database", metavar="URL", help="PostgreSQL for a team; otherwise SQLite in tilth.db."
        ),
    ] = None,
) -> Outcome:
    """Make a project in a folder.

    Writes tilth.toml, the catalogue tilth.db and runs/. A folder that is a project already is
    refused, and left as it is.

    \b
    Example:
      tilth init field
      tilth init field --database postgresql+psycopg://user@host/field
    """
    from tilth.data.project import Project

    project = Project.init(folder, database_url=database)
    document = {"project": project.root}
    return Outcome(document, lambda: typer.echo(f"project in {project.root}"))
