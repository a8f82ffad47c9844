"""What the verbs of `tilth metric` share: their options, and the settings that these make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tilth.errors import SettingsError

if TYPE_CHECKING:
    from tilth.losses.metric_settings import MetricSettings

__all__ = [
    "FeaturesOption",
    "GoalOption",
    "HighOption",
    "LowOption",
    "OutputsOption",
    "PerOption",
    "SetSizeOption",
    "metric_settings",
    "show_faults",
]

OutputsOption = Annotated[
    Path,
    typer.Option(
        "--outputs", metavar="FILE", help="An .npz: predictions, targets, and values if known."
    ),
]
GoalOption = Annotated[
    Literal["lower", "higher"], typer.Option("--goal", help="Which values are better.")
]
LowOption = Annotated[float | None, typer.Option("--low", help="No value lies below.")]
HighOption = Annotated[float | None, typer.Option("--high", help="No value lies above.")]
PerOption = Annotated[
    Literal["example", "set"], typer.Option("--per", help="What the metric judges.")
]
FeaturesOption = Annotated[
    str,
    typer.Option(
        "--inputs",
        metavar="NAME",
        help="Of a folder: the function that made its features, where one did.",
    ),
]
SetSizeOption = Annotated[int, typer.Option("--set-size", min=1, help="Examples in a set.")]


def metric_settings(overrides: list[str] | None = None, **values: Any) -> MetricSettings:
    """The settings that options and ``--set network.a=1`` make.

    Raises:
        SettingsError: one that cannot be used, or that only a run has.
    """
    from tilth.config import load_settings
    from tilth.losses.metric_settings import MetricSettings

    for override in overrides or []:
        if not override.strip().startswith("network."):
            raise SettingsError(
                "only the surrogate's network is set here",
                expected="--set network.NAME=VALUE",
                got=override,
                fix="the settings of a run go into its [loss] table",
            )
    return load_settings(MetricSettings, values=values, overrides=overrides or [])


def show_faults(document: dict[str, Any]) -> None:
    """Print what is wrong, and what is worth knowing."""
    for fault in document["faults"]:
        typer.echo(f"not usable: {fault}")
    for warning in document.get("warnings", ()):
        typer.echo(f"note: {warning}")
