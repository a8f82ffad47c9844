"""Data sets for the tests of every format: drawn to fit what a format holds, and then some.

Names with spaces, dots, quotes and umlauts, pictures without labels, boxes at all borders, boxes of
one pixel, masks with holes, several parts, crowds, sparse class numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from tilth.data import masks, rle
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.holds import Holds
from tilth.data.images import write_jpeg
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category, Geometry, ReviewState, Source, Split

__all__ = ["comparable", "datasets", "write_pictures"]

NAMES = (
    "cat",
    "traffic light",
    "dog's house",
    "größe",
    'a "quoted" one',
    "a,b;c",
    "x & y <z>",
    "10",
    "person_2",
    "Car.old",
)
STEMS = ("a", "b.c", "with space", "größe", "sub/a", "sub/deep/d", "0007", "x.y.z", "it's")

ATTRIBUTES: dict[str, st.SearchStrategy[Any]] = {
    "truncated": st.booleans(),
    "occluded": st.booleans(),
    "difficult": st.booleans(),
    "depiction": st.booleans(),
    "inside": st.booleans(),
    "pose": st.sampled_from(["Left", "Frontal"]),
    "group_id": st.integers(1, 9),
}


@st.composite
def datasets(
    draw: st.DrawFn, root: Path, holds: Holds | None = None, *, max_media: int = 4
) -> Dataset:
    """Pictures below ``root`` with labels of every kind, or only of the kinds that fit."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    stems = draw(st.lists(st.sampled_from(STEMS), min_size=1, max_size=max_media, unique=True))
    stems = sorted(stems)
    sizes = [(draw(st.integers(8, 40)), draw(st.integers(8, 40))) for _ in stems]
    geometries = [
        geometry
        for geometry, fits in (
            (Geometry.LABEL, holds is None or holds.labels),
            (Geometry.BOX, holds is None or holds.boxes),
            (Geometry.POLYGON, holds is None or holds.polygons),
            (Geometry.RLE, holds is None or holds.masks),
        )
        if fits
    ]
    rows = []
    for media_row, size in enumerate(sizes):
        for _ in range(draw(st.integers(0, 3))):
            geometry = draw(st.sampled_from(geometries))
            category = draw(st.integers(0, len(names) - 1))
            rows.append((media_row, category, geometry, *draw(_shapes(geometry, *size))))
    return Dataset(
        categories=_categories(draw, names, holds),
        media=_media(draw, [f"{root.as_posix()}/{stem}.jpg" for stem in stems], sizes, holds),
        annotations=_annotations(draw, rows, holds),
    )


def _categories(draw: st.DrawFn, names: list[str], holds: Holds | None) -> tuple[Category, ...]:
    sparse = (holds is None or holds.class_ids) and draw(st.booleans())
    above = holds is None or holds.supercategories
    return tuple(
        Category(
            name=name,
            origin_id=7 * position + 1 if sparse else position,
            supercategory="things" if above and position == 1 else "",
        )
        for position, name in enumerate(names)
    )


def _media(
    draw: st.DrawFn, uris: list[str], sizes: list[tuple[int, int]], holds: Holds | None
) -> MediaColumns:
    count = len(uris)
    split = np.full(count, Split.NONE, np.int8)
    if holds is None or holds.splits:
        split = np.array(draw(st.lists(st.sampled_from([0, 1, 2]), min_size=count, max_size=count)))
    return MediaColumns(
        id=np.arange(1, count + 1, dtype=np.int64),
        uri=uris,
        width=np.array([w for w, _ in sizes], np.int32),
        height=np.array([h for _, h in sizes], np.int32),
        split=split.astype(np.int8),
        parent_id=np.full(count, -1, np.int64),
    )


def _annotations(
    draw: st.DrawFn, rows: list[tuple[Any, ...]], holds: Holds | None
) -> AnnotationColumns:
    count = len(rows)
    everything = holds is None

    def flags(wanted: bool) -> np.ndarray:
        if not wanted:
            return np.zeros(count, np.bool_)
        return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), np.bool_)

    scored = flags(everything or bool(holds and holds.scores))
    made = flags(everything or bool(holds and holds.provenance))
    attributes = [draw(_attributes(holds)) for _ in rows]
    return AnnotationColumns(
        id=np.arange(1, count + 1, dtype=np.int64),
        media_index=np.array([row[0] for row in rows], np.int64),
        category_index=np.array([row[1] for row in rows], np.int64),
        boxes_xyxy=np.array([row[3] for row in rows], np.float64).reshape(count, 4),
        area=np.array([row[4] for row in rows], np.float64),
        is_crowd=flags(everything or bool(holds and holds.crowd)),
        score=np.where(scored, np.float32(0.25), np.float32(np.nan)).astype(np.float32),
        source=np.where(made, Source.MODEL, Source.HUMAN).astype(np.uint8),
        review_state=np.where(made, ReviewState.ACCEPTED, 0).astype(np.uint8),
        geometry=np.array([row[2] for row in rows], np.uint8),
        segmentation=RaggedBytes.of([row[5] for row in rows]),
        attributes=RaggedBytes.of(attributes),
    )


@st.composite
def _attributes(draw: st.DrawFn, holds: Holds | None) -> bytes | None:
    allowed = set(ATTRIBUTES)
    if holds is not None and holds.attributes != "all":
        allowed &= set(holds.attributes)
    names = [name for name in sorted(allowed) if draw(st.integers(0, 3)) == 0]
    return json.dumps({name: draw(ATTRIBUTES[name]) for name in names}).encode() if names else None


@st.composite
def _shapes(
    draw: st.DrawFn, geometry: Geometry, width: int, height: int
) -> tuple[list[float], float, bytes | None]:
    """Box, area and segmentation of one object inside the picture."""
    if geometry is Geometry.LABEL:
        return [0.0, 0.0, float(width), float(height)], float(width * height), None
    if geometry is Geometry.RLE:
        seed, share = draw(st.integers(0, 999)), draw(st.sampled_from([0.05, 0.5, 1.0]))
        mask = np.random.default_rng(seed).random((height, width)) < share
        mask[height // 2, width // 3] = True
        counts = rle.encode(mask)
        text = msgspec.json.encode(
            {"size": [height, width], "counts": rle.to_text(counts).decode()}
        )
        return rle.box_xyxy(counts, height).tolist(), float(rle.area(counts)), text
    x0, y0 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    if geometry is Geometry.BOX:
        fraction = draw(st.sampled_from([0.0, 0.25, 0.123456]))
        box = [x0 + fraction if x0 + fraction < x1 else x0, float(y0), float(x1), float(y1)]
        return box, (box[2] - box[0]) * (box[3] - box[1]), None
    triangle = [x0, y0, x1, y0, (x0 + x1) / 2, y1]
    text = msgspec.json.encode([[float(value) for value in triangle]])
    return [float(x0), float(y0), float(x1), float(y1)], (x1 - x0) * (y1 - y0) / 2, text


def write_pictures(dataset: Dataset) -> None:
    """An even picture of the right size for every medium: some formats have no other size."""
    for uri, width, height in zip(
        dataset.media.uri, dataset.media.width.tolist(), dataset.media.height.tolist(), strict=True
    ):
        path = Path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jpeg(path, np.full((height, width, 3), 90, np.uint8))


def comparable(dataset: Dataset, root: Path) -> dict[str, Any]:
    """A data set as plain values that two formats can be compared by, in no order of rows.

    Masks are compared by their pixels, polygons too; boxes to a thousandth of a pixel.
    """
    labels, names = dataset.annotations, [category.name for category in dataset.categories]
    prefix = root.as_posix() + "/"
    pictures: dict[str, list[Any]] = {}
    for row, uri in enumerate(dataset.media.uri):
        rows = range(*dataset.rows_of(row).indices(len(labels)))
        size = int(dataset.media.height[row]), int(dataset.media.width[row])
        entries = [_entry(labels, index, names, size) for index in rows]
        pictures[uri.removeprefix(prefix)] = sorted(entries, key=repr)
    return {"classes": names, "pictures": pictures}


def _entry(
    labels: AnnotationColumns, row: int, names: list[str], size: tuple[int, int]
) -> dict[str, Any]:
    geometry, text = Geometry(labels.geometry[row]), labels.segmentation[row] or b""
    shape = None
    if geometry is Geometry.POLYGON:
        geometry, text = Geometry.RLE, masks.polygons_to_rle(text, *size)
    if geometry is Geometry.RLE:
        counts, _, _ = rle.from_json(text)
        shape = rle.to_text(counts).decode()
    score = float(labels.score[row])
    return {
        "class": names[labels.category_index[row]],
        "geometry": geometry.name,
        "box": np.round(labels.boxes_xyxy[row], 3).tolist() if shape is None else None,
        "shape": shape,
        "crowd": bool(labels.is_crowd[row]),
        "score": None if np.isnan(score) else round(score, 5),
        "source": int(labels.source[row]),
        "review_state": int(labels.review_state[row]),
        "attributes": json.loads(labels.attributes[row] or b"{}"),
    }
