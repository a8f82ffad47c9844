"""The page of a search for wrong labels: how many, between which classes, and the worst of them.

One self-contained HTML file in the style of the other reports: no script, nothing loaded.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from markupsafe import Markup
from numpy.typing import NDArray

from tilth.curate.noise_matrix import NoiseEstimate
from tilth.data.images import read_image
from tilth.errors import MediaError
from tilth.recipes.report.class_matrix import MatrixCell, class_matrix
from tilth.recipes.report.static_page import write_page
from tilth.recipes.report.svg import tag

__all__ = ["noise_matrix_plot", "write_label_error_report"]

MOST_CLASSES = 25  # in the matrix, those with most wrong labels; more cannot be read
MOST_LISTED = 200
MOST_PICTURES = 100
PICTURE_SIDE = 96


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
    write_page(
        path,
        "Wrong labels",
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
        embeds_pictures=True,
    )


def noise_matrix_plot(noise: NoiseEstimate, class_names: tuple[str, ...]) -> Markup:
    """Rows are true classes, columns given labels; a cell is as dark as its share of the row."""
    wrong = noise.joint.sum(axis=0) + noise.joint.sum(axis=1) - 2 * np.diagonal(noise.joint)

    def cell(true: int, given: int) -> MatrixCell:
        share = float(noise.noise_matrix[given, true])
        tip = f"{share:.1%} of {class_names[true]} are given {class_names[given]}"
        if noise.noise_matrix_interval is not None:
            low, high = noise.noise_matrix_interval[:, given, true]
            tip += f" ({low:.1%} to {high:.1%})"
        text = f"{100 * share:.0f}" if share >= 0.005 else ""
        return MatrixCell(share=share, text=text, tip=tip)

    return class_matrix(
        cell,
        np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES]).tolist(),
        class_names,
        row_title="true class",
        column_title="given label",
        label="Noise matrix",
        side=44.0,
    )


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
