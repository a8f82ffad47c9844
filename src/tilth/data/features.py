"""Measured numbers of media and annotations: a row of float64 each, current or stale.

A row of an annotation remembers the revision that was measured; after an edit it is stale and
reads as missing, so that nothing is ever computed from a box that has moved.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data import schema
from tilth.data.bulk import blocks_of_keys, next_id, read_columns, rows_where_in, upsert_columns
from tilth.errors import DataError

__all__ = [
    "Features",
    "Owner",
    "forget_annotation_features",
    "forget_media_features",
    "missing_features",
    "read_features",
    "write_features",
]

Owner = Literal["media", "annotation"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """The current rows of a feature set.

    Attributes:
        columns: c names.
        ids: int64 [k], ascending: catalogue ids of media or annotations.
        values: float64 [k, c].
    """

    columns: tuple[str, ...]
    ids: NDArray[np.int64]
    values: NDArray[np.float64]


def write_features(
    connection: Connection,
    feature_set: str,
    columns: Sequence[str],
    owner: Owner,
    ids: NDArray[np.int64],
    values: NDArray[np.float64],
) -> None:
    """Insert or replace rows inside the caller's write transaction.

    Args:
        ids: int64 [k].
        values: float64 [k, c]; NaN where a measure is not defined.

    Raises:
        DataError: the set has other columns or another owner, or an id is unknown.
    """
    ids = np.asarray(ids, dtype=np.int64)
    values = np.ascontiguousarray(values, dtype="<f8").reshape(len(ids), -1)
    if values.shape[1] != len(columns):
        raise DataError(
            "values and columns do not agree",
            where=f"feature set '{feature_set}'",
            expected=f"{len(columns)} a row",
            got=str(values.shape[1]),
        )
    set_id = _set_id(connection, feature_set, tuple(columns), owner)
    revisions = _revisions(connection, owner, ids)
    if len(ids):
        upsert_columns(
            connection,
            schema.features,
            {
                "set_id": np.full(len(ids), set_id, dtype=np.int64),
                "owner_id": ids,
                "revision": revisions,
                "data": [row.tobytes() for row in values],
            },
            key=("set_id", "owner_id"),
        )


def read_features(connection: Connection, feature_set: str) -> Features:
    """The rows that are current; none of a set that nobody has written."""
    known = _find(connection, feature_set)
    if known is None:
        return Features(columns=(), ids=np.empty(0, dtype=np.int64), values=np.empty((0, 0)))
    columns = tuple(json.loads(known.columns))
    query = _current(known.id, known.owner, schema.features.c.data)
    ids, rows = read_columns(connection, query, ["int64", "bytes"])
    values = np.frombuffer(rows.data, dtype="<f8").reshape(len(ids), len(columns))
    return Features(columns=columns, ids=ids, values=values)


def missing_features(
    connection: Connection, feature_set: str, ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those of ``ids``, in their order, that have no current row."""
    ids = np.asarray(ids, dtype=np.int64)
    known = _find(connection, feature_set)
    if known is None:
        return ids
    (current,) = read_columns(connection, _current(known.id, known.owner), ["int64"])
    return ids[~np.isin(ids, current)]


def forget_media_features(connection: Connection, media_ids: NDArray[np.int64]) -> int:
    """Delete what was measured of media and of their annotations; the number of rows."""
    table, sets, annotations = schema.features, schema.feature_sets, schema.annotations
    forgotten = 0
    for block in blocks_of_keys(np.asarray(media_ids).tolist()):
        owned: dict[str, Any] = {
            "media": block,
            "annotation": sa.select(annotations.c.id).where(annotations.c.media_id.in_(block)),
        }
        for owner, owner_ids in owned.items():
            of_owner = sa.select(sets.c.id).where(sets.c.owner == owner)
            forgotten += connection.execute(
                table.delete().where(table.c.set_id.in_(of_owner) & table.c.owner_id.in_(owner_ids))
            ).rowcount
    return forgotten


def forget_annotation_features(connection: Connection, annotation_ids: NDArray[np.int64]) -> None:
    """Delete what was measured of annotations."""
    table, sets = schema.features, schema.feature_sets
    of_owner = sa.select(sets.c.id).where(sets.c.owner == "annotation")
    for block in blocks_of_keys(np.asarray(annotation_ids).tolist()):
        connection.execute(
            table.delete().where(table.c.set_id.in_(of_owner) & table.c.owner_id.in_(block))
        )


def _find(connection: Connection, name: str) -> Any:
    table = schema.feature_sets
    return connection.execute(sa.select(table).where(table.c.name == name)).first()


def _current(set_id: int, owner: str, *columns: sa.Column[Any]) -> sa.Select[Any]:
    table, annotations = schema.features, schema.annotations
    query = sa.select(table.c.owner_id, *columns).where(table.c.set_id == set_id)
    if owner == "annotation":
        same = (annotations.c.id == table.c.owner_id) & (annotations.c.revision == table.c.revision)
        query = query.join(annotations, same)
    return query.order_by(table.c.owner_id)


def _set_id(connection: Connection, name: str, columns: tuple[str, ...], owner: Owner) -> int:
    known = _find(connection, name)
    if known is not None:
        if known.owner != owner or tuple(json.loads(known.columns)) != columns:
            raise DataError(
                f"feature set '{name}' is defined otherwise",
                expected=f"{known.owner}: {', '.join(json.loads(known.columns))}",
                got=f"{owner}: {', '.join(columns)}",
                fix="give the new definition a name of its own",
            )
        return int(known.id)
    new = next_id(connection, schema.feature_sets)
    connection.execute(
        schema.feature_sets.insert().values(
            id=new, name=name, owner=owner, columns=json.dumps(columns)
        )
    )
    return new


def _revisions(connection: Connection, owner: Owner, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The current revision of each owner; media are not edited and stay at 0."""
    if owner == "annotation":
        table = schema.annotations
        query = sa.select(table.c.id, table.c.revision)
        known, revisions = rows_where_in(
            connection, query, table.c.id, ids.tolist(), ["int64", "int64"]
        )
    else:
        (known,) = rows_where_in(
            connection, sa.select(schema.media.c.id), schema.media.c.id, ids.tolist(), ["int64"]
        )
        revisions = np.zeros(len(known), dtype=np.int64)
    unknown = np.setdiff1d(ids, known)
    if len(unknown):
        raise DataError(f"an {owner} that the catalogue does not have", got=f"id {unknown[0]}")
    order = np.argsort(known)
    return revisions[order][np.searchsorted(known[order], ids)]
