"""Scalable pictures as text: escaped tags, axes, and the marks that tell series apart.

Colours are not written here. A mark carries a class (``arm-2``, ``cluster-0``) and the style sheet
of the page gives it a colour, so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Frame", "marker", "number", "polyline", "tag", "ticks"]


def tag(name: str, *children: str, title: object = None, **attributes: object) -> Markup:
    """One element; text and attribute values are escaped, `Markup` children are kept.

    Underscores in attribute names stand for hyphens; a trailing one (``class_``) is dropped.

    >>> tag("text", "a < b", class_="axis", x=1.50)
    Markup('<text class="axis" x="1.5">a &lt; b</text>')
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None:
            continue
        text = number(value) if isinstance(value, float) else str(value)
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    parts.append(">")
    if title is not None:
        parts.append(f"<title>{escape(title)}</title>")
    parts.extend(str(escape(child)) for child in children)
    parts.append(f"</{name}>")
    return Markup("".join(parts))


def number(value: float) -> str:
    """At most two decimals: a hundredth of a pixel is finer than any screen.

    >>> number(3.0), number(1 / 3)
    ('3', '0.33')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


def ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``, steps of 1, 2 or 5.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low if high > low else max(abs(high), 1.0)
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """The ``d`` of a path through ``points``."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def marker(series: int, x: float, y: float, radius: float) -> str:
    """The ``d`` of a filled mark; four shapes in turn, for readers who do not see the colours."""
    r = radius
    shape = series % 4
    if shape == 0:
        start, arc = f"M{number(x - r)} {number(y)}", f"a{r} {r} 0 1 0"
        return f"{start}{arc} {2 * r} 0{arc} {-2 * r} 0Z"
    if shape == 1:
        r *= 0.88
        return polyline([(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]) + "Z"
    r *= 1.2
    if shape == 2:
        return polyline([(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)]) + "Z"
    return polyline([(x, y - r), (x + r, y), (x, y + r), (x - r, y)]) + "Z"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A plot area inside a drawing, in drawing units, and the data range that it shows."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float] = (0.0, 1.0)

    def x(self, value: float) -> float:
        """From data to drawing."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """From data to drawing; data rise upwards."""
        low, high = self.y_range
        share = (value - low) / (high - low)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def x_axis(self, values: Sequence[float], text: Callable[[float], str], name: str) -> Markup:
        """Grid lines, their numbers, and the axis' name with its unit."""
        floor = self.height - self.bottom
        parts = []
        for value in values:
            x = self.x(value)
            parts.append(tag("path", class_="grid", d=polyline([(x, self.top), (x, floor)])))
            parts.append(tag("text", text(value), class_="tick middle", x=x, y=floor + 16))
        middle = (self.left + self.width - self.right) / 2
        parts.append(tag("text", name, class_="axis middle", x=middle, y=self.height - 4))
        return Markup("").join(parts)

    def y_axis(self, values: Sequence[float], text: Callable[[float], str], name: str) -> Markup:
        """As `x_axis`; the name stands above the axis, where nobody has to tilt the head."""
        parts = []
        right = self.width - self.right
        for value in values:
            y = self.y(value)
            parts.append(tag("path", class_="grid", d=polyline([(self.left, y), (right, y)])))
            parts.append(tag("text", text(value), class_="tick end", x=self.left - 6, y=y + 4))
        parts.append(tag("text", name, class_="axis", x=2.0, y=self.top - 10))
        return Markup("").join(parts)

    def drawing(self, *children: Markup, label: str) -> Markup:
        """The whole picture; ``label`` is what a screen reader says of it."""
        return tag(
            "svg",
            *children,
            class_="plot",
            viewBox=f"0 0 {number(self.width)} {number(self.height)}",
            role="img",
            aria_label=label,
        )
