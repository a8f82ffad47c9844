"""A progress bar over rows, for what takes long with millions of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["row_bar"]


@contextmanager
def row_bar(what: str, total: int | None, *, visible: bool) -> Iterator[Callable[[int], None]]:
    """Yields ``advance(rows)``; on a terminal's standard error only.

    Args:
        total: None where the number of rows is not known.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    shown = visible and console.is_terminal
    with Progress(*columns, console=console, disable=not shown, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda rows: bar.advance(task, rows)
