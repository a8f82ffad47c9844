"""The page of a classification run: scores, confusion matrix, calibration, classes.

One self-contained HTML file in the style of the other reports: no script, nothing loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
from markupsafe import Markup

from tilth.data.atomic import atomic_writer
from tilth.metrics.classification import ClassificationScores, ReliabilityBins
from tilth.recipes.report.svg import Frame, polyline, tag

__all__ = ["calibration_plot", "confusion_plot", "write_classification_report"]

MOST_CLASSES = 25  # in the matrix, the largest ones; more cannot be read
CELL = 34.0
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def write_classification_report(
    path: Path,
    scores: ClassificationScores,
    class_names: tuple[str, ...],
    num_rows: Mapping[str, int],
) -> None:
    """Write the page.

    Args:
        num_rows: of each part of the data.

    Raises:
        StorageError: the disk refused.
    """
    divided = ", ".join(f"{count:,} {part}" for part, count in num_rows.items())
    body = Markup("").join(
        [
            tag("h1", "Classifier: held-out rows"),
            tag(
                "p",
                f"{scores.num_examples:,} rows that nothing was learned from ({divided}).",
                class_="lead",
            ),
            _figures(scores),
            tag(
                "section",
                tag("h2", "Confusion matrix"),
                *_left_out(class_names),
                confusion_plot(scores, class_names),
            ),
            tag("section", tag("h2", "Calibration"), _narrow(calibration_plot(scores.reliability))),
            tag("section", tag("h2", "Classes"), _classes(scores, class_names)),
        ]
    )
    style = resources.files("tilth.recipes.report").joinpath("page.css").read_text("utf-8")
    head = Markup(
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\"><title>Classifier</title>"
    ) + tag("style", Markup(style))
    content = tag("head", head) + tag("body", tag("main", body))
    page = f"<!doctype html>\n{tag('html', content, lang='en')}\n"
    with atomic_writer(path) as stream:
        stream.write(page.encode("utf-8"))


def confusion_plot(scores: ClassificationScores, class_names: tuple[str, ...]) -> Markup:
    """Rows are labels, columns are predictions; a cell is as dark as its share of the row."""
    kept = np.argsort(-scores.support, kind="stable")[:MOST_CLASSES]
    left, top = 150.0, 96.0
    side = CELL * len(kept)
    parts = [
        tag("text", "label", class_="axis end", x=left - 8, y=top - 8),
        tag("text", "prediction", class_="axis", x=left, y=14.0),
    ]
    for row, label in enumerate(kept.tolist()):
        y = top + CELL * row
        parts.append(
            tag("text", _short(class_names[label]), class_="tick end", x=left - 8, y=y + 21)
        )
        turn = f"translate({left + CELL * row + 21} {top - 8}) rotate(-45)"
        parts.append(tag("text", _short(class_names[label]), class_="tick", transform=turn))
        for column, named in enumerate(kept.tolist()):
            parts.append(_cell(scores, class_names, label, named, left + CELL * column, y))
    return tag(
        "svg",
        *parts,
        class_="plot",
        viewBox=f"0 0 {left + side + 60:.0f} {top + side + 10:.0f}",
        style=f"max-width: {left + side + 60:.0f}px",
        role="img",
        aria_label="Confusion matrix",
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


def _figures(scores: ClassificationScores) -> Markup:
    rows = {
        "accuracy": f"{scores.accuracy:.1%}",
        "always the most frequent class": f"{scores.majority_accuracy:.1%}",
        "balanced accuracy": f"{scores.balanced_accuracy:.1%}",
        "macro F1": f"{scores.macro_f1:.3f}",
        "log loss, nats": f"{scores.log_loss:.3f}",
        "Brier score (0 to 2)": f"{scores.brier:.3f}",
        "expected calibration error": f"{scores.calibration_error:.1%}",
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


def _cell(
    scores: ClassificationScores,
    class_names: tuple[str, ...],
    label: int,
    named: int,
    x: float,
    y: float,
) -> Markup:
    count, support = int(scores.confusion[label, named]), int(scores.support[label])
    share = count / support if support else 0.0
    colour = "arm-3" if label == named else "arm-2"
    square = tag(
        "rect",
        title=f"{count:,} of {support:,} {class_names[label]} called {class_names[named]}",
        class_=f"bar {colour}",
        x=x + 1,
        y=y + 1,
        width=CELL - 2,
        height=CELL - 2,
        opacity=0.06 + 0.74 * share,
    )
    text = tag("text", f"{count}", class_="tick middle", x=x + CELL / 2, y=y + 21) if count else ""
    return square + text


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "\N{HORIZONTAL ELLIPSIS}"
