"""How the verbs `train --experiment`, `report` and `demo` end: the report, and its table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tilth import lazy
from tilth.cli.outcome import Outcome, table

if TYPE_CHECKING:
    from tilth.recipes.experiment import ExperimentResult

__all__ = ["experiment_outcome"]


def experiment_outcome(result: ExperimentResult, folder: Path) -> Outcome:
    """Write the report of ``result`` into ``folder``, and say what it found."""
    html, json = lazy.attribute("tilth.recipes.report:write_report")(result, folder)
    arms = [
        {
            "arm": arm.name,
            "label": arm.label,
            "protocol": arm.protocol,
            "seeds": arm.ap50.runs,
            "ap": arm.ap.mean,
            "ap50": arm.ap50.mean,
            "ap50_std": arm.ap50.std,
        }
        for arm in result.arms
    ]
    document = {"title": result.title, "html": html, "json": json, "arms": arms}
    return Outcome(document, lambda: _show(result.title, arms, html))


def _show(title: str, arms: list[dict[str, Any]], html: Path) -> None:
    rows = [
        (arm["label"], arm["protocol"], _fraction(arm["ap"]), _spread(arm), arm["seeds"])
        for arm in arms
    ]
    table(("arm", "protocol", "AP", "AP50", "seeds"), rows, title=title)
    typer.echo(f"report: {html}")


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(arm: dict[str, Any]) -> str:
    spread = "" if arm["ap50_std"] is None else f" ± {arm['ap50_std']:.3f}"
    return _fraction(arm["ap50"]) + spread
