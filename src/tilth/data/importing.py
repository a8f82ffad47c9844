"""Labels into the catalogue: set by set, in one transaction, and twice is the same as once.

A medium is known by its uri. An annotation is known by its medium, its origin (the name the caller
gives to a source of labels: a file, an annotator) and its id there. What was reviewed or edited
here is never overwritten by a label file; what a file no longer mentions stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data import schema
from tilth.data.bulk import insert_columns, next_id, rows_where_in
from tilth.data.dataset import Dataset
from tilth.data.duplicates import refuse_duplicates
from tilth.data.features import forget_media_features
from tilth.data.labels import incoming_labels, insert_labels, merge_labels
from tilth.data.problems import LabelReport, Problem
from tilth.data.records import Category, Geometry, MediaKind, Split, TaskKind, Transform
from tilth.errors import DataError

__all__ = ["ImportReport", "SizeOf", "import_dataset", "task_id_of", "task_kind_of"]

SizeOf = Callable[[str], tuple[int, int] | None]
"""Width and height of a medium's file by its uri; None where it cannot be read."""


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What an import changed.

    Attributes:
        annotations_kept: reviewed or edited here, and different in the file: ours was kept.
        annotations_absent: in the catalogue from this origin, but no longer in the file: kept.
        annotations_removed: the same when the file overwrites: deleted.
        problems: what else deserves a look.
    """

    task: str
    media_added: int
    media_updated: int
    media_unchanged: int
    annotations_added: int
    annotations_updated: int
    annotations_unchanged: int
    annotations_kept: int
    annotations_absent: int
    annotations_removed: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the catalogue is different now."""
        return any(
            (
                self.media_added,
                self.media_updated,
                self.annotations_added,
                self.annotations_updated,
                self.annotations_removed,
            )
        )


def import_dataset(
    connection: Connection,
    dataset: Dataset,
    *,
    task: str,
    origin: str,
    kind: TaskKind | None = None,
    allow_duplicates: bool = True,
    overwrite: bool = False,
    size_of: SizeOf | None = None,
    parents: NDArray[np.int64] | None = None,
    transforms: Sequence[Transform] | None = None,
    advance: Callable[[int], object] | None = None,
) -> ImportReport:
    """Bring a data set into the catalogue inside the caller's write transaction.

    Args:
        origin: the name of the source of labels within the task.
        kind: of a task that is made now; otherwise what its labels are.
        allow_duplicates: whether labels that another origin has already may be added again.
        overwrite: labels of this origin on these media become what the file says, reviewed or not.
        size_of: asked where labels and catalogue disagree on the size of a medium: with the file on
            their side the labels correct the catalogue.
        parents: int64 [n] catalogue ids, for derived media; otherwise ``dataset.media.parent_id``
            names rows of the data set itself.
        transforms: n, how each derived medium was made.
        advance: called with the number of rows after each block.

    Raises:
        DataError: a parent is missing, or labels are there already and must not be twice.
    """
    problems = LabelReport(where=origin or task)
    task_id = task_id_of(connection, task)
    if task_id is None:
        task_id = _make_task(connection, task, task_kind_of(dataset) if kind is None else kind)
    category_ids = _match_categories(connection, task_id, dataset.categories, problems)
    media = _match_media(connection, dataset, parents, transforms, size_of, problems)
    _cover(connection, task_id, media.ids)
    origin_id = _origin_id(connection, task_id, origin)
    labels = incoming_labels(dataset, media.ids, category_ids, problems)
    known = media.ids[media.found]
    if len(known) and not allow_duplicates:
        refuse_duplicates(connection, labels, origin_id, known)
    if len(known):
        outcome = merge_labels(
            connection, labels, origin_id, known, overwrite=overwrite, advance=advance
        )
    else:
        outcome = insert_labels(connection, labels, origin_id, advance=advance)
    return ImportReport(
        task=task,
        media_added=media.added,
        media_updated=media.updated,
        media_unchanged=len(np.unique(media.ids)) - media.added - media.updated,
        annotations_added=outcome.added,
        annotations_updated=outcome.updated,
        annotations_unchanged=outcome.unchanged,
        annotations_kept=outcome.kept,
        annotations_absent=outcome.absent,
        annotations_removed=outcome.removed,
        problems=problems.problems,
    )


def task_id_of(connection: Connection, task: str) -> int | None:
    """The id of a task, None where it is missing."""
    return connection.execute(
        sa.select(schema.tasks.c.id).where(schema.tasks.c.name == task)
    ).scalar()


def task_kind_of(dataset: Dataset) -> TaskKind:
    """What kind of task the labels are of: whole pictures, boxes, masks of classes or of objects.

    Masks of which no picture has two of one class are taken for masks of classes.
    """
    labels = dataset.annotations
    if len(labels) and (labels.geometry == Geometry.LABEL).all():
        return TaskKind.CLASSIFICATION
    shaped = np.isin(labels.geometry, (Geometry.POLYGON, Geometry.RLE))
    if not shaped.any():
        return TaskKind.OBJECT_DETECTION
    keys = labels.media_index * len(dataset.categories) + labels.category_index
    once = len(np.unique(keys)) == len(keys)
    if once and (labels.geometry == Geometry.RLE).all() and not labels.is_crowd.any():
        return TaskKind.SEGMENTATION
    return TaskKind.INSTANCE_SEGMENTATION


def _make_task(connection: Connection, name: str, kind: TaskKind) -> int:
    new = next_id(connection, schema.tasks)
    connection.execute(
        schema.tasks.insert().values(id=new, name=name, kind=int(kind), description="")
    )
    return new


def _origin_id(connection: Connection, task_id: int, name: str) -> int:
    table = schema.origins
    where = (table.c.task_id == task_id) & (table.c.name == name)
    found = connection.execute(sa.select(table.c.id).where(where)).scalar()
    if found is not None:
        return int(found)
    new = next_id(connection, table)
    connection.execute(table.insert().values(id=new, task_id=task_id, name=name))
    return new


def _match_categories(
    connection: Connection, task_id: int, categories: tuple[Category, ...], problems: LabelReport
) -> NDArray[np.int64]:
    """Catalogue ids of the categories, matched by name; new ones are appended in their order."""
    table = schema.categories
    rows = connection.execute(
        sa.select(table.c.id, table.c.name, table.c.origin_id).where(table.c.task_id == task_id)
    ).all()
    known = {row.name: row.id for row in rows}
    taken = {row.origin_id for row in rows}
    position, new_id = len(rows), next_id(connection, table)
    added = []
    for category in categories:
        if category.name in known:
            continue
        origin_id = category.origin_id
        if origin_id in taken:
            origin_id = max(taken) + 1
            problems.add(
                "category id that another category has already",
                "given a new id",
                [f"'{category.name}' {category.origin_id} -> {origin_id}"],
            )
        taken.add(origin_id)
        known[category.name] = new_id
        added.append(
            {
                "id": new_id,
                "task_id": task_id,
                "position": position,
                "name": category.name,
                "origin_id": origin_id,
                "supercategory": category.supercategory,
            }
        )
        position, new_id = position + 1, new_id + 1
    if added:
        connection.execute(table.insert(), added)
    return np.array([known[category.name] for category in categories], dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _MatchedMedia:
    ids: NDArray[np.int64]  # [n] catalogue ids of the data set's media
    found: NDArray[np.bool_]  # [n] whether the medium was there before
    added: int
    updated: int


def _match_media(
    connection: Connection,
    dataset: Dataset,
    parents: NDArray[np.int64] | None,
    transforms: Sequence[Transform] | None,
    size_of: SizeOf | None,
    problems: LabelReport,
) -> _MatchedMedia:
    """Catalogue ids of the media, matched by uri; new ones are inserted."""
    uris = list(dataset.media.uri)
    first = dict(zip(reversed(uris), range(len(uris) - 1, -1, -1), strict=True))
    row_of = np.fromiter((first[uri] for uri in uris), np.int64, len(uris))
    repeated = np.flatnonzero(row_of != np.arange(len(uris)))
    problems.add(
        "picture under two ids",
        "labels joined",
        [uris[row] for row in repeated[:5]],
        count=len(repeated),
    )
    ids, found, updated = _find_media(connection, dataset, list(first), size_of, problems)
    new_rows = np.flatnonzero((row_of == np.arange(len(uris))) & ~found)
    ids[new_rows] = _new_media_ids(connection, dataset.media.id[new_rows])
    ids = ids[row_of]
    found = found[row_of]
    _insert_media(connection, dataset, new_rows, ids, parents, transforms)
    return _MatchedMedia(ids=ids, found=found, added=len(new_rows), updated=updated)


def _find_media(
    connection: Connection,
    dataset: Dataset,
    uris: list[str],
    size_of: SizeOf | None,
    problems: LabelReport,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], int]:
    """Ids of the media that the catalogue knows already; what it lacked of them is filled."""
    table, media = schema.media, dataset.media
    ids = np.full(len(media), -1, dtype=np.int64)
    if connection.execute(sa.select(table.c.id).limit(1)).first() is None:
        return ids, ids >= 0, 0
    query = sa.select(table.c.id, table.c.uri, table.c.width, table.c.height, table.c.split)
    kinds = ["int64", "object", "int32", "int32", "int8"]
    known_ids, known_uris, *known = rows_where_in(connection, query, table.c.uri, uris, kinds)
    by_uri = {uri: row for row, uri in enumerate(known_uris)}
    matched = np.array([by_uri.get(uri, -1) for uri in media.uri], dtype=np.int64)
    rows = np.flatnonzero(matched >= 0)
    matched = matched[rows]
    ids[rows] = known_ids[matched]
    width, height, split = (column[matched] for column in known)
    sized = (width > 0) & (media.width[rows] > 0)
    differs = sized & ((width != media.width[rows]) | (height != media.height[rows]))
    corrected = differs & _confirmed(dataset, rows, differs, size_of)
    kept = rows[differs & ~corrected]
    problems.add(
        "picture of another size than the catalogue has",
        "the catalogue's size was kept",
        [media.uri[row] for row in kept[:5]],
        count=len(kept),
    )
    resize = ((width == 0) & (media.width[rows] > 0)) | corrected
    assign = (split == Split.NONE) & (media.split[rows] != Split.NONE)
    changes = np.flatnonzero(resize | assign)
    _update_media(
        connection,
        ids[rows[changes]],
        np.where(resize, media.width[rows], width)[changes],
        np.where(resize, media.height[rows], height)[changes],
        np.where(assign, media.split[rows], split)[changes],
    )
    forget_media_features(connection, ids[rows[corrected]])
    return ids, ids >= 0, len(changes)


def _confirmed(
    dataset: Dataset, rows: NDArray[np.int64], differs: NDArray[np.bool_], size_of: SizeOf | None
) -> NDArray[np.bool_]:
    """bool [k]: of the rows that differ, those whose file has the size that the labels say."""
    confirmed = np.zeros(len(rows), dtype=np.bool_)
    if size_of is None:
        return confirmed
    media = dataset.media
    for at in np.flatnonzero(differs).tolist():
        row = int(rows[at])
        said = (int(media.width[row]), int(media.height[row]))
        confirmed[at] = size_of(media.uri[row]) == said
    return confirmed


def _update_media(
    connection: Connection,
    ids: NDArray[np.int64],
    width: NDArray[np.int32],
    height: NDArray[np.int32],
    split: NDArray[np.int8],
) -> None:
    if not len(ids):
        return
    table = schema.media
    names = ("width", "height", "split")
    columns = (ids.tolist(), width.tolist(), height.tolist(), split.tolist())
    connection.execute(
        table.update()
        .where(table.c.id == sa.bindparam("b_id"))
        .values({name: sa.bindparam(f"b_{name}") for name in names}),
        [
            {"b_id": i, "b_width": w, "b_height": h, "b_split": s}
            for i, w, h, s in zip(*columns, strict=True)
        ],
    )


def _new_media_ids(connection: Connection, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The label file's own ids while they are free, so that exports and submissions keep them."""
    table = schema.media
    start = next_id(connection, table)
    if not len(wanted) or (wanted < 0).any() or len(np.unique(wanted)) < len(wanted):
        return np.arange(start, start + len(wanted), dtype=np.int64)
    if start > 1 and wanted.min() < start:
        (taken,) = rows_where_in(
            connection, sa.select(table.c.id), table.c.id, wanted.tolist(), ["int64"]
        )
        if len(taken):
            return np.arange(start, start + len(wanted), dtype=np.int64)
    return wanted


def _insert_media(
    connection: Connection,
    dataset: Dataset,
    rows: NDArray[np.int64],
    ids: NDArray[np.int64],
    parents: NDArray[np.int64] | None,
    transforms: Sequence[Transform] | None,
) -> None:
    if not len(rows):
        return
    media = dataset.media
    parent_ids = _resolved_parents(dataset, ids) if parents is None else parents
    parent_column = [parent if parent >= 0 else None for parent in parent_ids[rows].tolist()]
    split = media.split[rows]
    if parents is not None:
        split = _splits_of(connection, parents[rows])
    insert_columns(
        connection,
        schema.media,
        {
            "id": ids[rows],
            "uri": [media.uri[row] for row in rows],
            "kind": int(MediaKind.IMAGE),
            "width": media.width[rows],
            "height": media.height[rows],
            "split": split,
            "parent_id": parent_column,
            "transform": None
            if transforms is None
            else [json.dumps(asdict(transforms[row]), sort_keys=True) for row in rows],
            "attributes": [media.attributes[row] for row in rows.tolist()]
            if len(media.attributes)
            else None,
        },
    )


def _resolved_parents(dataset: Dataset, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Parents by the data set's own ids, as catalogue ids."""
    parents = dataset.media.parent_id
    derived = np.flatnonzero(parents >= 0)
    if not len(derived):
        return parents
    order = np.argsort(dataset.media.id, kind="stable")
    at = np.searchsorted(dataset.media.id, parents[derived], sorter=order)
    rows = order[np.minimum(at, len(order) - 1)]
    lost = dataset.media.id[rows] != parents[derived]
    if lost.any():
        raise DataError(
            "a derived picture whose parent is not in the data set",
            got=dataset.media.uri[derived[lost][0]],
            fix="import the parents with it",
        )
    resolved = np.full(len(parents), -1, dtype=np.int64)
    resolved[derived] = ids[rows]
    return resolved


def _splits_of(connection: Connection, parents: NDArray[np.int64]) -> NDArray[np.int8]:
    """The split of each parent, which its derived media share."""
    table = schema.media
    ids, splits = rows_where_in(
        connection,
        sa.select(table.c.id, table.c.split),
        table.c.id,
        np.unique(parents).tolist(),
        ["int64", "int8"],
    )
    missing = np.setdiff1d(parents, ids)
    if len(missing):
        raise DataError("a derived picture without its parent", got=f"parent {missing[0]}")
    order = np.argsort(ids)
    return splits[order][np.searchsorted(ids[order], parents)]


def _cover(connection: Connection, task_id: int, ids: NDArray[np.int64]) -> None:
    """Note that the task covers these media: one without labels is a true negative."""
    table = schema.task_media
    query = sa.select(table.c.media_id).where(table.c.task_id == task_id)
    wanted = np.unique(ids)
    if connection.execute(query.limit(1)).first() is not None:
        (covered,) = rows_where_in(connection, query, table.c.media_id, wanted.tolist(), ["int64"])
        wanted = np.setdiff1d(wanted, covered)
    if len(wanted):
        insert_columns(connection, table, {"task_id": task_id, "media_id": wanted})
