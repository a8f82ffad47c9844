"""A model's labels into the catalogue: replaced together, and never over what somebody reviewed.

All labels of one detector have one origin. What it was (weights, thresholds, classes) is its
`identity`; a tag on every picture that it has seen says so, also where it found nothing. That is
how an interrupted run goes on, and how results of other weights are told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data import schema
from tilth.data.bulk import blocks_of_keys, read_columns, rows_where_in
from tilth.data.dataset import Dataset
from tilth.data.features import forget_annotation_features
from tilth.data.importing import import_dataset, task_id_of
from tilth.data.preannotation import as_preannotations
from tilth.data.records import ReviewState, Source
from tilth.errors import DataError

__all__ = ["ModelLabels", "media_seen_by", "review_labels", "write_model_labels"]

SAME_OBJECT_IOU = 0.5  # a proposal this near to a reviewed label of its class proposes nothing new


@dataclass(frozen=True, kw_only=True)
class ModelLabels:
    """What one batch of a model's labels changed.

    Attributes:
        added, removed: labels, all of this model and not reviewed.
        answered: proposals left out because a label of this model in the same place was reviewed.
    """

    added: int
    removed: int
    answered: int


def write_model_labels(
    connection: Connection, dataset: Dataset, *, task: str, origin: str, identity: str
) -> ModelLabels:
    """Replace what a model says about these media, inside the caller's write transaction.

    Args:
        dataset: media of the catalogue, found by their uri, and the model's labels; their ids are
            given anew.
        origin: the model's name among the sources of labels.
        identity: of weights and settings, without a colon; the media are marked as seen by it.
    """
    origin_id = _origin_id(connection, task, origin)
    media_ids = _media_ids(connection, dataset.media.uri)
    removed = 0
    first_key = np.zeros(len(media_ids), dtype=np.int64)
    answered = np.zeros(len(dataset.annotations), dtype=np.bool_)
    if origin_id is not None:
        removed = _delete_waiting(connection, origin_id, media_ids)
        reviewed = _Reviewed.read(connection, origin_id, media_ids)
        answered = reviewed.cover(dataset, media_ids)
        first_key = reviewed.first_free_key(media_ids)
    kept = as_preannotations(dataset.keep_annotations(~answered))
    rows = kept.annotations
    ids = first_key[rows.media_index] + np.arange(len(rows)) - kept.offsets[rows.media_index]
    kept = replace(kept, annotations=replace(rows, id=ids))
    import_dataset(connection, kept, task=task, origin=origin)
    _mark_seen(connection, task, origin, identity, media_ids)
    return ModelLabels(added=len(rows), removed=removed, answered=int(answered.sum()))


def media_seen_by(connection: Connection, task: str, origin: str) -> dict[str, NDArray[np.int64]]:
    """Ids of the media that a model has been over, by its identity."""
    table = schema.media_tags
    query = sa.select(table.c.media_id).order_by(table.c.media_id)
    seen = {}
    for tag in _tags_of(connection, task, origin):
        (ids,) = read_columns(connection, query.where(table.c.tag == tag), ["int64"])
        seen[tag.rpartition(":")[2]] = ids
    return seen


def review_labels(
    connection: Connection, annotation_ids: NDArray[np.int64], state: ReviewState
) -> None:
    """Note a decision. A model's label that is accepted or corrected is a person's from now on.

    Raises:
        DataError: an unknown id; nothing is changed.
    """
    table = schema.annotations
    ids = np.unique(np.asarray(annotation_ids, dtype=np.int64))
    (known,) = rows_where_in(connection, sa.select(table.c.id), table.c.id, ids.tolist(), ["int64"])
    unknown = np.setdiff1d(ids, known)
    if len(unknown):
        raise DataError("a label that the catalogue does not have", got=f"id {unknown[0]}")
    values: dict[str, object] = {"review_state": int(state)}
    if state in (ReviewState.ACCEPTED, ReviewState.CORRECTED):
        is_models = table.c.source == int(Source.MODEL)
        values["source"] = sa.case((is_models, int(Source.HUMAN)), else_=table.c.source)
    for block in blocks_of_keys(ids.tolist()):
        connection.execute(table.update().where(table.c.id.in_(block)).values(values))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reviewed:
    """Labels of one origin that are no longer for the model to change."""

    media_ids: NDArray[np.int64]
    keys: NDArray[np.int64]
    category_names: Sequence[str]
    boxes_xyxy: NDArray[np.float64]

    @classmethod
    def read(
        cls, connection: Connection, origin_id: int, media_ids: NDArray[np.int64]
    ) -> _Reviewed:
        table, names = schema.annotations, schema.categories
        corners = (table.c.x0, table.c.y0, table.c.x1, table.c.y1)
        query = (
            sa.select(table.c.media_id, table.c.origin_key, names.c.name, *corners)
            .join(names, names.c.id == table.c.category_id)
            .where(table.c.origin_id == origin_id)
        )
        kinds = ["int64", "int64", "object", *["float64"] * 4]
        media, keys, category_names, *boxes = rows_where_in(
            connection, query, table.c.media_id, media_ids.tolist(), kinds
        )
        return cls(
            media_ids=media,
            keys=keys,
            category_names=category_names,
            boxes_xyxy=np.stack(boxes, axis=1),
        )

    def cover(self, dataset: Dataset, media_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool [m]: labels of the data set in the place of one that was reviewed."""
        labels = dataset.annotations
        covered = np.zeros(len(labels), dtype=np.bool_)
        names = [category.name for category in dataset.categories]
        for medium, name, box in zip(
            self.media_ids.tolist(), self.category_names, self.boxes_xyxy, strict=True
        ):
            if name not in names:
                continue
            row = int(np.flatnonzero(media_ids == medium)[0])
            own = np.arange(*dataset.rows_of(row).indices(len(labels)))
            same = own[labels.category_index[own] == names.index(name)]
            covered[same] |= _overlaps(labels.boxes_xyxy[same], box) >= SAME_OBJECT_IOU
        return covered

    def first_free_key(self, media_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [n]: the first id at the origin that no label of each medium has."""
        free = np.zeros(len(media_ids), dtype=np.int64)
        order = np.argsort(media_ids)
        at = order[np.searchsorted(media_ids, self.media_ids, sorter=order)]
        np.maximum.at(free, at, self.keys + 1)
        return free


def _overlaps(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [k]: IoU of each of the boxes [k, 4] with one."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    inside = np.maximum(high - low, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    union = areas - inside
    return np.divide(inside, union, out=np.zeros(len(boxes)), where=union > 0)


def _origin_id(connection: Connection, task: str, origin: str) -> int | None:
    task_id = task_id_of(connection, task)
    table = schema.origins
    where = (table.c.task_id == task_id) & (table.c.name == origin)
    return connection.execute(sa.select(table.c.id).where(where)).scalar()


def _media_ids(connection: Connection, uris: Sequence[str]) -> NDArray[np.int64]:
    table = schema.media
    query = sa.select(table.c.uri, table.c.id)
    names, ids = rows_where_in(connection, query, table.c.uri, list(uris), ["object", "int64"])
    by_uri = dict(zip(names, ids.tolist(), strict=True))
    unknown = [uri for uri in uris if uri not in by_uri]
    if unknown:
        raise DataError("a picture that the catalogue does not have", where=unknown[0])
    return np.array([by_uri[uri] for uri in uris], dtype=np.int64)


def _delete_waiting(connection: Connection, origin_id: int, media_ids: NDArray[np.int64]) -> int:
    """Delete the labels of the origin that a model made and nobody reviewed; their number."""
    table = schema.annotations
    waiting = (
        (table.c.origin_id == origin_id)
        & (table.c.source == int(Source.MODEL))
        & (table.c.review_state == int(ReviewState.UNREVIEWED))
    )
    (ids,) = rows_where_in(
        connection,
        sa.select(table.c.id).where(waiting),
        table.c.media_id,
        media_ids.tolist(),
        ["int64"],
    )
    forget_annotation_features(connection, ids)
    for block in blocks_of_keys(ids.tolist()):
        connection.execute(table.delete().where(table.c.id.in_(block)))
    return len(ids)


def _mark_seen(
    connection: Connection, task: str, origin: str, identity: str, media_ids: NDArray[np.int64]
) -> None:
    table = schema.media_tags
    tags = _tags_of(connection, task, origin)
    for block in blocks_of_keys(media_ids.tolist()):
        connection.execute(
            table.delete().where(table.c.tag.in_(tags) & table.c.media_id.in_(block))
        )
    tag = f"{_prefix(task, origin)}{identity}"
    rows = [{"tag": tag, "media_id": media_id} for media_id in media_ids.tolist()]
    if rows:
        connection.execute(table.insert(), rows)


def _prefix(task: str, origin: str) -> str:
    return f"preannotated:{task}:{origin}:"


def _tags_of(connection: Connection, task: str, origin: str) -> list[str]:
    """The tags of a model, one an identity."""
    column, prefix = schema.media_tags.c.tag, _prefix(task, origin)
    query = sa.select(column).distinct().where(column.startswith(prefix, autoescape=True))
    tags = connection.execute(query.order_by(column)).scalars()
    return [tag for tag in tags if ":" not in tag[len(prefix) :]]  # of no longer name
