"""`tilth metric fit`: learn a metric of outputs, for a run to be taught by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.metric_options import (
    GoalOption,
    HighOption,
    LowOption,
    OutputsOption,
    PerOption,
    SetSizeOption,
    metric_settings,
    show_faults,
)
from tilth.cli.options import OverridesOption, QuietOption, SeedOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import shows_progress
from tilth.errors import TrainingError


def command(
    metric: Annotated[
        str,
        typer.Argument(
            metavar="METRIC", help="package.module:function or file.py:function; its code is run."
        ),
    ],
    outputs: OutputsOption,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the surrogate goes.")],
    inputs: Annotated[
        str,
        typer.Option(
            "--inputs",
            metavar="KIND",
            help="table, image, mask, sequence, frames, boxes; or module:function for features.",
        ),
    ] = "table",
    goal: GoalOption = "lower",
    low: LowOption = None,
    high: HighOption = None,
    per: PerOption = "example",
    set_size: SetSizeOption = 8,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that call the metric.")
    ] = 0,
    budget: Annotated[
        int, typer.Option("--budget", min=0, help="Calls of it at most; 0 for no limit.")
    ] = 0,
    on_failure: Annotated[
        str, typer.Option("--on-failure", help="Of what it cannot judge: error, skip, worst.")
    ] = "error",
    overrides: OverridesOption = None,
    seed: SeedOption = 0,
    quiet: QuietOption = False,
) -> Outcome:
    """Learn a metric of outputs, for a run to be taught by.

    The metric is called as metric(prediction, target) with NumPy arrays, one example at a time (or
    one set), unless the file has its values. A network learns to predict it; how well it does is
    said of a fifth of the outputs, which it has not seen. Outputs should be such as it will meet:
    of early and late checkpoints, and disturbed. With --budget evenly spread outputs are judged.
    Exit code 8 where the order of outputs is hardly known: the surrogate is written all the same.

    \b
    Example:
      tilth metric fit scores.py:hausdorff --outputs outputs.npz --inputs mask --low 0 --to hd95
      tilth metric fit scores.py:f1 --outputs o.npz --goal higher --per set --set-size 16 --to f1
      tilth metric fit scores.py:wer --outputs o.npz --inputs sequence --workers 2 \\
          --set network.members=5 --to wer
    """
    settings = metric_settings(
        overrides,
        metric=metric,
        inputs=inputs,
        goal=goal,
        low=low,
        high=high,
        per=per,
        set_size=set_size,
        workers=workers,
        calls=budget,
        on_failure=on_failure,
    )
    found: dict[str, Any] = lazy.attribute("tilth.recipes.metric_verbs:fit_surrogate")(
        settings, outputs, to, seed=seed, progress=shows_progress(quiet)
    )
    code = TrainingError.exit_code if found["faults"] else 0
    return Outcome(found, lambda: _show(found), exit_code=code)


def _show(found: dict[str, Any]) -> None:
    quality, cost = found["quality"], found["cost"]
    rows = [
        ("outputs", found["outputs"]),
        ("of them held out", quality["count"]),
        ("rank correlation", quality["rank_correlation"]),
        ("mean error", quality["mean_error"]),
        ("R2", quality["r2"]),
        ("bias", quality["bias"]),
        ("calls of the metric", cost["calls"]),
        ("ms a call", cost["milliseconds_a_call"]),
        ("ms an example of the surrogate", cost["surrogate_milliseconds"]),
    ]
    table(("", "value"), rows)
    show_faults(found)
    typer.echo(f"surrogate: {found['surrogate']}")
    typer.echo("for a recipe's settings:\n")
    typer.echo(found["loss"])
