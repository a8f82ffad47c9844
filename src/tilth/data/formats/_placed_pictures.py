"""Pictures put into the folder of a set, linked or copied: trainers look for them there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tilth.data.problems import LabelReport

__all__ = ["place_pictures"]

_THREADS = 4


def place_pictures(
    uris: Sequence[str], folder: Path, names: Sequence[str], how: str, report: LabelReport
) -> None:
    """Link or copy each picture to its name below a folder.

    Args:
        how: "link" (symbolic, to the absolute path), "copy", or "none" for nothing at all.
        report: takes the pictures that are not there, or no local files.
    """
    if how == "none":
        return
    for parent in sorted({os.path.dirname(name) for name in names}):
        (folder / parent).mkdir(parents=True, exist_ok=True)

    def place(uri: str, name: str) -> bool:
        source, target = Path(uri), folder / name
        if not source.is_file():
            return False
        if how == "link":
            target.symlink_to(source.absolute())
        else:
            shutil.copyfile(source, target)
        return True

    with ThreadPoolExecutor(_THREADS) as pool:
        placed = list(pool.map(place, uris, names))
    missing = [uri for uri, there in zip(uris, placed, strict=True) if not there]
    report.add("picture that is no local file", f"not there to {how}", missing)
