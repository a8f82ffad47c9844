"""The page of a run that was trained by a metric: was what it believed of the metric true?

One self-contained HTML file in the style of the other reports: no script, nothing loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tilth.recipes.report.line_figure import Curve, line_figure
from tilth.recipes.report.static_page import write_page
from tilth.recipes.report.svg import tag

__all__ = ["alarm_spans", "write_metric_page"]


def write_metric_page(path: Path, document: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        document: of `tilth.recipes.metric_record`.

    Raises:
        StorageError: the disk refused.
    """
    readings = document["readings"]
    parts = [
        tag("h1", "Trained by a metric"),
        tag("p", _lead(document), class_="lead"),
        tag("section", tag("h2", "True and believed"), *_values(readings, document["goal"])),
        tag("section", tag("h2", "Rank correlation"), *_correlation(readings)),
        tag("section", tag("h2", "What the metric has cost"), _cost(document["cost"])),
    ]
    if document["notices"]:
        notices = [tag("li", text) for text in document["notices"]]
        parts.append(tag("section", tag("h2", "Notices"), tag("ul", *notices, class_="notes")))
    write_page(path, "Trained by a metric", *parts)


def alarm_spans(readings: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """From the step of each alarm to that of the next reading, joined where they follow on.

    >>> alarm_spans([{"step": 0, "is_alarm": True}, {"step": 6, "is_alarm": False}])
    [(0.0, 6.0)]
    """
    spans: list[tuple[float, float]] = []
    for place, reading in enumerate(readings):
        if not reading["is_alarm"]:
            continue
        following = readings[min(place + 1, len(readings) - 1)]
        begin, end = float(reading["step"]), float(following["step"])
        if spans and spans[-1][1] == begin:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return spans


def _lead(document: Mapping[str, Any]) -> str:
    good = "lower is better" if document["goal"] == "lower" else "higher is better"
    text = f"{document['metric']} ({good}). "
    if not document["readings"]:
        return text + "No output was compared: the run was over before the second look."
    quality, alarms = document["quality"], document["alarms"]
    if quality is not None:
        text += (
            f"At its first fit the surrogate met {quality['count']} outputs held out with a mean "
            f"error of {quality['mean_error']:.3g}. "
        )
    if document["held_out"] is not None:
        text += f"On rows that nothing was learned from the metric is {document['held_out']:.4g}. "
    looks = len(document["readings"])
    if not alarms:
        return text + f"Surrogate and metric agreed at all {looks} looks."
    return text + f"At {alarms} of {looks} looks they did not agree; these steps are shaded."


def _values(readings: Sequence[Mapping[str, Any]], goal: str) -> list[Markup]:
    hint = "Means over the outputs that were scored last. "
    hint += "A belief that falls while" if goal == "lower" else "A belief that rises while"
    hint += " the truth does not is one that the network exploits."
    drawing = line_figure(
        [Curve(name=name, points=_points(readings, name)) for name in ("true", "believed")],
        x_name="step",
        y_name="metric",
        label="The metric as it was, and as it was believed to be",
        shaded=alarm_spans(readings),
    )
    return [tag("p", hint, class_="hint"), tag("figure", drawing)]


def _correlation(readings: Sequence[Mapping[str, Any]]) -> list[Markup]:
    drawing = line_figure(
        [Curve(name="correlation", points=_points(readings, "rank_correlation"))],
        x_name="step",
        y_name="Spearman's, of belief and truth",
        label="Rank correlation of belief and truth",
        y_range=(-1.0, 1.0),
        shaded=alarm_spans(readings),
    )
    hint = "Of outputs that the surrogate had not learned from. Near 0 it points anywhere."
    return [tag("p", hint, class_="hint"), tag("figure", drawing)]


def _points(readings: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    pairs = [(float(each["step"]), each[name]) for each in readings]
    return [(step, math.nan if value is None else float(value)) for step, value in pairs]


def _cost(cost: Mapping[str, Any]) -> Markup:
    budget = "no limit" if cost["budget"] is None else f"of {cost['budget']:,}"
    where = (
        f"in {cost['workers']} other process{'' if cost['workers'] == 1 else 'es'}, while training "
        "went on"
        if cost["workers"]
        else "within the training process"
    )
    rows = {
        "calls": f"{cost['calls']:,} ({budget})",
        "seconds": f"{cost['seconds']:.1f}",
        "milliseconds a call": f"{1000 * cost['seconds_per_call']:.3g}",
        "share of the training time": f"{cost['share_of_training']:.1%}, {where}",
    }
    cells = [tag("tr", tag("th", name), tag("td", value)) for name, value in rows.items()]
    return tag("table", tag("tbody", *cells))
