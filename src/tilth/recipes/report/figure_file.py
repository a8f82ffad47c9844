"""A drawing as a file of its own, which any program that knows SVG shows in its colours.

Pages have a style sheet that follows the reader's theme by variables; picture viewers and paint
programs know no variables. A file therefore has the colours of the light theme written out.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from tilth.data.atomic import atomic_writer
from tilth.recipes.report.svg import tag

__all__ = ["figure_document", "write_figure"]

_TEXT = """
svg{background:PAPER;font-family:system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
text{fill:INK;font-size:12.5px}
.tick,.axis{fill:SOFT;font-size:11.5px}
.label{font-weight:500}
.middle{text-anchor:middle}
.end{text-anchor:end}
.grid{stroke:GRID;fill:none}
.ghost{stroke:GHOST;fill:none;stroke-width:1.2}
"""
_MARKS = """
.curve.NAME{stroke:COLOUR;fill:none;stroke-width:2.2;stroke-linejoin:round}
.bar.NAME,.mean.NAME{fill:COLOUR}
.dots.NAME{stroke:COLOUR;stroke-width:4;stroke-linecap:round;fill:none;opacity:.62}
"""


def figure_document(drawing: Markup) -> str:
    """The text of an SVG file; ``drawing`` is an ``svg`` element of `Frame` and its like.

    >>> figure_document(Markup('<svg class="plot"></svg>')).startswith('<svg xmlns=')
    True
    """
    start, rest = str(drawing).split(">", 1)  # plain text: Markup would escape what is put in
    opened = start.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{opened}>{tag('style', Markup(_style()))}{rest}\n"


def write_figure(path: Path, drawing: Markup) -> None:
    """Write ``drawing`` as an SVG file.

    Raises:
        StorageError: the disk refused; an earlier figure is untouched.
    """
    with atomic_writer(path) as stream:
        stream.write(figure_document(drawing).encode("utf-8"))


@cache
def _style() -> str:
    """Text and lines, then every mark in every colour of the pages' style sheet."""
    sheet = resources.files("tilth.recipes.report").joinpath("page.css").read_text("utf-8")
    light = sheet[: sheet.index("@media")]
    colours = dict(re.findall(r"--([a-z]+(?:-\d)?): (#[0-9a-f]{6})", light))
    text = re.sub("PAPER|INK|SOFT|GRID|GHOST", lambda name: colours[name[0].lower()], _TEXT)
    named = {name: colour for name, colour in colours.items() if name[-1].isdigit()}
    marks = [_MARKS.replace("NAME", name).replace("COLOUR", c) for name, c in named.items()]
    return text + "".join(marks)
