"""Names of runs: each is one folder in ``runs/``, and one data set version."""

from __future__ import annotations

import re
from pathlib import Path

from tilth.data.project import Project
from tilth.errors import SettingsError

__all__ = ["existing_run", "new_run"]

# Begins with no dot: such folders are hidden, and ".." is another one.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def new_run(project: Project, name: str) -> Path:
    """The folder of a run that is to be made, or gone on with.

    Raises:
        SettingsError: the name has other than letters, digits, ".", "-" and "_".
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            "this cannot be the name of a run",
            expected='letters, digits, ".", "-" and "_", the first no "." and no "-"',
            got=repr(name),
        )
    return project.runs / name


def existing_run(project: Project, name: str) -> Path:
    """The folder of a run that was made; that of an experiment's arm is ``experiment/raw-seed0``.

    Raises:
        SettingsError: the name leads out of ``runs/``.
    """
    folder = (project.runs / name).resolve()
    if not folder.is_relative_to(project.runs.resolve()) or folder == project.runs.resolve():
        raise SettingsError(
            "a run's name stays inside runs/", expected="a plain name such as 'first'", got=name
        )
    return folder
