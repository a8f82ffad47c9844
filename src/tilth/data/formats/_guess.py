"""Which format a file or folder is in, from a cheap look at it."""

from __future__ import annotations

from pathlib import Path

from tilth.data.formats import FORMATS, load_format
from tilth.errors import LabelError, SettingsError

__all__ = ["guess_format"]


def guess_format(path: Path) -> str:
    """The name of the one format that recognises ``path``.

    Raises:
        LabelError: nothing is there.
        SettingsError: no format recognises it, or several do.
    """
    if not path.exists():
        raise LabelError("no such file or folder of labels", where=str(path), fix="check its name")
    found = [name for name in FORMATS if load_format(name).recognises(path)]
    if len(found) == 1:
        return found[0]
    raise SettingsError(
        "the label format is not clear" if found else "no label format recognises this",
        where=str(path),
        expected=f"one of {', '.join(found or FORMATS)}",
        fix=f"say which: --format {found[0] if found else 'NAME'}",
    )
