"""A progress bar with loss, speed and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["training_bar"]

Show = Callable[[int, float], None]


@contextmanager
def training_bar(done: int, steps: int, *, visible: bool) -> Iterator[Show]:
    """Yields ``show(step, loss)``; writes to standard error, so that output can be piped.

    A run that is already ``done`` shows nothing.
    """
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4g}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=Console(stderr=True), disable=not visible or done >= steps
    ) as bar:
        task = bar.add_task("training", total=steps, completed=done, loss=float("nan"))

        def show(step: int, loss: float) -> None:
            bar.update(task, completed=step, loss=loss)

        yield show
