"""A folder for each class: the listing that text and picture data sets share.

The order is that of Keras' `index_directory`: classes by name, folders by their path within a
class, files by name within a folder. A file counts if its name ends with one of the suffixes,
whatever their case; a class folder may be a link, and folders that begin with a dot are no class.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.errors import EmptyDatasetError, SettingsError

__all__ = ["list_class_folders", "list_files"]


def list_class_folders(
    root: Path,
    *,
    extensions: Collection[str],
    class_names: Sequence[str] | None = None,
    follow_links: bool = False,
) -> tuple[list[Path], NDArray[np.int64], tuple[str, ...]]:
    """The files of every class folder below ``root``.

    Args:
        extensions: which files count, in lower case and with the dot: ``{".txt"}``.
        class_names: the classes in the order of their numbers, all of the folders or some;
            otherwise all folders sorted by name.
        follow_links: whether folders behind symbolic links are entered, below those of the classes.

    Returns:
        Files, class indices int64 [n], names of the classes.

    Raises:
        SettingsError: one of ``class_names`` is no folder, or is there twice.
        EmptyDatasetError: no folder, or no file in any of them.
    """
    found = sorted(
        entry.name
        for entry in _entries(root)
        if entry.is_dir(follow_symlinks=True) and not entry.name.startswith(".")
    )
    names = tuple(found if class_names is None else class_names)
    if not set(names) <= set(found) or len(set(names)) < len(names):
        raise SettingsError(
            "the class names are not the folders that are there",
            where=str(root),
            expected=", ".join(found) or "folders",
            got=", ".join(names),
        )
    files: list[Path] = []
    counts = []
    for name in names:
        own = list_files(root / name, extensions=extensions, follow_links=follow_links)
        files += own
        counts.append(len(own))
    if not files:
        raise EmptyDatasetError(
            "no files in class folders",
            where=str(root),
            expected=f"a folder a class, with files that end in {', '.join(sorted(extensions))}",
        )
    return files, np.repeat(np.arange(len(names), dtype=np.int64), counts), names


def list_files(
    folder: Path, *, extensions: Collection[str], follow_links: bool = False
) -> list[Path]:
    """The files of a folder and the folders in it, hidden ones too, in the order of the listing."""
    endings = tuple(extensions)
    return [
        Path(parent, name)
        for parent, _, names in sorted(os.walk(folder, followlinks=follow_links))
        for name in sorted(names)
        if name.lower().endswith(endings)
    ]


def _entries(root: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root) as entries:
            return list(entries)
    except OSError as error:
        raise EmptyDatasetError(
            "the folder cannot be read", where=str(root), got=error.strerror
        ) from error
