"""The figures of one detector on one set: how sure it may be, what it mixes up, what it saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.records import Geometry
from tilth.metrics.average_precision import AveragePrecision
from tilth.metrics.operating_points import ScoreCurves
from tilth.recipes.report.line_figure import Curve, line_figure
from tilth.recipes.report.svg import Frame, tag, ticks

__all__ = [
    "box_size_figure",
    "class_count_figure",
    "confusion_figure",
    "f1_figure",
    "precision_recall_figure",
]

MOST_CLASSES = 25  # of a table or of bars: more cannot be read
MOST_CURVES = 10
MOST_POINTS = 4000
CELL = 40.0


def precision_recall_figure(measured: AveragePrecision) -> Markup:
    """Precision at each recall at IoU 0.50, the mean of the classes."""
    points = list(zip(measured.recall.tolist(), measured.precision.tolist(), strict=True))
    ap50 = "" if measured.ap50 is None else f", AP50 {100 * measured.ap50:.1f} %"
    return line_figure(
        [Curve(name="mean of classes", points=points)],
        x_name="recall",
        y_name=f"precision{ap50}",
        label="Precision against recall",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
    )


def f1_figure(curves: ScoreCurves, class_names: Sequence[str]) -> Markup:
    """F1 of each class, and their mean, by the score from which detections are believed."""
    known = [row for row in range(len(class_names)) if not np.isnan(curves.f1[row, 0])]
    drawn = []
    if known:
        drawn.append(_curve("mean of classes", curves.scores, curves.f1[known].mean(axis=0)))
    if len(class_names) > 1:
        drawn += [
            _curve(class_names[row], curves.scores, curves.f1[row]) for row in known[:MOST_CURVES]
        ]
    return line_figure(
        drawn,
        x_name="detections of this score and above",
        y_name="F1 at IoU 0.50",
        label="F1 against the least score",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
    )


def confusion_figure(matrix: NDArray[np.int64], class_names: Sequence[str]) -> Markup:
    """Rows are labels, columns are detections; a cell is as dark as its share of the row.

    Args:
        matrix: see `tilth.metrics.confusion.confusion_matrix`; of many classes the largest are
            drawn.
    """
    background = len(class_names)
    largest = np.argsort(-matrix[:-1].sum(axis=1), kind="stable")[:MOST_CLASSES]
    kept = [*sorted(largest.tolist()), background]
    left, top = 150.0, 110.0
    parts = [
        tag("text", "label", class_="axis end", x=left - 8, y=top - 10),
        tag("text", "detected as", class_="axis", x=left, y=14.0),
    ]
    for place, row in enumerate(kept):
        rows_name = "(nothing)" if row == background else class_names[row]
        columns_name = "(missed)" if row == background else class_names[row]
        y = top + CELL * place
        parts.append(tag("text", _short(rows_name), class_="tick end", x=left - 8, y=y + 24))
        turn = f"translate({left + CELL * place + 24} {top - 8}) rotate(-45)"
        parts.append(tag("text", _short(columns_name), class_="tick", transform=turn))
        parts += [
            _cell(matrix, row, column, left + CELL * across, y, is_right=row == column)
            for across, column in enumerate(kept)
            if not row == column == background
        ]
    side = CELL * len(kept)
    return tag(
        "svg",
        *parts,
        class_="plot",
        viewBox=f"0 0 {left + side + 70:.0f} {top + side + 10:.0f}",
        role="img",
        aria_label="Which class was taken for which",
    )


def class_count_figure(dataset: Dataset) -> Markup:
    """How many boxes each class has, the most frequent first."""
    category = dataset.annotations.category_index[dataset.annotations.geometry != Geometry.LABEL]
    counts = np.bincount(category, minlength=len(dataset.categories))
    order = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    edges = ticks(0, max(1, int(counts.max(initial=0))), about=4)
    frame = Frame(
        width=460,
        height=64.0 + 26.0 * len(order),
        left=150,
        right=48,
        top=6,
        bottom=42,
        x_range=(0, edges[-1]),
    )
    parts = [frame.x_axis(edges, "{:g}".format, "boxes")]
    for place, row in enumerate(order.tolist()):
        y = 12.0 + 26.0 * place
        name, count = dataset.categories[row].name, int(counts[row])
        width = frame.x(count) - frame.left
        parts.append(tag("text", _short(name), class_="tick end", x=frame.left - 8, y=y + 12))
        bar = {"x": frame.left, "y": y, "width": width, "height": 16.0}
        parts.append(tag("rect", class_="bar arm-1", title=f"{name}: {count:,}", **bar))
        parts.append(tag("text", f"{count:,}", class_="tick", x=frame.x(count) + 5, y=y + 12))
    return frame.drawing(*parts, label="Boxes of each class")


def box_size_figure(dataset: Dataset) -> Markup:
    """Width and height of boxes as shares of their picture; a few thousand of them at most."""
    annotations, media = dataset.annotations, dataset.media
    rows = np.flatnonzero(annotations.geometry != Geometry.LABEL)
    rows = rows[:: max(1, -(-len(rows) // MOST_POINTS))]
    of = annotations.media_index[rows]
    sizes = np.stack([media.width[of], media.height[of]], axis=1)
    known = (sizes > 0).all(axis=1)
    boxes = annotations.boxes_xyxy[rows[known]]
    shares = ((boxes[:, 2:] - boxes[:, :2]) / sizes[known]).clip(0, 1)
    frame = Frame(width=400, height=400, left=48, right=16, top=30, bottom=42, x_range=(0, 1))
    dots = "".join(f"M{frame.x(w):.1f} {frame.y(h):.1f}h0" for w, h in shares.tolist())
    return frame.drawing(
        frame.x_axis(ticks(0, 1), "{:g}".format, "width of a box, share of its picture"),
        frame.y_axis(ticks(0, 1), "{:g}".format, "height"),
        tag("path", class_="dots arm-1", d=dots or "M0 0"),
        label="Sizes of the boxes",
    )


def _curve(name: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> Curve:
    return Curve(name=_short(name), points=list(zip(x.tolist(), y.tolist(), strict=True)))


def _cell(
    matrix: NDArray[np.int64], row: int, column: int, x: float, y: float, *, is_right: bool
) -> Markup:
    count, total = int(matrix[row, column]), int(matrix[row].sum())
    square = tag(
        "rect",
        title=f"{count:,} of {total:,}",
        class_=f"bar {'arm-3' if is_right else 'arm-2'}",
        x=x + 1,
        y=y + 1,
        width=CELL - 2,
        height=CELL - 2,
        opacity=0.06 + 0.74 * (count / total if total else 0.0),
    )
    if not count:
        return square
    return square + tag("text", f"{count}", class_="tick middle", x=x + CELL / 2, y=y + 24)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "\N{HORIZONTAL ELLIPSIS}"
