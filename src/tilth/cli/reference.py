"""The page `docs/reference/cli.md`, made of the commands' own help.

Run ``python -m tilth.cli.reference`` after a change of any help; a test holds the page to it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from tilth.cli.app import VERBS, VerbGroup, app
from tilth.errors import TilthError

__all__ = ["exit_codes", "page", "verb_helps"]

PAGE = Path("docs/reference/cli.md")
WIDTH = 88

INTRODUCTION = """\
# The command `tilth`

Written by `python -m tilth.cli.reference` from the commands' help; do not edit.

A verb works on the project in the nearest parent folder that holds `tilth.toml`, or on the one
that `--project` names. With `--json` standard output is one JSON document and nothing else: the
result, or `{"error": {"kind", "exit_code", "message", "where", "expected", "got", "fix"}}` with
the parts that are known. Messages and progress bars go to standard error; the bars show on a
terminal only. `TILTH_DEBUG=1` prints the traceback of an unexpected error.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## Exit codes\n", "| code | meaning |", "|---|---|"]
    parts += [f"| {code} | {meaning} |" for code, meaning in exit_codes().items()]
    for title, text in verb_helps():
        parts += [f"\n## {title}\n", f"```text\n{text}\n```"]
    return "\n".join(parts) + "\n"


def exit_codes() -> dict[int, str]:
    """Exit code -> what it means, from the tree of errors."""
    meanings = {0: "done"}
    kinds: list[type[TilthError]] = [TilthError, *_descendants(TilthError)]
    # Those that everybody meets; rooms that happen to be loaded have kinds of their own.
    kinds = [kind for kind in kinds if kind.__module__ == TilthError.__module__]
    for code in sorted({kind.exit_code for kind in kinds}):
        same = [kind for kind in kinds if kind.exit_code == code]
        names = ", ".join(f"`{kind.__name__}`" for kind in same)
        meanings[code] = f"{names}: {_first_line(same[0])}"
    meanings[1] = "an unexpected error, or one that has no code of its own"
    meanings[130] = "interrupted with Ctrl-C; finished work is kept"
    return meanings


def verb_helps() -> Iterator[tuple[str, str]]:
    """Title and help of `tilth` and of every verb."""
    group: VerbGroup = typer.main.get_command(app)  # type: ignore[assignment]
    yield from _helps(group, "tilth")
    context = _context(group, "tilth")
    for name in VERBS:
        yield from _helps(group.get_command(context, name), f"tilth {name}")


def _helps(command: Any, path: str) -> Iterator[tuple[str, str]]:
    lines = command.get_help(_context(command, path)).splitlines()
    yield path, "\n".join(line.rstrip() for line in lines)
    for name, inner in getattr(command, "commands", {}).items():
        yield from _helps(inner, f"{path} {name}")


def _context(command: Any, path: str) -> Any:
    return typer.Context(command, info_name=path, terminal_width=WIDTH)


def _descendants(kind: type[TilthError]) -> list[type[TilthError]]:
    children = kind.__subclasses__()
    return [*children, *(inner for child in children for inner in _descendants(child))]


def _first_line(kind: type) -> str:
    text = (kind.__doc__ or "").strip().splitlines()[0].replace("``", "`")
    return text[0].lower() + text[1:]


def main(target: Path = PAGE) -> None:
    """Write the page."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_text(page(), encoding="utf-8")
    os.replace(part, target)
    print(f"wrote {target}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
