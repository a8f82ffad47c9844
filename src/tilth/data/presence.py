"""Which media have a file: one look at the folder entry each, no picture is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tilth.data.problems import LabelReport, Problem
from tilth.data.storage import is_url
from tilth.data.video import split_frame
from tilth.errors import PathEscapeError

__all__ = ["Presence", "find_files"]


@dataclass(frozen=True, kw_only=True)
class Presence:
    """The media whose file cannot be had.

    Attributes:
        missing: positions of those without a file.
        outside: positions of those inside the project by name, but behind a link that leaves it.
    """

    missing: tuple[int, ...]
    outside: tuple[int, ...]

    def problems(self, uris: Sequence[str]) -> tuple[Problem, ...]:
        """Both kinds, with examples."""
        report = LabelReport(where="media")
        report.add("picture that is not there", "kept", [uris[row] for row in self.missing])
        report.add(
            "picture behind a link that leaves the project",
            "kept, but never read: import it by its real folder",
            [uris[row] for row in self.outside],
        )
        return report.problems


def find_files(uris: Sequence[str], media_path: Callable[[str], Path]) -> Presence:
    """Look for the file of every medium; those at a URL are not looked for.

    Args:
        media_path: as `tilth.data.project.Project.media_path`. It is asked once a folder, and for
            links: resolving every path would cost twenty times as much.
    """
    missing, outside = [], []
    folders: dict[str, Path | PathEscapeError] = {}
    for row, uri in enumerate(uris):
        uri = split_frame(uri)[0]
        if is_url(uri):
            continue
        parent, _, name = uri.rpartition("/")
        if parent not in folders:
            folders[parent] = _folder(parent, uri, media_path)
        folder = folders[parent]
        try:
            if isinstance(folder, PathEscapeError):
                raise folder
            entry = os.lstat(f"{folder}/{name}")
            if stat.S_ISLNK(entry.st_mode):
                os.stat(media_path(uri))
        except PathEscapeError:
            outside.append(row)
        except (OSError, ValueError):  # ValueError: a NUL in the name
            missing.append(row)
    return Presence(missing=tuple(missing), outside=tuple(outside))


def _folder(parent: str, uri: str, media_path: Callable[[str], Path]) -> Path | PathEscapeError:
    """The folder of a medium; the error where a link leads out of the project."""
    if uri.startswith("/"):
        return Path(parent or "/")  # outside the project, where links may lead anywhere
    try:
        return media_path(parent or ".")
    except PathEscapeError as error:
        return error
