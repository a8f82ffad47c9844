"""Progress bars: on standard error, on a terminal only, and never under ``--quiet``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

__all__ = ["progress_bar", "shows_progress", "spinner"]


def shows_progress(quiet: bool) -> bool:
    """A bar belongs on a terminal only; in a log file it is a thousand lines."""
    return not quiet and sys.stderr.isatty()


@contextmanager
def progress_bar(
    description: str, total: int, *, quiet: bool
) -> Iterator[Callable[[int], object] | None]:
    """A bar for rooms that report by a callback; gives the callback, None where nothing shows."""
    if not shows_progress(quiet):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task(description, total=total)
        yield lambda rows: progress.advance(line, rows)


def spinner(description: str, *, quiet: bool) -> AbstractContextManager[Any]:
    """For one long step whose end cannot be told."""
    if not shows_progress(quiet):
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(description)
