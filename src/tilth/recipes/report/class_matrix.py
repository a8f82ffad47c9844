"""A square of classes against classes: a cell is as dark as its share of the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tilth.recipes.report.svg import tag

__all__ = ["MatrixCell", "class_matrix"]

LEFT, TOP = 150.0, 96.0  # room for the names
LONGEST_NAME = 18


@dataclass(frozen=True, kw_only=True)
class MatrixCell:
    """What one cell shows.

    Attributes:
        share: of its row, 0 to 1.
        text: written in it; may be empty.
        tip: what a reader is told who points at it.
    """

    share: float
    text: str
    tip: str


def class_matrix(
    cell: Callable[[int, int], MatrixCell],
    shown: Sequence[int],
    class_names: Sequence[str],
    *,
    row_title: str,
    column_title: str,
    label: str,
    side: float,
) -> Markup:
    """An ``svg`` element; the diagonal has a colour of its own.

    Args:
        cell: of a row's and a column's class.
        shown: the classes that get a row and a column, in order.
        label: what the drawing is, for those who do not see it.
        side: of a cell, pixels.
    """
    middle = side / 2 + 4
    parts = [
        tag("text", row_title, class_="axis end", x=LEFT - 8, y=TOP - 8),
        tag("text", column_title, class_="axis", x=LEFT, y=14.0),
    ]
    for place, row in enumerate(shown):
        y = TOP + side * place
        name = _short(class_names[row])
        parts.append(tag("text", name, class_="tick end", x=LEFT - 8, y=y + middle))
        turn = f"translate({LEFT + side * place + middle:g} {TOP - 8}) rotate(-45)"
        parts.append(tag("text", name, class_="tick", transform=turn))
        for across, column in enumerate(shown):
            colour = "arm-3" if row == column else "arm-2"
            parts.append(_square(cell(row, column), colour, LEFT + side * across, y, side))
    width, height = LEFT + side * len(shown) + 60, TOP + side * len(shown) + 10
    return tag(
        "svg",
        *parts,
        class_="plot",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        style=f"max-width: {width:.0f}px",
        role="img",
        aria_label=label,
    )


def _square(cell: MatrixCell, colour: str, x: float, y: float, side: float) -> Markup:
    square = tag(
        "rect",
        title=cell.tip,
        class_=f"bar {colour}",
        x=x + 1,
        y=y + 1,
        width=side - 2,
        height=side - 2,
        opacity=0.06 + 0.74 * cell.share,
    )
    if not cell.text:
        return square
    place = {"x": x + side / 2, "y": y + side / 2 + 4}
    return square + tag("text", cell.text, class_="tick middle", **place)


def _short(name: str) -> str:
    if len(name) <= LONGEST_NAME:
        return name
    return name[: LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
