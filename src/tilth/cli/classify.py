"""`tilth classify`: name the class of new texts or pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.options import ProjectOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.project import find_project


def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A table of the same columns, or a folder of pictures."
        ),
    ],
    run: Annotated[
        str,
        typer.Option("--run", metavar="NAME", help="A folder of the project's runs/, or a path."),
    ] = "classifier",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="The rows with their predictions; .csv, .tsv, .jsonl or .parquet.  "
            "[default: DATA's name with -classified]",
        ),
    ] = None,
    project: ProjectOption = None,
) -> Outcome:
    """Name the class of new texts or pictures.

    All columns of the table are kept, and the prediction, its probability and that of every class
    stand beside them. Where the table has the label column, the predictions are scored, too. A run
    that is named by its path needs no project.

    \b
    Example:
      tilth classify unread.csv --run reviews
      tilth classify photos/ --run field/runs/photos --output named.csv --json
    """
    alone = project is None and Path(run).is_dir()
    root = None if alone else find_project(project)
    found: dict[str, Any] = lazy.attribute("tilth.recipes.classifier_runs:classify")(
        root, run=run, data=data, output=output
    )
    return Outcome(found, lambda: _show(found))


def _show(found: dict[str, Any]) -> None:
    counts = found["predictions"]
    table(("class", "rows"), list(counts.items()))
    for key in ("rows_without_prediction", "accuracy", "balanced_accuracy"):
        if found.get(key):
            value = found[key]
            shown = f"{value:.3f}" if isinstance(value, float) else value
            typer.echo(f"{key.replace('_', ' ')}: {shown}")
    typer.echo(f"written to {found['written']}")
