"""`tilth formats`: list the label formats that can be read and written."""

from __future__ import annotations

from tilth.cli.outcome import Outcome, table


def command() -> Outcome:
    """List the label formats that can be read and written.

    \b
    Example:
      tilth formats
      tilth formats --json
    """
    from tilth.data.formats import FORMATS, load_format

    rows = []
    for name in FORMATS:
        module = load_format(name)
        summary = (module.__doc__ or "").strip().splitlines()[0]
        rows.append((name, hasattr(module, "read"), hasattr(module, "write"), summary))
    document = {
        "formats": [
            dict(zip(("name", "read", "write", "summary"), row, strict=True)) for row in rows
        ]
    }
    shown = [(name, _yes(read), _yes(write), summary) for name, read, write, summary in rows]
    return Outcome(document, lambda: table(("format", "read", "write", "what it is"), shown))


def _yes(can: bool) -> str:
    return "yes" if can else "-"
