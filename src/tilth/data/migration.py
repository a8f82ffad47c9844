"""Bringing a catalogue to the tables of this release, by the migrations that ship with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tilth.data.schema import HEAD_REVISION
from tilth.errors import CatalogueError

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["alembic_config", "current_revision", "is_known", "upgrade"]

FOLDER = Path(__file__).parent / "migrations"


def current_revision(connection: Connection) -> str | None:
    """The revision that the database is at, or None where there is no catalogue."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return None if row is None else str(row[0])


def upgrade(connection: Connection, *, revision: str = HEAD_REVISION) -> None:
    """Run every migration up to ``revision`` inside the caller's transaction.

    Raises:
        CatalogueError: the catalogue was made by a newer release.
    """
    from alembic import command  # a third of a second; most openings need no migration

    current = current_revision(connection)
    if current is not None and not is_known(current):
        raise CatalogueError(
            "the catalogue was made by a newer release of tilth",
            expected=f"a revision up to {HEAD_REVISION}",
            got=current,
            fix="pip install --upgrade tilth",
        )
    command.upgrade(alembic_config(connection), revision)


def is_known(revision: str) -> bool:
    """Whether this release ships the migration."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(alembic_config(None))
    return any(step.revision == revision for step in script.walk_revisions())


def alembic_config(connection: Connection | None) -> Config:
    """Alembic's settings for the shipped folder and an open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
