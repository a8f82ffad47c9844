"""Train, validation and test: decided for originals, followed by everything made from them.

The part that a picture falls into depends on its own name (or its group's) and the seed, on nothing
else: adding pictures never moves one that was assigned before. The name is the path seen from the
project, so that project and pictures moved together divide as before. The shares are met in
expectation. All frames of a video fall into one part.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data import schema
from tilth.data.bulk import rows_where_in
from tilth.data.dataset import Dataset
from tilth.data.records import Split
from tilth.data.video import split_frame
from tilth.errors import DataError, SettingsError
from tilth.seeding import derive_seed

__all__ = ["assign_splits", "root_rows", "split_by_parent"]

_PARTS = (Split.TRAIN, Split.VAL, Split.TEST)


def split_by_parent(
    dataset: Dataset,
    fractions: Sequence[float],
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    root: Path | None = None,
) -> NDArray[np.int8]:
    """`Split` codes int8 [n]: originals by the hash of their uri, derived media by their parent.

    Args:
        fractions: shares of train, val and test, adding up to 1.
        groups: n names; originals of one group (a street, a patient) fall into one part.
        root: the project's folder: absolute paths are taken relative to it.

    Raises:
        SettingsError: the shares cannot be used.
        DataError: a derived medium whose parent is not in the data set.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if (
        shares.shape != (3,)
        or not np.isfinite(shares).all()
        or (shares < 0).any()
        or (abs(shares.sum() - 1.0) > 1e-9)
    ):
        raise SettingsError(
            "the shares of the splits cannot be used",
            expected="three numbers, none negative, adding up to 1 (train, val, test)",
            got=str(list(fractions)),
        )
    names = _names(dataset.media.uri, root) if groups is None else groups
    roots = root_rows(dataset)
    draws = np.array([derive_seed(seed, "split", names[row]) for row in roots.tolist()]) / 2.0**63
    bounds = np.cumsum(shares)
    bounds[np.flatnonzero(shares)[-1] :] = np.inf  # rounding must not push anyone past the end
    codes = np.array(_PARTS, dtype=np.int8)
    return codes[np.searchsorted(bounds, draws, side="right")]


def _names(uris: Sequence[str], root: Path | None) -> Sequence[str]:
    """Names to draw by: all frames of a video have one, so that they stay together."""
    names = [split_frame(uri)[0] for uri in uris]
    if root is None:
        return names
    return [os.path.relpath(name, root) if os.path.isabs(name) else name for name in names]


def assign_splits(
    connection: Connection, media_ids: NDArray[np.int64], splits: NDArray[np.int8]
) -> None:
    """Write the codes, then let derived media follow, inside the caller's write transaction.

    Raises:
        DataError: an unknown medium, or a derived one set apart from its parent.
    """
    table = schema.media
    ids, codes = np.asarray(media_ids, dtype=np.int64), np.asarray(splits, dtype=np.int8)
    (known,) = rows_where_in(connection, sa.select(table.c.id), table.c.id, ids.tolist(), ["int64"])
    unknown = np.setdiff1d(ids, known)
    if len(unknown):
        raise DataError("a medium that the catalogue does not have", got=f"id {unknown[0]}")
    if not len(ids):
        return
    connection.execute(
        table.update()
        .where(table.c.id == sa.bindparam("b_id"))
        .values(split=sa.bindparam("b_split")),
        [
            {"b_id": key, "b_split": code}
            for key, code in zip(ids.tolist(), codes.tolist(), strict=True)
        ],
    )
    _follow_parents(connection)
    _refuse_leaks(connection, ids, codes)


def _follow_parents(connection: Connection) -> None:
    table, parent = schema.media, schema.media.alias("parent")
    of_parent = sa.select(parent.c.split).where(parent.c.id == table.c.parent_id).scalar_subquery()
    step = (
        table.update()
        .where(table.c.parent_id.is_not(None) & (table.c.split != of_parent))
        .values(split=of_parent)
    )
    while connection.execute(step).rowcount:  # a derived picture may have derived ones itself
        pass


def _refuse_leaks(connection: Connection, ids: NDArray[np.int64], codes: NDArray[np.int8]) -> None:
    table = schema.media
    query = sa.select(table.c.id, table.c.split, table.c.uri).where(table.c.parent_id.is_not(None))
    derived, split, uris = rows_where_in(
        connection, query, table.c.id, ids.tolist(), ["int64", "int8", "object"]
    )
    wanted = dict(zip(ids.tolist(), codes.tolist(), strict=True))
    for key, code, uri in zip(derived.tolist(), split.tolist(), uris, strict=True):
        if wanted[key] != code:
            raise DataError(
                "a derived picture would be set apart from its parent, and leak",
                where=uri,
                expected=Split(code).name.lower(),
                got=Split(wanted[key]).name.lower(),
                fix="split with tilth.data.splits.split_by_parent",
            )


def root_rows(dataset: Dataset) -> NDArray[np.int64]:
    """int64 [n]: the row of the original that each medium was made from, itself where it is one.

    Raises:
        DataError: a derived medium whose parent is not in the data set.
    """
    media = dataset.media
    rows = np.arange(len(media), dtype=np.int64)
    derived = media.parent_id >= 0
    if not derived.any():
        return rows
    order = np.argsort(media.id, kind="stable")
    at = np.searchsorted(media.id, media.parent_id[derived], sorter=order)
    parents = order[np.minimum(at, len(order) - 1)]
    lost = media.id[parents] != media.parent_id[derived]
    if lost.any():
        raise DataError(
            "a derived picture whose parent is not in the data set",
            where=media.uri[np.flatnonzero(derived)[lost][0]],
        )
    up = rows.copy()
    up[derived] = parents
    for _ in range(len(media).bit_length()):  # each round doubles the generations that are climbed
        up = up[up]
    if derived[up].any():
        raise DataError("pictures that are each other's parents")
    return up
