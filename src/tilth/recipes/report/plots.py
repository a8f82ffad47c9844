"""The figures of the arms: AP50 of every seed, and precision against recall.

Drawn by hand, because text stays text and the style sheet decides the colours. An arm keeps its
colour and its shape in all figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tilth.recipes.experiment import Arm, Spread
from tilth.recipes.report.svg import Frame, marker, polyline, tag, ticks

__all__ = [
    "arm_dots",
    "arm_style",
    "mean_mark",
    "percent",
    "precision_recall",
    "precision_recall_panel",
    "range_line",
]

NUM_ARM_COLOURS = 6  # the style sheet's; further arms share colours but keep their labels
RECALL = np.linspace(0.0, 1.0, 101)
WIDTH = 460.0  # drawing units; about the pixels of half a page, or of a telephone held upright


def arm_style(row: int) -> str:
    """The class that gives the arm in this row of the table its colour."""
    return f"arm-{row % NUM_ARM_COLOURS}"


def arm_dots(arms: Sequence[Arm]) -> Markup:
    """AP50 of each seed, and the mean, one row an arm."""
    values = [s.ap50 for arm in arms for s in arm.scores if s.ap50 is not None]
    edges = ticks(min(values), max(values)) if values else [0.0, 1.0]
    frame = Frame(
        width=WIDTH,
        height=64.0 + 44.0 * len(arms),
        left=16,
        right=16,
        top=8,
        bottom=42,
        x_range=(edges[0], edges[-1]),
    )
    decimals = 0 if edges[1] - edges[0] > 0.0099 else 1  # so that no two lines say the same
    parts = [frame.x_axis(edges, lambda at: percent(at, decimals), "mAP50, % (held-out pictures)")]
    for row, arm in enumerate(arms):
        y = 44.0 + 44.0 * row
        parts.append(tag("text", arm.label, class_="label", x=16.0, y=y - 15))
        parts.append(range_line(frame, arm.ap50, y, arm_style(row)))
        for score in arm.scores:
            if score.ap50 is not None:
                tip = f"{arm.label}, seed {score.seed}: {percent(score.ap50, 1)} %"
                parts.append(_seed_dot(frame, row, y, score.ap50, tip))
        if arm.ap50.mean is not None:
            parts.append(mean_mark(frame, row, y, arm.ap50, arm.label))
    return frame.drawing(*parts, label="mAP50 of each arm, one dot a seed")


def precision_recall(arms: Sequence[Arm]) -> Markup:
    """The mean curves of all arms in one frame."""
    frame = _curve_frame(WIDTH, 380.0)
    parts = [
        frame.x_axis(ticks(0, 1), percent, "Recall, % of labelled boxes found"),
        frame.y_axis(ticks(0, 1), percent, "Precision, % of detections that are right"),
    ]
    for row, arm in enumerate(arms):
        curve = _curves(arm)
        if curve is not None:
            parts.append(_line(frame, curve[0], row, arm.label))
    return frame.drawing(*parts, label="Precision against recall, mean over seeds, all arms")


def precision_recall_panel(arms: Sequence[Arm], row: int) -> Markup:
    """One arm's mean curve with the range of its seeds, the others behind it in grey."""
    frame = _curve_frame(240.0, 210.0)
    halves = [0.0, 0.5, 1.0]
    parts = [
        frame.x_axis(halves, percent, "Recall, %"),
        frame.y_axis(halves, percent, "Precision, %"),
    ]
    for other, arm in enumerate(arms):
        curve = _curves(arm) if other != row else None
        if curve is not None:
            points = _points(frame, curve[0])
            parts.append(tag("path", class_="ghost", d=polyline(points), title=arm.label))
    curve = _curves(arms[row])
    if curve is None:
        parts.append(tag("text", "no curve", class_="tick middle", x=frame.x(0.5), y=frame.y(0.5)))
    else:
        mean, low, high = curve
        outline = _points(frame, high) + _points(frame, low)[::-1]
        colour = arm_style(row)
        parts.append(tag("path", class_=f"band {colour}", d=polyline(outline) + "Z"))
        parts.append(_line(frame, mean, row, arms[row].label))
    return frame.drawing(*parts, label=f"Precision against recall of {arms[row].label}")


def _curve_frame(width: float, height: float) -> Frame:
    return Frame(
        width=width,
        height=height,
        left=34,
        right=12,
        top=30,
        bottom=42,
        x_range=(0, 1),
        y_range=(0, 1),
    )


def _curves(arm: Arm) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Mean, lowest and highest precision at each of `RECALL`, or None without a curve."""
    curves = []
    for score in arm.scores:
        pairs = [
            (r, p)
            for r, p in zip(score.recall, score.precision, strict=True)
            if r is not None and p is not None
        ]
        if pairs:
            recall, precision = np.array(pairs).T
            # Beyond the last recall that was reached nothing was found: precision counts as 0.
            curves.append(np.interp(RECALL, recall, precision, right=0.0))
    if not curves:
        return None
    stack = np.stack(curves)
    return stack.mean(axis=0), stack.min(axis=0), stack.max(axis=0)


def _points(frame: Frame, curve: NDArray[Any]) -> list[tuple[float, float]]:
    return [(frame.x(r), frame.y(p)) for r, p in zip(RECALL.tolist(), curve.tolist(), strict=True)]


def _line(frame: Frame, curve: NDArray[Any], row: int, label: str) -> Markup:
    style = f"curve {arm_style(row)}"
    area = float(curve.mean())
    tip = f"{label}: mean precision {percent(area)} %"
    return tag("path", class_=style, d=polyline(_points(frame, curve)), title=tip)


def range_line(frame: Frame, spread: Spread, y: float, style: str) -> Markup:
    """A line from the lowest to the highest seed."""
    if spread.low is None or spread.high is None:
        return Markup("")
    points = [(frame.x(spread.low), y), (frame.x(spread.high), y)]
    return tag("path", class_=f"range {style}", d=polyline(points))


def _seed_dot(frame: Frame, row: int, y: float, value: float, tip: str) -> Markup:
    style = f"seed {arm_style(row)}"
    return tag("circle", class_=style, cx=frame.x(value), cy=y, r=3.2, title=tip)


def mean_mark(
    frame: Frame, row: int, y: float, spread: Spread, label: str, *, radius: float = 6.5
) -> Markup:
    """The mean of the seeds in the arm's colour and shape; ``spread`` must have been measured."""
    assert spread.mean is not None
    assert spread.low is not None
    assert spread.high is not None
    low, high = percent(spread.low, 1), percent(spread.high, 1)
    tip = f"{label}: mean {percent(spread.mean, 1)} %, {low} to {high}, seeds: {spread.runs}"
    shape = marker(row, frame.x(spread.mean), y, radius)
    return tag("path", class_=f"mean {arm_style(row)}", d=shape, title=tip)


def percent(value: float, decimals: int = 0) -> str:
    """A fraction in per cent, without the sign."""
    return f"{100 * value:.{decimals}f}"
