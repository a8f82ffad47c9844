"""The figures of the clusters: boxes in each, where they lie, and how well each is found.

A cluster keeps its colour in all figures, and its number stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tilth.recipes.experiment import Arm, ClusterView
from tilth.recipes.report.plots import arm_style, mean_mark, percent, range_line
from tilth.recipes.report.svg import Frame, number, polyline, tag, ticks

__all__ = ["cluster_ap", "cluster_bars", "cluster_scatter", "cluster_style"]

NUM_CLUSTER_COLOURS = 8  # the style sheet's; further clusters share colours but keep their numbers
MAX_POINTS = 4_000
WIDTH = 460.0  # drawing units; about the pixels of half a page, or of a telephone held upright


def cluster_style(cluster: int) -> str:
    """The class that gives a cluster its colour."""
    return f"cluster-{cluster % NUM_CLUSTER_COLOURS}"


def cluster_bars(view: ClusterView) -> Markup:
    """Boxes in each cluster, before above after."""
    highest = max([*view.counts_before, *view.counts_after, 1])
    edges = ticks(0, highest, about=4)
    frame = Frame(
        width=WIDTH,
        height=56.0 + 56.0 * view.k,
        left=16,
        right=48,
        top=6,
        bottom=42,
        x_range=(0, edges[-1]),
    )
    parts = [frame.x_axis(edges, _count, "Boxes in the training pictures")]
    for cluster in range(view.k):
        y = 10.0 + 56.0 * cluster
        parts.append(tag("text", _cluster_name(view, cluster), class_="label", x=16.0, y=y + 9))
        parts.append(_bar(frame, cluster, y + 14, view.counts_before, "before"))
        parts.append(_bar(frame, cluster, y + 29, view.counts_after, "after"))
    return frame.drawing(*parts, label="Boxes in each cluster before and after rebalancing")


def cluster_scatter(view: ClusterView, *, after: bool) -> Markup:
    """The boxes on two axes, coloured by cluster; derived ones are crosses.

    Before and after share their axes, so that the two drawings can be compared.
    """
    frame = _map_frame(view)
    width, height = frame.width - frame.left - frame.right, frame.height - frame.top - frame.bottom
    name = view.projection_name
    parts = [
        tag("rect", class_="frame", x=frame.left, y=frame.top, width=width, height=height),
        tag("text", f"{name} axis 1, no unit", class_="axis middle", x=width / 2, y=396.0),
        tag("text", f"{name} axis 2, no unit", class_="axis", x=2.0, y=16.0),
    ]
    points = _thinned(view.points_after if after else view.points_before, width=3 + after)
    derived = points[:, 3] > 0 if after else np.zeros(len(points), dtype=bool)
    numbers = []
    for cluster in range(view.k):
        member = points[:, 2] == cluster
        parts.append(_dots(frame, points[member & ~derived], cluster))
        parts.append(_crosses(frame, points[member & derived], cluster))
        if member.any():
            x, y = np.median(points[member, :2], axis=0).tolist()
            place = {"x": frame.x(x), "y": frame.y(y) + 6}
            numbers.append(tag("text", str(cluster + 1), class_="cluster-number middle", **place))
    when = "after" if after else "before"
    label = f"{name} of the boxes {when} rebalancing, coloured by cluster"
    return frame.drawing(*parts, *numbers, label=label)


def cluster_ap(arms: Sequence[Arm], view: ClusterView) -> Markup:
    """AP50 on the held-out boxes of each cluster: mean and range of every arm."""
    step, gap = 15.0, 30.0
    group = step * len(arms) + gap
    frame = Frame(
        width=WIDTH,
        height=48.0 + group * view.k,
        left=16,
        right=16,
        top=6,
        bottom=42,
        x_range=(0, 1),
    )
    parts = [frame.x_axis(ticks(0, 1), percent, "mAP50 on the boxes of the cluster, %")]
    for cluster in range(view.k):
        top = 8.0 + group * cluster
        style = f"bar after {cluster_style(cluster)}"
        parts.append(tag("rect", class_=style, x=16, y=top + 1, width=10, height=10, rx=2))
        name = _cluster_name(view, cluster)
        parts.append(tag("text", name, class_="label", x=32.0, y=top + 10))
        for row, arm in enumerate(arms):
            y = top + 22.0 + step * row
            spread = arm.cluster_ap50(cluster)
            track = polyline([(frame.left, y), (frame.x(1), y)])
            parts.append(tag("path", class_="track", d=track))
            if spread.mean is None:
                parts.append(tag("text", "not measured", class_="tick", x=20.0, y=y + 4))
                continue
            parts.append(range_line(frame, spread, y, arm_style(row)))
            parts.append(mean_mark(frame, row, y, spread, arm.label, radius=4.5))
    return frame.drawing(*parts, label="mAP50 of each arm on each cluster")


def _bar(frame: Frame, cluster: int, y: float, counts: Sequence[int], when: str) -> Markup:
    boxes = _count(counts[cluster])
    share = counts[cluster] / max(sum(counts), 1)
    end = frame.x(counts[cluster])
    bar = tag(
        "rect",
        class_=f"bar {when} {cluster_style(cluster)}",
        x=frame.left,
        y=y,
        width=end - frame.left,
        height=12,
        title=f"Cluster {cluster + 1} {when}: {boxes} boxes, {share:.0%} of all",
    )
    return bar + tag("text", boxes, class_="tick", x=end + 5, y=y + 10)


def _map_frame(view: ClusterView) -> Frame:
    everything = [point[:2] for point in view.points_before + view.points_after]
    extent = np.array(everything or [[0.0, 0.0], [1.0, 1.0]])
    low, high = extent.min(axis=0), extent.max(axis=0)
    margin = np.where(high > low, 0.04 * (high - low), 0.5)
    (x0, y0), (x1, y1) = (low - margin).tolist(), (high + margin).tolist()
    return Frame(
        width=WIDTH,
        height=400.0,
        left=1,
        right=1,
        top=26,
        bottom=24,
        x_range=(x0, x1),
        y_range=(y0, y1),
    )


def _thinned(points: list[list[float]], *, width: int) -> NDArray[Any]:
    """At most `MAX_POINTS` rows, evenly taken, so that a page of a large data set still opens."""
    rows = np.array(points, dtype=np.float64).reshape(-1, width)
    if len(rows) > MAX_POINTS:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_POINTS).astype(np.int64)]
    return rows


def _dots(frame: Frame, points: NDArray[Any], cluster: int) -> Markup:
    # A zero-length stroke with round caps is a dot: one path instead of thousands of circles.
    d = "".join(f"M{number(frame.x(x))} {number(frame.y(y))}h0" for x, y in points[:, :2].tolist())
    tip = f"Cluster {cluster + 1}: {len(points)} boxes shown"
    return tag("path", class_=f"dots {cluster_style(cluster)}", d=d, title=tip) if d else Markup("")


def _crosses(frame: Frame, points: NDArray[Any], cluster: int) -> Markup:
    d = "".join(
        f"M{number(frame.x(x) - 2.5)} {number(frame.y(y))}h5m-2.5-2.5v5"
        for x, y in points[:, :2].tolist()
    )
    tip = f"Cluster {cluster + 1}: {len(points)} derived boxes shown"
    return (
        tag("path", class_=f"crosses {cluster_style(cluster)}", d=d, title=tip) if d else Markup("")
    )


def _cluster_name(view: ClusterView, cluster: int) -> str:
    words = view.descriptions[cluster] if view.descriptions else ""
    return f"{cluster + 1} \N{MIDDLE DOT} {words}" if words else f"Cluster {cluster + 1}"


def _count(value: float) -> str:
    return f"{value:,.0f}"
