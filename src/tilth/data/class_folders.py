"""A folder for each class: the listing that text and picture data sets share.

The order is that of Keras' `index_directory`: classes by name, files by their path within a class,
folder by folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilth.errors import EmptyDatasetError, SettingsError

__all__ = ["list_class_folders"]


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
        class_names: the order of the classes, all of them; otherwise sorted by name.
        follow_links: whether folders behind symbolic links are entered.

    Returns:
        Files, class indices int64 [n], names of the classes.

    Raises:
        SettingsError: ``class_names`` are not the folders that are there.
        EmptyDatasetError: no folder, or no file in any of them.
    """
    found = sorted(
        entry.name
        for entry in _entries(root)
        if entry.is_dir(follow_symlinks=True) and not entry.name.startswith(".")
    )
    if class_names is not None and set(class_names) != set(found):
        raise SettingsError(
            "the class names are not the folders that are there",
            where=str(root),
            expected=", ".join(found) or "folders",
            got=", ".join(class_names),
        )
    names = tuple(found if class_names is None else class_names)
    files: list[Path] = []
    counts = []
    for name in names:
        own = list(_files(root / name, extensions, follow_links))
        files += own
        counts.append(len(own))
    if not files:
        raise EmptyDatasetError(
            "no files in class folders",
            where=str(root),
            expected=f"a folder a class, with files that end in {', '.join(sorted(extensions))}",
        )
    return files, np.repeat(np.arange(len(names), dtype=np.int64), counts), names


def _entries(root: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root) as entries:
            return list(entries)
    except OSError as error:
        raise EmptyDatasetError(
            "the folder cannot be read", where=str(root), got=error.strerror
        ) from error


def _files(folder: Path, extensions: Collection[str], follow_links: bool) -> list[Path]:
    found = []
    for parent, folders, names in sorted(os.walk(folder, followlinks=follow_links)):
        folders.sort()
        found += [
            Path(parent, name)
            for name in sorted(names)
            if os.path.splitext(name)[1].lower() in extensions
        ]
    return found
