"""The page of a classification run: scores, confusion matrix, calibration, classes.

One self-contained HTML file in the style of the other reports: no script, nothing loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from markupsafe import Markup

from tilth.metrics.classification import ClassificationScores, ReliabilityBins
from tilth.recipes.report.class_matrix import MatrixCell, class_matrix
from tilth.recipes.report.static_page import write_page
from tilth.recipes.report.svg import Frame, polyline, tag

__all__ = ["calibration_plot", "confusion_plot", "write_classification_report"]

MOST_CLASSES = 25  # in the matrix, the largest ones; more cannot be read
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def write_classification_report(
    path: Path,
    scores: ClassificationScores,
    class_names: tuple[str, ...],
    num_rows: Mapping[str, int],
    *,
    metric: float | None = None,
    metric_page: Path | None = None,
) -> None:
    """Write the page.

    Args:
        num_rows: of each part of the data.
        metric: that the run was trained by, on the held-out rows.
        metric_page: what it did over the run; beside this page.

    Raises:
        StorageError: the disk refused.
    """
    divided = ", ".join(f"{count:,} {part}" for part, count in num_rows.items())
    write_page(
        path,
        "Classifier",
        tag("h1", "Classifier: held-out rows"),
        tag(
            "p",
            f"{scores.num_examples:,} rows that nothing was learned from ({divided}).",
            class_="lead",
        ),
        _figures(scores, metric),
        *_metric_link(metric_page),
        tag(
            "section",
            tag("h2", "Confusion matrix"),
            *_left_out(class_names),
            confusion_plot(scores, class_names),
        ),
        tag("section", tag("h2", "Calibration"), _narrow(calibration_plot(scores.reliability))),
        tag("section", tag("h2", "Classes"), _classes(scores, class_names)),
    )


def confusion_plot(scores: ClassificationScores, class_names: tuple[str, ...]) -> Markup:
    """Rows are labels, columns are predictions; a cell is as dark as its share of the row."""

    def cell(label: int, named: int) -> MatrixCell:
        count, support = int(scores.confusion[label, named]), int(scores.support[label])
        return MatrixCell(
            share=count / support if support else 0.0,
            text=f"{count}" if count else "",
            tip=f"{count:,} of {support:,} {class_names[label]} called {class_names[named]}",
        )

    return class_matrix(
        cell,
        np.argsort(-scores.support, kind="stable")[:MOST_CLASSES].tolist(),
        class_names,
        row_title="label",
        column_title="prediction",
        label="Confusion matrix",
        side=34.0,
    )


def calibration_plot(bins: ReliabilityBins) -> Markup:
    """Accuracy of the predictions of each confidence; on the diagonal, confidence is honest."""
    frame = Frame(width=460, height=320, left=44, right=16, top=30, bottom=42, x_range=(0.0, 1.0))
    diagonal = polyline([(frame.x(0), frame.y(0)), (frame.x(1), frame.y(1))])
    parts = [
        frame.x_axis(SHARES, _percent, "confidence, %"),
        frame.y_axis(SHARES, _percent, "accuracy, %"),
        tag("path", class_="ghost", d=diagonal),
    ]
    total = bins.counts.sum()
    for number in np.flatnonzero(bins.counts).tolist():
        x, y = frame.x(bins.confidence[number]), frame.y(bins.accuracy[number])
        tip = (
            f"{bins.counts[number]:,} rows, confidence {bins.confidence[number]:.1%}, "
            f"accuracy {bins.accuracy[number]:.1%}"
        )
        radius = 3 + 9 * float(np.sqrt(bins.counts[number] / total))
        parts.append(tag("circle", title=tip, class_="mean arm-1", cx=x, cy=y, r=radius))
    return frame.drawing(*parts, label="Accuracy against confidence")


def _left_out(class_names: tuple[str, ...]) -> list[Markup]:
    if len(class_names) <= MOST_CLASSES:
        return []
    return [tag("p", f"The {MOST_CLASSES} largest of {len(class_names)} classes.", class_="hint")]


def _narrow(drawing: Markup) -> Markup:
    return tag("figure", drawing, style="max-width: 520px")


def _metric_link(page: Path | None) -> list[Markup]:
    if page is None:
        return []
    link = tag("a", "True and believed over the run, alarms, and what it cost", href=page.name)
    return [tag("p", "Trained by a metric: ", link, ".", class_="hint")]


def _figures(scores: ClassificationScores, metric: float | None) -> Markup:
    rows = {
        "accuracy": f"{scores.accuracy:.1%}",
        "always the most frequent class": f"{scores.majority_accuracy:.1%}",
        "balanced accuracy": f"{scores.balanced_accuracy:.1%}",
        "macro F1": f"{scores.macro_f1:.3f}",
        "log loss, nats": f"{scores.log_loss:.3f}",
        "Brier score (0 to 2)": f"{scores.brier:.3f}",
        "expected calibration error": f"{scores.calibration_error:.1%}",
        **({} if metric is None else {"the metric of loss.metric": f"{metric:.4g}"}),
    }
    cells = [tag("tr", tag("th", name), tag("td", value)) for name, value in rows.items()]
    return tag("table", tag("tbody", *cells))


def _classes(scores: ClassificationScores, class_names: tuple[str, ...]) -> Markup:
    head = tag("tr", *(tag("th", n) for n in ("class", "rows", "precision", "recall", "F1")))
    rows = []
    for number, name in enumerate(class_names):
        values = (scores.precision[number], scores.recall[number], scores.f1[number])
        cells = [tag("td", "-" if np.isnan(value) else f"{value:.3f}") for value in values]
        rows.append(tag("tr", tag("th", name), tag("td", f"{scores.support[number]:,}"), *cells))
    return tag("table", tag("thead", head), tag("tbody", *rows))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
