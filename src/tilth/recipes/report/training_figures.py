"""The curves of a run: its loss, term by term, and its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tilth.recipes.report.line_figure import Curve, line_figure

__all__ = ["loss_figure", "score_figure"]

# What a run logs beside the terms of its loss; their scale is another one.
_COUNTS = ("num_positives",)


def loss_figure(records: Sequence[Mapping[str, Any]]) -> Markup:
    """The total and its terms over the steps.

    Args:
        records: the lines of ``metrics.jsonl``.
    """
    names = _names(records, "loss", first="total")
    return line_figure(
        [_curve(records, "loss", name) for name in names if name not in _COUNTS],
        x_name="step",
        y_name="loss, mean since the point before",
        label="Loss of the training steps",
    )


def score_figure(records: Sequence[Mapping[str, Any]]) -> Markup:
    """What the evaluations said over the steps; empty axes without one."""
    names = _names(records, "evaluation", first="score")
    return line_figure(
        [_curve(records, "evaluation", name) for name in names],
        x_name="step",
        y_name="score on pictures that were held back",
        label="Scores of the evaluations",
        y_range=(0.0, 1.0),
    )


def _names(records: Sequence[Mapping[str, Any]], kind: str, *, first: str) -> list[str]:
    names = dict.fromkeys(name for record in records for name in record.get(kind, ()))
    return sorted(names, key=lambda name: (name != first, name))


def _curve(records: Sequence[Mapping[str, Any]], kind: str, name: str) -> Curve:
    points = [
        (float(record["step"]), record[kind][name])
        for record in records
        if record.get(kind, {}).get(name) is not None
    ]
    return Curve(name=name, points=points)
