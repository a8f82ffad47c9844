"""`tilth metric use`: what a model that predicts a metric is worth as a loss."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.metric_options import FeaturesOption
from tilth.cli.outcome import Outcome, table
from tilth.errors import TrainingError

NUMBERS = {"max_error": "largest difference", "r2": "R2", "members": "members"}


def command(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|MODELFILE",
            help="What 'metric fit' wrote; or .onnx, .keras, .skops, .pt2, a SavedModel folder.",
        ),
    ],
    sample: Annotated[
        Path | None,
        typer.Option(
            "--sample",
            metavar="FILE",
            help="An .npz: predictions and targets; of a model file, its inputs.",
        ),
    ] = None,
    inputs: FeaturesOption = "",
) -> Outcome:
    """What a model that predicts a metric is worth as a loss.

    Says which way it is made differentiable, how far that is from the model's own answers (given a
    sample), and whether a gradient reaches its inputs; then prints what puts it into a run. Exit
    code 8 where no gradient comes.

    \b
    Example:
      tilth metric use hd95
      tilth metric use quality.skops --sample features.npz
    """
    if lazy.attribute("tilth.recipes.metric_verbs:is_surrogate")(model):
        found: dict[str, Any] = lazy.attribute("tilth.recipes.metric_verbs:use_surrogate")(
            model, sample, inputs=inputs
        )
    else:
        found = lazy.attribute("tilth.recipes.metric_model:use_model")(model, sample)
    gradient = found["gradient"]
    is_cut = gradient is not None and not gradient["flows"]
    code = TrainingError.exit_code if is_cut else 0
    return Outcome(found, lambda: _show(found), exit_code=code)


def _show(found: dict[str, Any]) -> None:
    rows: list[tuple[str, object]] = [("way", found["way"])]
    rows += [("what", found[name]) for name in ("description", "inputs") if name in found]
    rows += [(says, found[name]) for name, says in NUMBERS.items() if name in found]
    quality = found.get("quality")
    if quality is not None:
        rows += [("rank correlation at its fit", quality["rank_correlation"])]
        rows += [("mean error at its fit", quality["mean_error"])]
    rows += [("gradient", _gradient(found["gradient"]))]
    table(("", "value"), rows)
    typer.echo("for a recipe's settings:\n" if "loss" in found else "in Python:\n")
    typer.echo(found.get("loss") or found["python"])


def _gradient(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return "not tried: --sample says what the inputs are"
    if not facts["flows"]:
        return "none reaches the inputs"
    return f"flows; none for {facts['share_without']:.0%} of {facts['examples']} examples"
