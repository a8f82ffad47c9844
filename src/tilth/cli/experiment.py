"""How the verbs `train --experiment`, `report` and `demo` end: the report, and its table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tilth import lazy
from tilth.cli.outcome import Outcome, print_rich

if TYPE_CHECKING:
    from tilth.recipes.experiment import Arm, ExperimentResult

__all__ = ["experiment_outcome"]


def experiment_outcome(result: ExperimentResult, folder: Path) -> Outcome:
    """Write the report of ``result`` into ``folder``, and say what it found."""
    html, json = lazy.attribute("tilth.recipes.report:write_report")(result, folder)
    document = {
        "title": result.title,
        "html": html,
        "json": json,
        "arms": [_arm_document(arm) for arm in result.arms],
    }
    return Outcome(document, lambda: _show(result, html))


def _arm_document(arm: Arm) -> dict[str, Any]:
    """What a script asks first; single seeds, clusters and classes are in the report's JSON."""
    return {
        "arm": arm.name,
        "label": arm.label,
        "protocol": arm.protocol,
        **{name: dataclasses.asdict(getattr(arm, name)) for name in ("ap", "ap50", "ap75")},
    }


def _show(result: ExperimentResult, html: Path) -> None:
    print_rich(lazy.attribute("tilth.recipes.report:results_table")(result))
    typer.echo(f"report: {html}")
