"""Label formats, one file each. To add one: write the file, add its line to `FORMATS`.

Every module has ``read(path, *, media_root, strict=False, on_unknown="error") -> (Dataset,
LabelReport)`` and ``write(dataset, path, *, media_root=None) -> LabelReport``; either report says
what was found wrong or what the format cannot hold. The first line of a module's docstring is what
`tilth formats` prints.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from tilth.errors import SettingsError

__all__ = ["FORMATS", "load_format"]

FORMATS: dict[str, str] = {
    "coco": "tilth.data.formats.coco",
}


def load_format(name: str) -> ModuleType:
    """The module that reads and writes the format.

    Raises:
        SettingsError: no format of that name.
    """
    if name not in FORMATS:
        raise SettingsError("unknown label format", expected=", ".join(FORMATS), got=name)
    return importlib.import_module(FORMATS[name])
