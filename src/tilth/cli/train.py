"""`tilth train`: train a detector, or run the whole experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.experiment import experiment_outcome
from tilth.cli.options import (
    OverridesOption,
    ProjectOption,
    QuietOption,
)
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import shows_progress
from tilth.cli.project import find_project
from tilth.config import read_toml
from tilth.errors import SettingsError


def command(
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="The folder in runs/.  [default: detector, or experiment]",
        ),
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="Settings in TOML.")
    ] = None,
    overrides: OverridesOption = None,
    plans: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="PLAN",
            help="Train on the pictures of this rebalancing plan too; repeatable.",
        ),
    ] = None,
    experiment: Annotated[
        bool,
        typer.Option("--experiment", help="Run every arm and seed, and write the report."),
    ] = False,
    extend: Annotated[
        bool,
        typer.Option("--extend", help="Go on with a run for more steps or epochs than it had."),
    ] = False,
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Train a detector, or run the whole experiment.

    It learns from the original pictures of the train split, and from those that the plans named by
    --with have made ('tilth rebalance'). The run's folder keeps the settings, the digest of the
    data, checkpoints and the log of every step. The same command after an interruption goes on from
    the last checkpoint, and one with --extend trains longer than the run was meant to. On several
    GPUs or machines, 'torchrun -m tilth train' starts it. With --experiment the detector is trained
    on the raw, the randomly augmented and the rebalanced pictures, each scored on the same held-out
    ones, and the report is written.

    \b
    Example:
      tilth train --name first --set train.steps=500
      tilth train --name second --with rebalanced
      tilth train --experiment --settings detect.toml
    """
    root = find_project(project)
    values = read_toml(settings_file) if settings_file is not None else {}
    settings = lazy.attribute("tilth.recipes.detect_settings:settings")(values, overrides or [])
    progress = shows_progress(quiet)
    if experiment:
        if plans:
            raise SettingsError(
                "an experiment makes the pictures of its arms itself",
                got=f"--with {plans[0]}",
                fix="leave out --with",
            )
        if extend:
            raise SettingsError(
                "the arms of an experiment are compared after the steps that they began with",
                got="--extend",
                fix="give the longer experiment a name of its own",
            )
        name = name or "experiment"
        result = lazy.attribute("tilth.recipes.detect:experiment")(
            root, settings=settings, name=name, progress=progress
        )
        return experiment_outcome(result, root / "runs" / name)
    trained: dict[str, Any] = lazy.attribute("tilth.recipes.detector_runs:train")(
        root,
        settings=settings,
        name=name or "detector",
        plans=plans or (),
        progress=progress,
        extend=extend,
    )
    return Outcome(trained, lambda: table(("", "value"), list(trained.items())))
