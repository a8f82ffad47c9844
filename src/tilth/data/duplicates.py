"""The same labels under two names would double every box: found before they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data import schema
from tilth.data.bulk import rows_where_in
from tilth.errors import DataError

__all__ = ["refuse_duplicates"]

_CORNERS = ("x0", "y0", "x1", "y1")


def refuse_duplicates(
    connection: Connection,
    labels: dict[str, Any],
    origin_id: int,
    known_media: NDArray[np.int64],
) -> None:
    """Refuse new labels that another origin has already: same medium, category and box.

    Args:
        labels: as `tilth.data.labels.incoming_labels` gives them.
        origin_id: of the labels; those that it has already are no new ones.
        known_media: catalogue ids of the media that were there before.

    Raises:
        DataError: with the number of such labels, and the origin that has most of them.
    """
    table = schema.annotations
    dtypes = {name: "int64" for name in ("origin_id", "media_id", "origin_key", "category_id")}
    dtypes |= dict.fromkeys(_CORNERS, "float64")
    columns = rows_where_in(
        connection,
        sa.select(*(table.c[name] for name in dtypes)),
        table.c.media_id,
        np.unique(known_media).tolist(),
        list(dtypes.values()),
    )
    stored = dict(zip(dtypes, columns, strict=True))
    own = stored["origin_id"] == origin_id
    is_new = ~np.isin(_keys(labels), _keys(stored)[own])
    contents = _contents(stored)
    twice = is_new & np.isin(_contents(labels), contents[~own])
    if not twice.any():
        return
    shared = ~own & np.isin(contents, _contents(labels)[twice])
    first = _origin_name(connection, int(np.bincount(stored["origin_id"][shared]).argmax()))
    raise DataError(
        f"{int(twice.sum())} labels are in the catalogue already, from another origin",
        where=f"origin '{first}'",
        expected="new labels: another picture, class or box",
        got=f"{int(twice.sum())} of {len(twice)} the same",
        fix=f"--origin {first} to update those, or --origin NEW to keep both on purpose",
    )


def _keys(labels: dict[str, Any]) -> NDArray[np.void]:
    return _rows([labels["media_id"], labels["origin_key"]])


def _contents(labels: dict[str, Any]) -> NDArray[np.void]:
    corners = [(labels[name] + 0.0).view(np.int64) for name in _CORNERS]  # -0.0 becomes 0.0
    return _rows([labels["media_id"], labels["category_id"], *corners])


def _rows(columns: list[NDArray[np.int64]]) -> NDArray[np.void]:
    """One value a row, so that rows can be looked up among others."""
    rows = np.stack(columns, axis=1)
    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows.strides[0]))).reshape(-1)


def _origin_name(connection: Connection, origin_id: int) -> str:
    table = schema.origins
    return str(connection.execute(sa.select(table.c.name).where(table.c.id == origin_id)).scalar())
