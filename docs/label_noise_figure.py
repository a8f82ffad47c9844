"""Draw `docs/images/label-noise.svg`: where labels go under each noise, for six classes.

    python docs/label_noise_figure.py

`tests/contracts/test_label_noise_page.py` holds the figure to what the code does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from tilth.data.label_noise import LabelNoise, inject_label_noise
from tilth.recipes.report.figure_file import figure_document
from tilth.recipes.report.svg import tag
from tilth.seeding import generator

ROOT = Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs" / "images" / "label-noise.svg"
NAMES = ("plane", "car", "truck", "bird", "cat", "dog")
RATE = 0.4
EACH = 500
CELL, LEFT, TOP = 40.0, 52.0, 62.0
WIDTH, HEIGHT = LEFT + 6 * CELL + 18, TOP + 6 * CELL + 30

KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("symmetric_flip", "always another class", {}),
    ("symmetric_uniform", "any class, the true one included", {}),
    ("pair_flip", "the next class", {}),
    (
        "asymmetric",
        "bird to plane, truck to car, cat and dog",
        {"flips": {3: 0, 2: 1, 4: 5, 5: 4}},
    ),
    (
        "superclass",
        "vehicles and animals apart",
        {"superclasses": [0] * 3 + [1] * 3},
    ),
    ("instance_dependent", "by what the example shows; the mean", {}),
)


def noises() -> list[LabelNoise]:
    """One record a panel."""
    labels = np.repeat(np.arange(6), EACH)
    draw = generator(0, "figure", "features")
    features = draw.standard_normal((6, 3))[labels] + 0.5 * draw.standard_normal((len(labels), 3))
    made = []
    for kind, _, options in KINDS:
        if kind == "instance_dependent":
            options = {"features": features}
        made.append(inject_label_noise(labels, 6, kind=kind, rate=RATE, exact=True, **options)[1])
    return made


def figure() -> str:
    """The text of the file."""
    panels = [
        tag(
            "g",
            panel(noise, says),
            transform=f"translate({place % 3 * WIDTH:g} {place // 3 * HEIGHT:g})",
        )
        for place, (noise, (_, says, _)) in enumerate(zip(noises(), KINDS, strict=True))
    ]
    label = (
        f"Six noises at a rate of {RATE}: of the labels of each true class, a row, the share in "
        "per cent that is given as each class, a column."
    )
    return figure_document(
        tag(
            "svg",
            *panels,
            class_="plot",
            viewBox=f"0 0 {3 * WIDTH:g} {2 * HEIGHT:g}",
            role="img",
            aria_label=label,
        )
    )


def panel(noise: LabelNoise, says: str) -> Markup:
    """One matrix in per cent."""
    parts = [
        tag("text", noise.kind, class_="label", x=2.0, y=14.0, style="font-weight:600"),
        tag("text", f"{says}: {noise.expected_rate:.0%} wrong", class_="tick", x=2.0, y=31.0),
        tag("text", "true", class_="tick end", x=LEFT - 6, y=TOP - 8, style="font-style:italic"),
    ]
    for place, name in enumerate(NAMES):
        middle = TOP + (place + 0.5) * CELL
        parts.append(tag("text", name, class_="tick end", x=LEFT - 6, y=middle + 4))
        across = LEFT + (place + 0.5) * CELL
        parts.append(tag("text", name, class_="tick middle", x=across, y=TOP - 8))
    for (row, column), share in np.ndenumerate(noise.transition_matrix):
        parts.append(cell(row, column, float(share)))
    return Markup("").join(parts)


def cell(row: int, column: int, share: float) -> Markup:
    """A square as dark as its share, with the number in it unless that is 0."""
    x, y = LEFT + column * CELL, TOP + row * CELL
    square = tag(
        "rect", class_="mean arm-1", x=x + 1, y=y + 1, width=CELL - 2, height=CELL - 2,
        opacity=0.05 + 0.9 * share,
    )  # fmt: skip
    if round(100 * share) == 0:
        return square
    colour = "fill:#ffffff" if share > 0.75 else None
    number = tag(
        "text", f"{100 * share:.0f}", class_="middle", x=x + CELL / 2, y=y + CELL / 2 + 4.5,
        style=colour,
    )  # fmt: skip
    return square + number


if __name__ == "__main__":
    FIGURE.write_text(figure(), encoding="utf-8")
    print(f"wrote {FIGURE.relative_to(ROOT)}")
