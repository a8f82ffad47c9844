"""`tilth train classify`: train a classifier of texts or pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.options import (
    LabelColumnOption,
    OverridesOption,
    ProjectOption,
    QuietOption,
    TextColumnOption,
)
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import shows_progress
from tilth.cli.project import find_project
from tilth.config import read_toml


def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A table (.csv, .tsv, .jsonl, .parquet), or a folder with a folder of pictures or "
            "of .txt files for each class.",
        ),
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The folder in runs/.")
    ] = "classifier",
    text: TextColumnOption = None,
    label: LabelColumnOption = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="Settings in TOML.")
    ] = None,
    overrides: OverridesOption = None,
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Train a classifier of texts or pictures.

    A fifth of the rows is held out and scored; a tenth of the others chooses the weights that are
    kept. The run's folder gets the classifier, a report with the confusion matrix and calibration,
    and all rows with their predictions. The same command after an interruption goes on from the
    last checkpoint.

    \b
    Example:
      tilth train classify reviews.csv --text body --label stars --name reviews
      tilth train classify photos/ --set train.steps=1000 --set picture.size=96
    """
    root = find_project(project)
    values = read_toml(settings_file) if settings_file is not None else {}
    named = {key: value for key, value in (("text", text), ("label", label)) if value}
    values = {**values, "data": {**values.get("data", {}), **named}}
    settings = lazy.attribute("tilth.recipes.classify_settings:settings")(values, overrides or [])
    trained: dict[str, Any] = lazy.attribute("tilth.recipes.classifier_runs:train")(
        root, data=data, settings=settings, name=name, progress=shows_progress(quiet)
    )
    return Outcome(trained, lambda: _show(trained))


def _show(trained: dict[str, Any]) -> None:
    for notice in trained["notices"]:
        typer.echo(f"note: {notice}", err=True)
    plain = {key: value for key, value in trained.items() if not isinstance(value, dict | list)}
    table(("", "value"), list(plain.items()))
