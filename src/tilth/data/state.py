"""The current state of a task, read from the catalogue as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data import schema
from tilth.data.bulk import read_columns
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category
from tilth.errors import DataError

__all__ = ["category_boxes", "content_hashes", "read_state", "task_id_or_error"]

_ANNOTATION_DTYPES = {
    "id": "int64",
    "media_id": "int64",
    "category_id": "int64",
    "x0": "float64",
    "y0": "float64",
    "x1": "float64",
    "y1": "float64",
    "area": "float64",
    "is_crowd": "bool",
    "score": "float32",
    "source": "uint8",
    "review_state": "uint8",
    "geometry": "uint8",
    "segmentation": "bytes",
    "attributes": "bytes",
}


def read_state(connection: Connection, task: str) -> Dataset:
    """Media by id, annotations by medium and id, categories in their order.

    Raises:
        DataError: the catalogue has tasks, but not this one.
    """
    task_id = task_id_or_error(connection, task)
    if task_id is None:
        return _empty()
    category_ids, categories = _categories(connection, task_id)
    media = _media(connection, task_id)
    table = schema.annotations
    columns = read_columns(
        connection,
        sa.select(*(table.c[name] for name in _ANNOTATION_DTYPES))
        .join(schema.origins, schema.origins.c.id == table.c.origin_id)
        .where(schema.origins.c.task_id == task_id)
        .order_by(table.c.id),
        list(_ANNOTATION_DTYPES.values()),
    )
    return Dataset(
        categories=categories,
        media=media,
        annotations=_annotations(
            dict(zip(_ANNOTATION_DTYPES, columns, strict=True)), media.id, category_ids
        ),
    )


def category_boxes(
    connection: Connection, task: str, category: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Media ids int64 [k] and boxes float64 [k, 4] of one category, by medium.

    Raises:
        DataError: no such task or category.
    """
    task_id = task_id_or_error(connection, task)
    table, names = schema.annotations, schema.categories
    category_id = connection.execute(
        sa.select(names.c.id).where((names.c.task_id == task_id) & (names.c.name == category))
    ).scalar()
    if category_id is None:
        raise DataError("no such category", got=category, where=f"task '{task}'")
    media, *corners = read_columns(
        connection,
        sa.select(table.c.media_id, table.c.x0, table.c.y0, table.c.x1, table.c.y1).where(
            table.c.category_id == category_id
        ),
        ["int64"] + ["float64"] * 4,
    )
    order = np.argsort(media, kind="stable")
    return media[order], np.stack(corners, axis=1)[order]


def content_hashes(connection: Connection, media_ids: NDArray[np.int64]) -> list[str | None]:
    """The content hash of each medium, None where no pass has decoded it yet."""
    table = schema.media
    ids, hashes = read_columns(
        connection, sa.select(table.c.id, table.c.content_hash), ["object", "object"]
    )
    known = dict(zip(ids, hashes, strict=True))
    return [known.get(key) for key in media_ids.tolist()]


def task_id_or_error(connection: Connection, task: str) -> int | None:
    """The id of a task; None in a catalogue without any task.

    Raises:
        DataError: the catalogue has tasks, but not this one.
    """
    table = schema.tasks
    rows = connection.execute(sa.select(table.c.name, table.c.id)).all()
    known = {row.name: row.id for row in rows}
    if task not in known and known:
        raise DataError("no such task", expected=", ".join(sorted(known)), got=task)
    return known.get(task)


def _categories(
    connection: Connection, task_id: int
) -> tuple[NDArray[np.int64], tuple[Category, ...]]:
    table = schema.categories
    rows = connection.execute(
        sa.select(table).where(table.c.task_id == task_id).order_by(table.c.position)
    ).all()
    categories = tuple(
        Category(name=row.name, origin_id=row.origin_id, supercategory=row.supercategory)
        for row in rows
    )
    return np.array([row.id for row in rows], dtype=np.int64), categories


def _media(connection: Connection, task_id: int) -> MediaColumns:
    table, covered = schema.media, schema.task_media
    parent = sa.func.coalesce(table.c.parent_id, -1)
    ids, uris, width, height, split, parent_id, attributes = read_columns(
        connection,
        sa.select(
            table.c.id,
            table.c.uri,
            table.c.width,
            table.c.height,
            table.c.split,
            parent,
            table.c.attributes,
        )
        .join(covered, covered.c.media_id == table.c.id)
        .where(covered.c.task_id == task_id)
        .order_by(table.c.id),
        ["int64", "object", "int32", "int32", "int8", "int64", "bytes"],
    )
    return MediaColumns(
        id=ids,
        uri=uris,
        width=width,
        height=height,
        split=split,
        parent_id=parent_id,
        attributes=attributes if attributes.lengths.any() else (),
    )


def _annotations(
    columns: dict[str, Any], media_ids: NDArray[np.int64], category_ids: NDArray[np.int64]
) -> AnnotationColumns:
    media_index = np.searchsorted(media_ids, columns["media_id"])
    order = np.argsort(media_index, kind="stable")
    by_id = np.argsort(category_ids)
    category_index = by_id[np.searchsorted(category_ids, columns["category_id"], sorter=by_id)]
    boxes = np.stack([columns[name] for name in ("x0", "y0", "x1", "y1")], axis=1)
    plain = ("id", "area", "is_crowd", "score", "source", "review_state", "geometry")
    return AnnotationColumns(
        media_index=media_index[order].astype(np.int64),
        category_index=category_index[order].astype(np.int64),
        boxes_xyxy=boxes[order],
        segmentation=columns["segmentation"].take(order),
        attributes=columns["attributes"].take(order),
        **{name: columns[name][order] for name in plain},
    )


def _empty() -> Dataset:
    """What a catalogue holds before the first import."""
    none = np.empty(0, dtype=np.int64)
    return Dataset(
        categories=(),
        media=MediaColumns(
            id=none,
            uri=[],
            width=none.astype(np.int32),
            height=none.astype(np.int32),
            split=none.astype(np.int8),
            parent_id=none,
        ),
        annotations=AnnotationColumns(
            id=none,
            media_index=none,
            category_index=none,
            boxes_xyxy=np.empty((0, 4)),
            area=np.empty(0),
            is_crowd=none.astype(np.bool_),
            score=none.astype(np.float32),
            source=none.astype(np.uint8),
            review_state=none.astype(np.uint8),
            geometry=none.astype(np.uint8),
            segmentation=RaggedBytes.empty(0),
            attributes=RaggedBytes.empty(0),
        ),
    )
