"""`tilth demo`: the whole way on pictures that come with the libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilth import lazy
from tilth.cli.experiment import experiment_outcome
from tilth.cli.options import QuietOption, SeedOption
from tilth.cli.outcome import Outcome
from tilth.cli.progress import shows_progress


def command(
    folder: Annotated[Path, typer.Argument(help="The project to make.")] = Path("tilth-demo"),
    seed: SeedOption = 0,
    quiet: QuietOption = False,
) -> Outcome:
    """Run the whole way on pictures that come with the libraries.

    Makes a small detection set that is out of balance on purpose, trains on it raw, randomly
    augmented and rebalanced, and writes the report. Minutes on two cores.

    \b
    Example:
      tilth demo
      tilth demo /tmp/demo --seed 1 --json
    """
    result = lazy.attribute("tilth.recipes.demo:demo")(
        folder, seed=seed, progress=shows_progress(quiet)
    )
    return experiment_outcome(result, folder / "runs" / "demo")
