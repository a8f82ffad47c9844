"""Media out of the catalogue, with everything that hangs on them; versions keep what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data import schema
from tilth.data.bulk import blocks_of_keys, rows_where_in
from tilth.data.features import forget_media_features
from tilth.errors import DataError

__all__ = ["Removal", "remove_media"]


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What was taken out.

    Attributes:
        media: the media that were named.
        derived: media made from those, or from one of these in turn.
        annotations: labels of both, in all tasks.
        reviewed: how many of the labels were reviewed or edited here.
    """

    media: int
    derived: int
    annotations: int
    reviewed: int


def remove_media(
    connection: Connection, media_ids: NDArray[np.int64], *, dry_run: bool = False
) -> Removal:
    """Take media out inside the caller's write transaction; their files stay where they are.

    Args:
        media_ids: int64 [k] catalogue ids.
        dry_run: only count.

    Raises:
        DataError: an id that the catalogue does not have.
    """
    named = np.unique(np.asarray(media_ids, dtype=np.int64))
    known = _ids_where(connection, schema.media.c.id, named)
    unknown = np.setdiff1d(named, known)
    if len(unknown):
        raise DataError("a medium that the catalogue does not have", got=f"id {unknown[0]}")
    levels = _generations(connection, named)
    ids = np.concatenate(levels)
    table = schema.annotations
    (review_states,) = rows_where_in(
        connection, sa.select(table.c.review_state), table.c.media_id, ids.tolist(), ["int8"]
    )
    if not dry_run:
        _delete(connection, levels)
    return Removal(
        media=len(named),
        derived=len(ids) - len(named),
        annotations=len(review_states),
        reviewed=int((review_states != 0).sum()),
    )


def _generations(connection: Connection, media_ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The media, what was made from them, what was made from that, ...; none of them twice."""
    levels = [media_ids]
    while len(levels[-1]):
        children = _ids_where(connection, schema.media.c.parent_id, levels[-1])
        # A child that was named itself goes with its parent's level: later ones are deleted first.
        levels = [np.setdiff1d(level, children) for level in levels]
        levels.append(children)
    return levels


def _ids_where(
    connection: Connection, column: sa.Column[int], values: NDArray[np.int64]
) -> NDArray[np.int64]:
    query = sa.select(schema.media.c.id)
    ids: NDArray[np.int64] = rows_where_in(connection, query, column, values.tolist(), ["int64"])[0]
    return ids


def _delete(connection: Connection, levels: Sequence[NDArray[np.int64]]) -> None:
    """Children before parents, and rows that point at a medium before the medium."""
    for ids in reversed(levels):
        forget_media_features(connection, ids)
        for block in blocks_of_keys(ids.tolist()):
            for table in (schema.annotations, schema.media_tags, schema.task_media):
                connection.execute(table.delete().where(table.c.media_id.in_(block)))
            connection.execute(schema.media.delete().where(schema.media.c.id.in_(block)))
