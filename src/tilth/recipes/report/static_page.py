"""A self-contained page in the style of the reports: no script, nothing loaded."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from markupsafe import Markup

from tilth.data.atomic import atomic_writer
from tilth.recipes.report.svg import tag

__all__ = ["write_page"]


def write_page(path: Path, title: str, *parts: Markup, embeds_pictures: bool = False) -> None:
    """Write ``parts``, elements of the page's body, as one HTML file.

    Args:
        embeds_pictures: allow pictures that the page itself holds (``data:`` addresses).

    Raises:
        StorageError: the disk refused; an earlier page is untouched.
    """
    style = resources.files("tilth.recipes.report").joinpath("page.css").read_text("utf-8")
    pictures = "; img-src data:" if embeds_pictures else ""
    policy = f"default-src 'none'; style-src 'unsafe-inline'{pictures}"
    head = Markup(
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    )
    head += tag("title", title) + tag("style", Markup(style))
    body = tag("body", tag("main", Markup("").join(parts)))
    page = f"<!doctype html>\n{tag('html', tag('head', head) + body, lang='en')}\n"
    with atomic_writer(path) as stream:
        stream.write(page.encode("utf-8"))
