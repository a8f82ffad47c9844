"""Which project a verb works on: the one named, or the nearest one above the working folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tilth.errors import SettingsError

if TYPE_CHECKING:
    from tilth.data.project import Project

__all__ = ["find_project", "open_project"]

MARKER = "tilth.toml"


def find_project(named: Path | None) -> Path:
    """The root folder of the project.

    Raises:
        SettingsError: ``named`` is no project, or no folder from here upwards is one.
    """
    if named is not None:
        if (named / MARKER).is_file():
            return named.resolve()
        raise SettingsError(
            "not a project",
            where=str(named),
            expected=f"a folder that holds {MARKER}",
            fix=f"tilth init {named}",
        )
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / MARKER).is_file():
            return folder
    raise SettingsError(
        "not inside a project",
        where=str(here),
        expected=f"{MARKER} here or in a parent folder",
        fix="tilth init, or name a project with --project FOLDER",
    )


def open_project(named: Path | None) -> Project:
    """Open the project that `find_project` finds."""
    root = find_project(named)
    from tilth.data.project import Project  # a third of a second; a wrong folder need not wait

    return Project.open(root)
