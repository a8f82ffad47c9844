"""Annotations into the catalogue: what is new, what changed, what was edited here and stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data import schema
from tilth.data.bulk import blocks_of_keys, insert_columns, next_id, rows_where_in
from tilth.data.dataset import Dataset
from tilth.data.features import forget_annotation_features
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import ReviewState, Source
from tilth.errors import DataError

__all__ = ["LabelOutcome", "incoming_labels", "insert_labels", "merge_labels", "update_boxes"]

Columns = dict[str, Any]
"""Column name of the annotations table -> array or `RaggedBytes`, all of one length."""

# What a label file may change in an annotation that nobody has reviewed here.
_CONTENT = {
    "category_id": "int64",
    "x0": "float64",
    "y0": "float64",
    "x1": "float64",
    "y1": "float64",
    "area": "float64",
    "is_crowd": "int8",
    "score": "float32",
    "source": "int8",
    "geometry": "int8",
    "attributes": "bytes",
    "segmentation": "bytes",
}


@dataclass(frozen=True, kw_only=True)
class LabelOutcome:
    """How many annotations an import added, changed, left, kept against the file, and missed."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    kept: int = 0
    absent: int = 0
    removed: int = 0


def incoming_labels(
    dataset: Dataset,
    media_ids: NDArray[np.int64],
    category_ids: NDArray[np.int64],
    problems: LabelReport,
) -> Columns:
    """The data set's annotations as columns of the table, but for ids, origin and revision.

    Sorted by medium, so that the one index is filled from left to right.
    """
    labels = dataset.annotations
    media = media_ids[labels.media_index]
    by_key = np.lexsort((labels.id, media))
    twice = (np.diff(media[by_key]) == 0) & (np.diff(labels.id[by_key]) == 0)
    repeated = by_key[1:][twice]
    problems.add(
        "annotation id that its picture has twice",
        "the first kept",
        [f"annotation {key}" for key in labels.id[repeated[:5]].tolist()],
        count=len(repeated),
    )
    rows = np.argsort(media, kind="stable")
    rows = rows[~np.isin(rows, repeated)] if len(repeated) else rows
    boxes = labels.boxes_xyxy[rows]
    return {
        "media_id": media[rows],
        "category_id": category_ids[labels.category_index[rows]],
        "origin_key": labels.id[rows],
        **{name: boxes[:, i] for i, name in enumerate(("x0", "y0", "x1", "y1"))},
        "area": labels.area[rows],
        "is_crowd": labels.is_crowd[rows].astype(np.int8),
        "score": labels.score[rows],
        "source": labels.source[rows],
        "review_state": labels.review_state[rows],
        "geometry": labels.geometry[rows],
        "attributes": RaggedBytes.of(labels.attributes).take(rows),
        "segmentation": RaggedBytes.of(labels.segmentation).take(rows),
    }


def insert_labels(
    connection: Connection,
    labels: Columns,
    origin_id: int,
    *,
    advance: Callable[[int], object] | None = None,
) -> LabelOutcome:
    """Insert annotations of which none is in the catalogue yet."""
    count = len(labels["media_id"])
    if count:
        start = next_id(connection, schema.annotations)
        ids = np.arange(start, start + count, dtype=np.int64)
        shared = {"origin_id": origin_id, "revision": 0}
        insert_columns(
            connection, schema.annotations, {"id": ids, **shared, **labels}, advance=advance
        )
    return LabelOutcome(added=count)


def merge_labels(
    connection: Connection,
    labels: Columns,
    origin_id: int,
    known_media: NDArray[np.int64],
    *,
    overwrite: bool = False,
    advance: Callable[[int], object] | None = None,
) -> LabelOutcome:
    """Insert what is new, update what changed, keep what was reviewed here.

    Args:
        known_media: catalogue ids of the media that were there before.
        overwrite: what was reviewed here is changed as well, and what the file no longer has of
            these media is deleted.
    """
    stored = _stored(connection, origin_id, np.unique(known_media))
    at = {
        key: row
        for row, key in enumerate(
            zip(stored["media_id"].tolist(), stored["origin_key"].tolist(), strict=True)
        )
    }
    keys = zip(labels["media_id"].tolist(), labels["origin_key"].tolist(), strict=True)
    match = np.fromiter((at.get(key, -1) for key in keys), np.int64, len(labels["media_id"]))
    new, old = np.flatnonzero(match < 0), np.flatnonzero(match >= 0)
    differs = _differs(_take(labels, old), _take(stored, match[old]))
    reviewed = stored["review_state"][match[old]] != ReviewState.UNREVIEWED
    changed = old[differs] if overwrite else old[differs & ~reviewed]
    if len(changed):
        _update(connection, stored["id"][match[changed]], _take(labels, changed))
    absent = np.setdiff1d(stored["id"], stored["id"][match[old]])
    if overwrite:
        _delete(connection, absent)
    fresh = _take(labels, new)
    inserted = insert_labels(connection, fresh, origin_id, advance=advance)
    return LabelOutcome(
        added=inserted.added,
        updated=len(changed),
        unchanged=int((~differs).sum()),
        kept=int((differs & reviewed).sum()) if not overwrite else 0,
        absent=len(absent) if not overwrite else 0,
        removed=len(absent) if overwrite else 0,
    )


def update_boxes(
    connection: Connection, annotation_ids: NDArray[np.int64], boxes_xyxy: NDArray[np.float64]
) -> None:
    """Move boxes by hand: the annotation becomes CORRECTED and its revision goes up.

    A model's label is a person's from then on. The area follows the box unless the annotation has
    a mask, whose area it is.

    Args:
        annotation_ids: int64 [k].
        boxes_xyxy: float64 [k, 4], pixels.

    Raises:
        DataError: an unknown id, or a box that is not finite or has no area.
    """
    table = schema.annotations
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    sizes = boxes[:, 2:] - boxes[:, :2]
    bad = ~(np.isfinite(boxes).all(axis=1) & (sizes > 0).all(axis=1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            "a box must be finite and have an area",
            where=f"annotation {annotation_ids[row]}",
            got=str(boxes[row].tolist()),
        )
    b: dict[str, sa.BindParameter[Any]] = {
        name: sa.bindparam(f"b_{name}") for name in ("id", "x0", "y0", "x1", "y1", "area")
    }
    result = connection.execute(
        table.update()
        .where(table.c.id == b["id"])
        .values(
            x0=b["x0"],
            y0=b["y0"],
            x1=b["x1"],
            y1=b["y1"],
            area=sa.case((table.c.segmentation.is_(None), b["area"]), else_=table.c.area),
            revision=table.c.revision + 1,
            review_state=int(ReviewState.CORRECTED),
            source=sa.case(
                (table.c.source == int(Source.MODEL), int(Source.HUMAN)), else_=table.c.source
            ),
        ),
        [
            {"b_id": key, "b_x0": x0, "b_y0": y0, "b_x1": x1, "b_y1": y1, "b_area": area}
            for key, (x0, y0, x1, y1), area in zip(
                np.asarray(annotation_ids).tolist(),
                boxes.tolist(),
                sizes.prod(axis=1).tolist(),
                strict=True,
            )
        ],
    )
    if result.rowcount != len(boxes):
        raise DataError("an annotation that the catalogue does not have", got=f"{annotation_ids}")


def _stored(connection: Connection, origin_id: int, media_ids: NDArray[np.int64]) -> Columns:
    """The annotations that the catalogue has of these media from the same origin."""
    table = schema.annotations
    names = {"id": "int64", "media_id": "int64", "origin_key": "int64", "review_state": "int8"}
    dtypes = names | _CONTENT
    query = sa.select(*(table.c[name] for name in dtypes)).where(table.c.origin_id == origin_id)
    columns = rows_where_in(
        connection, query, table.c.media_id, media_ids.tolist(), list(dtypes.values())
    )
    return dict(zip(dtypes, columns, strict=True))


def _differs(ours: Columns, theirs: Columns) -> NDArray[np.bool_]:
    differs = np.zeros(len(ours["media_id"]), dtype=np.bool_)
    for name, dtype in _CONTENT.items():
        a, b = ours[name], theirs[name]
        if dtype == "bytes":
            differs |= np.fromiter(
                (x != y for x, y in zip(a, b, strict=True)), np.bool_, len(differs)
            )
        elif dtype.startswith("float"):
            differs |= ~((a == b) | (np.isnan(a) & np.isnan(b)))
        else:
            differs |= a != b
    return differs


def _update(connection: Connection, ids: NDArray[np.int64], labels: Columns) -> None:
    table = schema.annotations
    names = [*_CONTENT, "review_state"]
    values: dict[str, sa.BindParameter[Any]] = {name: sa.bindparam(f"b_{name}") for name in names}
    columns = [
        labels[name].tolist() if isinstance(labels[name], np.ndarray) else list(labels[name])
        for name in names
    ]
    connection.execute(
        table.update()
        .where(table.c.id == sa.bindparam("b_id"))
        .values(**values, revision=table.c.revision + 1),
        [
            {"b_id": key, **{f"b_{name}": value for name, value in zip(names, row, strict=True)}}
            for key, row in zip(ids.tolist(), zip(*columns, strict=True), strict=True)
        ],
    )


def _delete(connection: Connection, ids: NDArray[np.int64]) -> None:
    forget_annotation_features(connection, ids)  # an id may be given again
    for block in blocks_of_keys(ids.tolist()):
        connection.execute(schema.annotations.delete().where(schema.annotations.c.id.in_(block)))


def _take(columns: Columns, rows: NDArray[np.int64]) -> Columns:
    return {
        name: column.take(rows) if isinstance(column, RaggedBytes) else column[rows]
        for name, column in columns.items()
    }
