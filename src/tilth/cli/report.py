"""`tilth report`: write an experiment's report again from its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilth import lazy
from tilth.cli.experiment import experiment_outcome
from tilth.cli.options import ProjectOption
from tilth.cli.outcome import Outcome
from tilth.cli.project import find_project
from tilth.errors import DataError

RESULT = "report.json"


def command(
    run: Annotated[
        str, typer.Argument(help="A folder of the project's runs/, a folder, or a JSON file.")
    ] = "experiment",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FOLDER", help="Otherwise beside the JSON.")
    ] = None,
    project: ProjectOption = None,
) -> Outcome:
    """Write an experiment's report again from its JSON.

    Everything the page shows is in the JSON, so the page can be had again without the pictures,
    the checkpoints or the project.

    \b
    Example:
      tilth report experiment
      tilth report report.json --output page
    """
    source = _result_file(run, project)
    result = lazy.attribute("tilth.recipes.experiment:ExperimentResult").from_json(source)
    return experiment_outcome(result, output or source.parent)


def _result_file(run: str, project: Path | None) -> Path:
    named = Path(run)
    if project is None and named.is_file():
        return named
    folder = named if project is None and named.is_dir() else find_project(project) / "runs" / run
    if not (folder / RESULT).is_file():
        raise DataError(
            "no experiment's result here",
            where=str(folder),
            expected=f"a {RESULT}, which 'tilth train --experiment' writes",
        )
    return folder / RESULT
