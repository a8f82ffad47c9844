"""What a verb hands back, and the two ways to print it: for people, for machines.

A verb returns an `Outcome` and prints nothing. Under ``--json`` standard output belongs to the one
document: until it is printed, whatever libraries and worker processes print goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tilth.errors import TilthError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "Outcome",
    "error_document",
    "plain_values",
    "print_document",
    "print_rich",
    "reserved_stdout",
    "show_error",
    "table",
]


@dataclass(frozen=True)
class Outcome:
    """The result of a verb.

    Attributes:
        document: plain values, printed under ``--json``.
        show: prints the same for people; called only when it is wanted.
        exit_code: of a verb that did its work and found fault.
    """

    document: dict[str, Any]
    show: Callable[[], None]
    exit_code: int = 0


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Print a table; columns whose cells are all numbers are set to the right."""
    if title:  # rich would fold a title to the width of its table
        typer.secho(title, bold=True)
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in rows)
        grid.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_cell(value)) for value in row))  # Text: names may hold [markup]
    print_rich(grid)


def print_rich(grid: Table) -> None:
    """Print a table of rich on standard output."""
    from rich.console import Console

    # A pipe has no width; 80 columns would fold paths that a script may want to read.
    width = None if sys.stdout.isatty() else 200
    Console(file=sys.stdout, width=width, highlight=False).print(grid)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def print_document(document: dict[str, Any]) -> None:
    """Print one JSON document on standard output; NaN becomes null."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    sys.stdout.write(orjson.dumps(document, default=plain_values, option=options).decode() + "\n")
    sys.stdout.flush()


def plain_values(value: object) -> object:
    """What orjson does not know by itself: paths."""
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def error_document(error: TilthError) -> dict[str, Any]:
    """``{"error": {kind, exit_code, message, ...}}`` with the parts that the error carries."""
    head = {
        "kind": type(error).__name__,
        "exit_code": error.exit_code,
        "message": error.message,
    }
    return {"error": head | error.details()}


def show_error(error: TilthError) -> None:
    """Print an error on standard error, in red where there is a terminal, without a traceback."""
    color = False if os.environ.get("NO_COLOR") else None
    message = typer.style(f"error: {error.message}", fg="red", bold=True)
    typer.echo(message, err=True, color=color)
    for label, value in error.details().items():
        typer.echo(f"  {typer.style(label + ':', fg='red')} {value}", err=True, color=color)


@contextlib.contextmanager
def reserved_stdout(reserved: bool) -> Iterator[None]:
    """Send standard output to standard error while ``reserved``, at both levels that print.

    Python's `print` goes through `sys.stdout`; C++ code and worker processes write to descriptor 1.
    """
    if not reserved:
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 1)
        os.close(saved)
