"""The page of a search for wrong labels: how many, between which classes, and the worst of them.

One self-contained HTML file in the style of the other reports: no script, nothing loaded.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from markupsafe import Markup
from numpy.typing import NDArray

from tilth.curate.noise_matrix import NoiseEstimate
from tilth.data.atomic import atomic_writer
from tilth.data.images import read_image
from tilth.errors import MediaError
from tilth.recipes.report.svg import tag

__all__ = ["noise_matrix_plot", "write_label_error_report"]

MOST_CLASSES = 25  # in the matrix, those with most wrong labels; more cannot be read
MOST_LISTED = 200
MOST_PICTURES = 100
PICTURE_SIDE = 96
CELL = 44.0


def write_label_error_report(
    path: Path,
    noise: NoiseEstimate,
    class_names: tuple[str, ...],
    found: pa.Table,
    *,
    num_rows: int,
    pictures: Sequence[Path] | None = None,
) -> None:
    """Write the page.

    Args:
        found: the labels taken for wrong, worst first; see `tilth.curate.label_error_records`.
        pictures: files of ``found``, for small views of the first of them.

    Raises:
        StorageError: the disk refused.
    """
    low, high = noise.share_wrong_interval
    body = Markup("").join(
        [
            tag("h1", "Wrong labels"),
            tag(
                "p",
                f"{len(found):,} of {num_rows:,} labels are taken for wrong. Estimated share of "
                f"wrong labels: {noise.share_wrong:.1%} ({noise.confidence:.0%} interval "
                f"{low:.1%} to {high:.1%}). No label was changed.",
                class_="lead",
            ),
            tag(
                "section",
                tag("h2", "Noise matrix"),
                tag("p", "How often an example of a class is given each label, %.", class_="hint"),
                noise_matrix_plot(noise, class_names),
            ),
            tag("section", tag("h2", "The worst"), *_list(found, pictures)),
        ]
    )
    style = resources.files("tilth.recipes.report").joinpath("page.css").read_text("utf-8")
    head = Markup(
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\"><title>Wrong labels</title>"
    ) + tag("style", Markup(style))
    content = tag("head", head) + tag("body", tag("main", body))
    page = f"<!doctype html>\n{tag('html', content, lang='en')}\n"
    with atomic_writer(path) as stream:
        stream.write(page.encode("utf-8"))


def noise_matrix_plot(noise: NoiseEstimate, class_names: tuple[str, ...]) -> Markup:
    """Rows are true classes, columns given labels; a cell is as dark as its share of the row."""
    wrong = noise.joint.sum(axis=0) + noise.joint.sum(axis=1) - 2 * np.diagonal(noise.joint)
    kept = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    left, top = 150.0, 96.0
    side = CELL * len(kept)
    parts = [
        tag("text", "true class", class_="axis end", x=left - 8, y=top - 8),
        tag("text", "given label", class_="axis", x=left, y=14.0),
    ]
    for row, true in enumerate(kept.tolist()):
        y = top + CELL * row
        name = _short(class_names[true])
        parts.append(tag("text", name, class_="tick end", x=left - 8, y=y + 26))
        turn = f"translate({left + CELL * row + 26} {top - 8}) rotate(-45)"
        parts.append(tag("text", name, class_="tick", transform=turn))
        for column, given in enumerate(kept.tolist()):
            parts.append(_cell(noise, class_names, true, given, left + CELL * column, y))
    return tag(
        "svg",
        *parts,
        class_="plot",
        viewBox=f"0 0 {left + side + 60:.0f} {top + side + 10:.0f}",
        style=f"max-width: {left + side + 60:.0f}px",
        role="img",
        aria_label="Noise matrix",
    )


def _cell(
    noise: NoiseEstimate, class_names: tuple[str, ...], true: int, given: int, x: float, y: float
) -> Markup:
    share = float(noise.noise_matrix[given, true])
    tip = f"{share:.1%} of {class_names[true]} are given {class_names[given]}"
    if noise.noise_matrix_interval is not None:
        low, high = noise.noise_matrix_interval[:, given, true]
        tip += f" ({low:.1%} to {high:.1%})"
    square = tag(
        "rect",
        title=tip,
        class_=f"bar {'arm-3' if given == true else 'arm-2'}",
        x=x + 1,
        y=y + 1,
        width=CELL - 2,
        height=CELL - 2,
        opacity=0.06 + 0.74 * share,
    )
    shown = f"{100 * share:.0f}" if share >= 0.005 else ""
    return square + tag("text", shown, class_="tick middle", x=x + CELL / 2, y=y + 26)


def _list(found: pa.Table, pictures: Sequence[Path] | None) -> list[Markup]:
    if not len(found):
        return [tag("p", "No label is taken for wrong.", class_="hint")]
    names = ("", "row", "given", "suggested", "quality", "margin")
    shown = (*names[:1], "picture", *names[1:]) if pictures is not None else names
    head = tag("tr", *(tag("th", name) for name in shown))
    rows = []
    for place, row in enumerate(found.slice(0, MOST_LISTED).to_pylist()):
        cells = [tag("td", row["name"])]
        if pictures is not None:
            cells.append(tag("td", _view(pictures[place]) if place < MOST_PICTURES else ""))
        cells += [
            tag("td", f"{row['row']}"),
            tag("td", row["given_label"]),
            tag("td", row["suggested_label"]),
            tag("td", f"{row['quality']:.3f}"),
            tag("td", f"{row['margin']:.3f}"),
        ]
        rows.append(tag("tr", *cells))
    parts = [tag("table", tag("thead", head), tag("tbody", *rows))]
    if len(found) > MOST_LISTED:
        left = f"The first {MOST_LISTED} of {len(found):,}; the others are in label_errors.csv."
        parts.insert(0, tag("p", left, class_="hint"))
    return parts


def _view(path: Path) -> Markup:
    """A small JPEG inside the page; nothing for a picture that is gone by now."""
    try:
        picture: NDArray[np.uint8] = read_image(path)
    except MediaError:
        return Markup("")
    scale = PICTURE_SIDE / max(picture.shape[:2])
    size = [max(1, round(scale * side)) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    data = base64.b64encode(encoded.tobytes()).decode("ascii")
    source = f"data:image/jpeg;base64,{data}"
    return Markup('<img alt="" width="{}" height="{}" src="{}">').format(*size, source)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "\N{HORIZONTAL ELLIPSIS}"
