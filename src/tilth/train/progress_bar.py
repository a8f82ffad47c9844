"""A progress bar with loss, speed, wait for data and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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

Show = Callable[[int, float, Mapping[str, float]], None]


@contextmanager
def training_bar(done: int, steps: int, *, visible: bool) -> Iterator[Show]:
    """Yields ``show(step, loss, speed)``; writes to standard error, so that output can be piped.

    ``speed`` is a reading of `Throughput`, or empty between readings. A run that is already
    ``done`` shows nothing.
    """
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4g}"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=Console(stderr=True), disable=not visible or done >= steps
    ) as bar:
        task = bar.add_task("training", total=steps, completed=done, loss=float("nan"), speed="")

        def show(step: int, loss: float, speed: Mapping[str, float]) -> None:
            bar.update(task, completed=step, loss=loss)
            if speed:
                bar.update(task, speed=speed_text(speed))

        yield show


def speed_text(speed: Mapping[str, float]) -> str:
    """A reading in words.

    >>> speed_text({"samples_per_second": 41.7, "data_wait_share": 0.031})
    '41.7/s, 3% waiting for data'
    """
    waiting = f"{100 * speed['data_wait_share']:.0f}% waiting for data"
    return f"{speed['samples_per_second']:.3g}/s, {waiting}"
