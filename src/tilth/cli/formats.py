"""`tilth formats`: list the label formats that can be read and written."""

from __future__ import annotations

import importlib
from types import ModuleType

from tilth.cli.outcome import Outcome, table
from tilth.errors import SettingsError

__all__ = ["command", "format_module"]


def command() -> Outcome:
    """List the label formats that can be read and written.

    \b
    Example:
      tilth formats
      tilth formats --json
    """
    from tilth.data.formats import FORMATS

    rows = []
    for name in FORMATS:
        module = format_module(name)
        summary = (module.__doc__ or "").strip().splitlines()[0]
        rows.append((name, hasattr(module, "read"), hasattr(module, "write"), summary))
    document = {
        "formats": [
            dict(zip(("name", "read", "write", "summary"), row, strict=True)) for row in rows
        ]
    }
    shown = [(name, _yes(read), _yes(write), summary) for name, read, write, summary in rows]
    return Outcome(document, lambda: table(("format", "read", "write", "what it is"), shown))


def format_module(name: str) -> ModuleType:
    """The module that reads and writes the format.

    Raises:
        SettingsError: no format of that name.
    """
    from tilth.data.formats import FORMATS

    if name not in FORMATS:
        raise SettingsError(
            "unknown label format", expected=", ".join(FORMATS), got=name, fix="see 'tilth formats'"
        )
    return importlib.import_module(FORMATS[name])


def _yes(can: bool) -> str:
    return "yes" if can else "-"
