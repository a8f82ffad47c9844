"""`tilth metrics`: measure every picture and box that is not measured yet."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilth.cli.options import ProjectOption, QuietOption, TaskOption
from tilth.cli.outcome import Outcome, error_document
from tilth.cli.progress import shows_progress
from tilth.cli.project import open_project
from tilth.errors import SettingsError

if TYPE_CHECKING:
    from concurrent.futures import Executor


def command(
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, metavar="N", help="Processes; otherwise one a core."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option("--dask", metavar="ADDRESS", help="A Dask scheduler, instead of processes."),
    ] = None,
    task: TaskOption = "detection",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Measure every picture and box that is not measured yet.

    Each picture is decoded once: its size, colours, brightness, contrast, sharpness, entropy and
    hashes, and the features of its boxes; boxes that a model proposed are measured once they are
    reviewed. Interrupted, the same command goes on where it stopped. Pictures that cannot be read
    are listed and tried again next time.

    \b
    Example:
      tilth metrics
      tilth metrics --workers 8
      tilth metrics --dask tcp://scheduler:8786
    """
    opened = open_project(project)
    from tilth.curate.measure import measure

    with _executor(workers, dask) as executor:
        report = measure(opened, task=task, executor=executor, progress=shows_progress(quiet))
    document = {
        "pictures": report.pictures,
        "boxes": report.boxes,
        "already": report.already,
        "errors": [error_document(error)["error"] for error in report.errors],
    }
    return Outcome(document, lambda: _show(document))


def _executor(workers: int | None, dask: str | None) -> AbstractContextManager[Executor | None]:
    from tilth.curate.executors import dask_executor, process_executor

    if workers is not None and dask is not None:
        raise SettingsError(
            "two places to work",
            expected="--workers or --dask",
            fix="a cluster has its own workers",
        )
    if dask is not None:
        return dask_executor(dask)
    return nullcontext() if workers is None else process_executor(workers)


def _show(document: dict[str, Any]) -> None:
    typer.echo(
        f"measured {document['pictures']} pictures and {document['boxes']} boxes; "
        f"{document['already']} pictures were measured already"
    )
    for error in document["errors"]:
        typer.echo(f"not measured: {error.get('where', '')}: {error['message']}")
