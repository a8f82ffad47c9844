"""Curves over a common axis, with their names beside their ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tilth.recipes.report.svg import Frame, polyline, tag, ticks

__all__ = ["Curve", "line_figure"]

NUM_COLOURS = 6  # the style sheet's; further curves share them but keep their names
WIDTH, HEIGHT = 560.0, 340.0
NAMES_WIDTH = 128.0
LINE_HEIGHT = 15.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line: points (x, y), of which those that are no numbers are left out."""

    name: str
    points: Sequence[tuple[float, float]]


def line_figure(
    curves: Sequence[Curve],
    *,
    x_name: str,
    y_name: str,
    label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    text: Callable[[float], str] = "{:g}".format,
    shaded: Sequence[tuple[float, float]] = (),
) -> Markup:
    """A drawing of ``curves``; the first is the one that matters most.

    Args:
        label: what a screen reader says of it.
        x_range, y_range: by default as wide as the points.
        text: of the numbers along both axes.
        shaded: spans of x that are marked.
    """
    drawn = [
        (curve.name, [p for p in curve.points if math.isfinite(p[0]) and math.isfinite(p[1])])
        for curve in curves
    ]
    drawn = [(name, points) for name, points in drawn if points]
    every = [point for _, points in drawn for point in points]
    x_ticks = _ticks([x for x, _ in every], x_range)
    y_ticks = _ticks([y for _, y in every], y_range)
    frame = Frame(
        width=WIDTH,
        height=HEIGHT,
        left=48,
        right=NAMES_WIDTH,
        top=30,
        bottom=42,
        x_range=(x_ticks[0], x_ticks[-1]),
        y_range=(y_ticks[0], y_ticks[-1]),
    )
    parts = [_shade(frame, *span) for span in shaded]
    parts += [frame.x_axis(x_ticks, text, x_name), frame.y_axis(y_ticks, text, y_name)]
    ends: list[tuple[float, str, int]] = []
    for number, (name, points) in enumerate(drawn):
        at = [(frame.x(x), frame.y(y)) for x, y in points]
        colour = f"arm-{(number + 1) % NUM_COLOURS}"
        parts.append(_marks(at, name, colour))
        ends.append((at[-1][1], name, number))
    parts += _names(ends)
    return frame.drawing(*parts, label=label)


def _shade(frame: Frame, begin: float, end: float) -> Markup:
    left, right = frame.x(begin), frame.x(end)
    return tag(
        "rect",
        class_="band arm-4",
        x=left,
        y=float(frame.top),
        width=max(right - left, 2.0),  # a span of one step is to be seen, too
        height=float(frame.height - frame.top - frame.bottom),
    )


def _ticks(values: Sequence[float], given: tuple[float, float] | None) -> list[float]:
    if given is not None:
        return ticks(*given)
    return ticks(min(values), max(values)) if values else [0.0, 1.0]


def _marks(at: Sequence[tuple[float, float]], name: str, colour: str) -> Markup:
    if len(at) == 1:  # a line of one point cannot be seen
        return tag("circle", class_=f"mean {colour}", cx=at[0][0], cy=at[0][1], r=4.0, title=name)
    return tag("path", class_=f"curve {colour}", d=polyline(at), title=name)


def _names(ends: Sequence[tuple[float, str, int]]) -> list[Markup]:
    """Each name at the height of its curve's end, or as near to it as the others leave room."""
    parts = []
    ordered = sorted(ends, key=lambda end: (end[0], end[2]))
    for y, (_, name, number) in zip(_apart([end[0] for end in ordered]), ordered, strict=True):
        x = WIDTH - NAMES_WIDTH + 8
        colour = f"arm-{(number + 1) % NUM_COLOURS}"
        parts.append(tag("path", class_=f"curve {colour}", d=polyline([(x, y), (x + 16, y)])))
        parts.append(tag("text", name, class_="tick", x=x + 22, y=y + 4))
    return parts


def _apart(heights: Sequence[float]) -> list[float]:
    """Rising heights, pushed down until all are a line apart, then up until the last one fits."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + LINE_HEIGHT) if placed else height)
    lowest = HEIGHT - LINE_HEIGHT
    for place in range(len(placed) - 1, -1, -1):
        placed[place] = min(placed[place], lowest)
        lowest = placed[place] - LINE_HEIGHT
    return placed
