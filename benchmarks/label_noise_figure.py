"""The figure of the benchmark of wrong labels: a dot a seed, a panel a kind of noise."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from markupsafe import Markup

from tilth.recipes.report.svg import Frame, marker, polyline, tag

__all__ = ["Panel", "draw"]

COLUMNS = 3
LABELS = 196.0  # room for the methods' names
WIDTH, ROW, TOP, BOTTOM = 230.0, 21.0, 30.0, 44.0
GAP = 32.0
CAPTION = 18.0
LETTERS = 140  # in a line of the caption
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
COLOURED = ("CIW", "CICW", "CICW-M")

# Okabe and Ito's blue, vermilion and green, told apart by all; the others are grey.
STYLE = (
    "<style>svg{background:#fff;font:13px system-ui,sans-serif}.grid{stroke:#e3e6e8;fill:none}"
    ".row{stroke:#f1f3f4;fill:none}.tick,.axis,.note{fill:#5c646d;font-size:12px}"
    ".middle{text-anchor:middle}.end{text-anchor:end}.label{fill:#1d2126}"
    ".title{fill:#1d2126;font-weight:600}.other{--c:#7c848d}.ciw-0{--c:#0072b2}"
    ".ciw-1{--c:#d55e00}.ciw-2{--c:#009e73}.value{font-size:11px}"
    ".seed,.mean,.range{stroke:var(--c);fill:var(--c)}.seed{fill-opacity:.25}"
    ".range{fill:none}text.other,text[class*=ciw-]{fill:var(--c);stroke:none}</style>"
)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One kind of noise.

    Attributes:
        definition: which labels are wrong, for the caption.
        scores: accuracy of every seed, by the method's label.
    """

    title: str
    definition: str
    scores: Mapping[str, Sequence[float]]


def draw(panels: Sequence[Panel], path: Path, *, caption: str = "") -> None:
    """Write the figure as SVG."""
    methods = list(dict.fromkeys(name for panel in panels for name in panel.scores))
    height = TOP + ROW * len(methods) + BOTTOM
    lines = -(-len(panels) // COLUMNS)
    total = LABELS + COLUMNS * WIDTH + (COLUMNS - 1) * GAP + 16
    parts = []
    for number, panel in enumerate(panels):
        line, column = divmod(number, COLUMNS)
        if not column:
            parts.append(_names(methods, line * height))
        left = LABELS + column * (WIDTH + GAP)
        parts.append(_panel(panel, methods, left, line * height, total, height * lines))
    titles: dict[str, list[str]] = {}
    for panel in panels:
        titles.setdefault(panel.definition, []).append(panel.title)
    notes = [f"{'; '.join(named)}: {definition}." for definition, named in titles.items()]
    notes += [caption] if caption else []
    wrapped = [line for note in notes for line in wrap(note, LETTERS)]
    for row, note in enumerate(wrapped):
        y = lines * height + CAPTION * (row + 1)
        parts.append(tag("text", note, class_="note", x=12.0, y=y))
    body = tag(
        "svg",
        Markup(STYLE),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {total:g} {lines * height + CAPTION * (len(wrapped) + 1):g}",
        role="img",
        aria_label="Accuracy on clean test pictures after the last epoch, by method and noise",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(body) + "\n", encoding="utf-8")


def _names(methods: Sequence[str], top: float) -> Markup:
    return Markup("").join(
        tag("text", name, class_="label end", x=LABELS - 14, y=top + _row(row) + 4)
        for row, name in enumerate(methods)
    )


def _panel(
    panel: Panel, methods: Sequence[str], left: float, top: float, width: float, height: float
) -> Markup:
    """Rows of dots; the mean as a mark with its number beside it."""
    floor = top + TOP + ROW * len(methods)
    frame = Frame(
        width=width,
        height=height,
        left=left,
        right=width - left - WIDTH,
        top=top + TOP - 6,
        bottom=height - floor,
        x_range=(0.0, 1.0),
    )
    parts = [
        tag("text", panel.title, class_="title", x=left, y=top + TOP - 14),
        *_grid(frame, floor),
    ]
    for row, name in enumerate(methods):
        y = top + _row(row)
        ends = [(frame.x(0.0), y), (frame.x(1.0), y)]
        parts.append(tag("path", class_="row", d=polyline(ends)))
        scores = panel.scores.get(name)
        if scores:
            parts += _dots(frame, name, scores, y)
    return Markup("").join(parts)


def _grid(frame: Frame, floor: float) -> list[Markup]:
    parts = []
    for value in TICKS:
        x = frame.x(value)
        parts.append(tag("path", class_="grid", d=polyline([(x, frame.top), (x, floor)])))
        parts.append(tag("text", f"{100 * value:g}", class_="tick middle", x=x, y=floor + 15))
    middle = (frame.x(0.0) + frame.x(1.0)) / 2
    parts.append(tag("text", "accuracy, %", class_="axis middle", x=middle, y=floor + 31))
    return parts


def _dots(frame: Frame, name: str, scores: Sequence[float], y: float) -> list[Markup]:
    series = COLOURED.index(name) if name in COLOURED else -1
    style = f"ciw-{series}" if series >= 0 else "other"
    mean = statistics.mean(scores)
    tip = f"{name}: {100 * mean:.1f} %, seeds: " + ", ".join(f"{100 * s:.1f}" for s in scores)
    ends = [(frame.x(min(scores)), y), (frame.x(max(scores)), y)]
    parts = [tag("path", class_=f"range {style}", d=polyline(ends))]
    for score in scores:
        parts.append(tag("circle", class_=f"seed {style}", cx=frame.x(score), cy=y, r=3.0))
    shape = marker(series + 1, frame.x(mean), y, 4.0)
    parts.append(tag("path", class_=f"mean {style}", d=shape, title=tip))
    # Where there is room: to the right of the dots, else to their left.
    right = max(scores) < 0.8
    x = frame.x(max(scores) if right else min(scores)) + (8 if right else -8)
    side = "" if right else " end"
    parts.append(tag("text", f"{100 * mean:.1f}", class_=f"value {style}{side}", x=x, y=y + 4))
    return parts


def _row(number: int) -> float:
    return TOP + ROW * (number + 0.5)
