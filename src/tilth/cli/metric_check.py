"""`tilth metric check`: whether a metric can be learned, or a learned one be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.metric_options import (
    FeaturesOption,
    GoalOption,
    HighOption,
    LowOption,
    OutputsOption,
    PerOption,
    SetSizeOption,
    metric_settings,
    show_faults,
)
from tilth.cli.options import QuietOption, SeedOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import shows_progress
from tilth.errors import SettingsError, TrainingError

# Of a metric by its name; a surrogate's folder knows them.
OF_METRICS = ("goal", "low", "high", "per", "set_size")


def command(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(metavar="FOLDER|METRIC", help="What 'metric fit' wrote, or a metric."),
    ],
    outputs: OutputsOption,
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="Of a folder: the metric to call.")
    ] = "",
    inputs: FeaturesOption = "",
    calls: Annotated[
        int, typer.Option("--calls", min=2, help="Outputs that the metric judges, at most.")
    ] = 200,
    goal: GoalOption = "lower",
    low: LowOption = None,
    high: HighOption = None,
    per: PerOption = "example",
    set_size: SetSizeOption = 8,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Of a folder: processes that call the metric.")
    ] = 0,
    seed: SeedOption = 0,
    quiet: QuietOption = False,
) -> Outcome:
    """Whether a metric can be learned, or a learned one be trusted.

    Of a folder: how well the surrogate predicts the true metric on these outputs, and whether it
    believes in better values than there are. Outputs of the network that it has taught show whether
    that has found its errors. Of a metric: does it raise, give no number, or always the same; does
    it repeat; does it move when predictions change a little; what does a call take. Exit code 8
    where it is not usable.

    \b
    Example:
      tilth metric check scores.py:hausdorff --outputs outputs.npz --low 0
      tilth metric check hd95 --outputs after.npz --metric scores.py:hausdorff --calls 100
    """
    progress = shows_progress(quiet)
    folder = Path(subject)
    if folder.is_dir():
        _refuse_unread(context)
        found: dict[str, Any] = lazy.attribute("tilth.recipes.metric_verbs:check_surrogate")(
            folder,
            outputs,
            metric=metric,
            inputs=inputs,
            calls=calls,
            workers=workers,
            progress=progress,
        )
        show = _show_surrogate
    else:
        settings = metric_settings(
            metric=subject, goal=goal, low=low, high=high, per=per, set_size=set_size
        )
        from tilth.recipes.metric_outputs import read_outputs
        from tilth.recipes.metric_trial import try_metric

        found = try_metric(
            settings, read_outputs(outputs), calls=calls, seed=seed, progress=progress
        )
        show = _show_metric
    code = TrainingError.exit_code if found["faults"] else 0
    return Outcome(found, lambda: show(found), exit_code=code)


def _refuse_unread(context: typer.Context) -> None:
    for name in OF_METRICS:
        source = context.get_parameter_source(name)
        if source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP"):
            option = "--" + name.replace("_", "-")
            raise SettingsError(
                f"a surrogate's folder knows its metric and does not read {option}",
                fix=f"leave out {option}",
            )


def _show_surrogate(found: dict[str, Any]) -> None:
    names = {
        "rank_correlation": "rank correlation",
        "mean_error": "mean error",
        "r2": "R2",
        "bias": "bias",
        "count": "outputs",
    }
    at_fit = found["at_its_fit"] or {}
    rows = [(says, found["quality"][name], at_fit.get(name)) for name, says in names.items()]
    table(("", "here", "at its fit"), rows)
    show_faults(found)
    if not found["faults"]:
        typer.echo("usable: it orders these outputs as the metric does")


def _show_metric(found: dict[str, Any]) -> None:
    values = found["values"]
    rows = [("outputs", found["outputs"])]
    rows += [(name, values[name]) for name in ("lowest", "mean", "highest") if name in values]
    rows += [(f"moved by {size} of a deviation", f"{share:.0%}") for size, share in _moved(found)]
    rows += [("repeats", "yes" if found["repeats"] else "no")]
    rows += [("ms a call", found["milliseconds_a_call"])]
    table(("", "value"), rows)
    show_faults(found)
    if not found["faults"]:
        typer.echo("usable: tilth metric fit learns it")


def _moved(found: dict[str, Any]) -> list[tuple[str, float]]:
    return list(found["answers_change"].items())
