"""The catalogue: one database that knows every medium, label, split, version, feature and run.

SQLite in a file or PostgreSQL by URL, the same code for both. Each method is one transaction; the
work is done by functions in the file named after it (`importing`, `state`, `versions`, ...).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Engine

from tilth.data import (
    features,
    importing,
    labels,
    model_labels,
    removal,
    schema,
    state,
    versions,
)
from tilth.data.bulk import next_id, read_columns
from tilth.data.database import connect, is_sqlite, reading, shown_url, writing
from tilth.data.dataset import Dataset
from tilth.data.features import Features, Owner
from tilth.data.importing import ImportReport, SizeOf
from tilth.data.migration import current_revision, upgrade
from tilth.data.model_labels import ModelLabels
from tilth.data.records import ReviewState, Source, TaskKind, Transform
from tilth.data.removal import Removal
from tilth.data.splits import assign_splits
from tilth.data.versions import Version
from tilth.errors import CatalogueError, DataError

__all__ = ["Catalogue", "Run"]

DERIVED = "derived"
"""The origin of labels that a transform carried over from a parent."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run and the data that it saw.

    Attributes:
        digest: of the version; see `tilth.data.digest`.
        created: ISO 8601, UTC.
    """

    name: str
    digest: str
    created: str
    settings: dict[str, Any]
    results: dict[str, Any]


class Catalogue:
    """An open catalogue; make one with `create` or `open`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def create(cls, url: str, *, lock_timeout_s: float = 60.0) -> Catalogue:
        """Make the tables in an empty database.

        Args:
            url: ``sqlite:///path/tilth.db`` or ``postgresql+psycopg://user@host/database``.
            lock_timeout_s: how long to wait for another writer.

        Raises:
            CatalogueError: there is a catalogue already, or the database cannot be reached.
        """
        engine = connect(url, lock_timeout_s=lock_timeout_s)
        with writing(engine) as connection:
            if current_revision(connection) is not None:
                raise CatalogueError(
                    "there is a catalogue already", where=shown_url(engine), fix="open it instead"
                )
            upgrade(connection)
        if is_sqlite(engine):
            # Readers go on while another process writes. Kept in the file from now on.
            with engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute("PRAGMA journal_mode = WAL")
        return cls(engine)

    @classmethod
    def open(cls, url: str, *, lock_timeout_s: float = 60.0) -> Catalogue:
        """Open a catalogue, and bring an older one to the tables of this release.

        Raises:
            CatalogueError: no catalogue there, or one of a newer release.
        """
        engine = connect(url, lock_timeout_s=lock_timeout_s)
        if is_sqlite(engine) and not Path(engine.url.database or "").is_file():
            raise CatalogueError("there is no catalogue", where=shown_url(engine), fix="tilth init")
        with reading(engine) as connection:
            revision = current_revision(connection)
        if revision is None:
            raise CatalogueError(
                "the database holds no catalogue", where=shown_url(engine), fix="tilth init"
            )
        if revision != schema.HEAD_REVISION:
            with writing(engine) as connection:
                upgrade(connection)
        return cls(engine)

    def close(self) -> None:
        """Give up the connections; the object cannot be used afterwards."""
        self._engine.dispose()

    def import_dataset(
        self,
        dataset: Dataset,
        *,
        task: str = "detection",
        origin: str = "",
        kind: TaskKind | None = None,
        allow_duplicates: bool = True,
        overwrite: bool = False,
        size_of: SizeOf | None = None,
        advance: Callable[[int], object] | None = None,
    ) -> ImportReport:
        """Bring labels into a task, in one transaction; see `tilth.data.importing`.

        Args:
            origin: a lasting name of the source of these labels, such as the label file's stem:
                the same labels under another origin are other labels.
            kind: of a task that is made now; otherwise what its labels are.
            allow_duplicates: whether labels that another origin has already (same medium,
                category and box) are added again, or refused.
            overwrite: labels of this origin on these media become what the file says, reviewed
                or not; those that it no longer has are deleted.
            size_of: reads the size of a medium's file; with it, labels whose size the file
                confirms correct the size that the catalogue has.
            advance: called with the number of annotations after each block.

        Raises:
            DataError, StorageError, CatalogueError: nothing was changed.
        """
        with writing(self._engine) as connection:
            return importing.import_dataset(
                connection,
                dataset,
                task=task,
                origin=origin,
                kind=kind,
                allow_duplicates=allow_duplicates,
                overwrite=overwrite,
                size_of=size_of,
                advance=advance,
            )

    def task_kinds(self) -> dict[str, TaskKind]:
        """The kind of every task, by name."""
        query = sa.select(schema.tasks.c.name, schema.tasks.c.kind).order_by(schema.tasks.c.name)
        with reading(self._engine) as connection:
            return {name: TaskKind(kind) for name, kind in connection.execute(query)}

    def add_derived(
        self, dataset: Dataset, transforms: Sequence[Transform], *, task: str = "detection"
    ) -> ImportReport:
        """Add media that were made from others; they share the split of their parent.

        Args:
            dataset: ``media.parent_id`` holds catalogue ids; ids of media and annotations are
                given anew; the labels become `Source.SYNTHETIC`.
            transforms: n, one a medium.

        Raises:
            DataError: a parent that the catalogue does not have.
        """
        rows, count = dataset.annotations, len(dataset.media)
        if len(transforms) != count:
            raise DataError(
                "one transform a derived medium", expected=str(count), got=str(len(transforms))
            )
        carried = replace(
            rows,
            id=np.arange(len(rows), dtype=np.int64) - dataset.offsets[rows.media_index],
            source=np.full(len(rows), Source.SYNTHETIC, dtype=np.uint8),
        )
        media = replace(dataset.media, id=np.full(count, -1, dtype=np.int64))
        with writing(self._engine) as connection:
            return importing.import_dataset(
                connection,
                replace(dataset, media=media, annotations=carried),
                task=task,
                origin=DERIVED,
                parents=dataset.media.parent_id,
                transforms=transforms,
            )

    def remove_media(self, media_ids: NDArray[np.int64], *, dry_run: bool = False) -> Removal:
        """Take media out, with their labels and what was made from them; see `removal`.

        Raises:
            DataError: an unknown medium; nothing was changed.
        """
        with writing(self._engine) as connection:
            return removal.remove_media(connection, media_ids, dry_run=dry_run)

    def media_uris(self) -> tuple[NDArray[np.int64], list[str]]:
        """Ids int64 [n], ascending, and uris of all media, whatever task they are in."""
        table = schema.media
        with reading(self._engine) as connection:
            query = sa.select(table.c.id, table.c.uri).order_by(table.c.id)
            ids, uris = read_columns(connection, query, ["int64", "object"])
        return ids, uris

    def read(self, task: str = "detection", *, version: str | None = None) -> Dataset:
        """The current state of a task, or a version of it, as columns.

        Raises:
            DataError: no such task or version.
        """
        with reading(self._engine) as connection:
            if version is not None:
                return versions.read_version(connection, version, task)
            return state.read_state(connection, task)

    def category_boxes(
        self, category: str, *, task: str = "detection"
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Media ids int64 [k], ascending, and boxes float64 [k, 4] (xyxy) of one category.

        Raises:
            DataError: no such task or category.
        """
        with reading(self._engine) as connection:
            return state.category_boxes(connection, task, category)

    def update_boxes(
        self, annotation_ids: NDArray[np.int64], boxes_xyxy: NDArray[np.float64]
    ) -> None:
        """Move boxes by hand; what was measured of them before is stale from now on."""
        with writing(self._engine) as connection:
            labels.update_boxes(connection, annotation_ids, boxes_xyxy)

    def write_model_labels(
        self, dataset: Dataset, *, task: str = "detection", origin: str, identity: str
    ) -> ModelLabels:
        """Replace what a model says about these media; see `tilth.data.model_labels`.

        Raises:
            DataError: a picture that the catalogue does not have; nothing was changed.
        """
        with writing(self._engine) as connection:
            return model_labels.write_model_labels(
                connection, dataset, task=task, origin=origin, identity=identity
            )

    def media_seen_by(
        self, origin: str, *, task: str = "detection"
    ) -> dict[str, NDArray[np.int64]]:
        """Ids of the media that a model has been over, by its identity."""
        with reading(self._engine) as connection:
            return model_labels.media_seen_by(connection, task, origin)

    def review(self, annotation_ids: NDArray[np.int64], state: ReviewState) -> None:
        """Note what a person decided; a model's label that is accepted becomes *human*.

        Raises:
            DataError: an unknown label; nothing was changed.
        """
        with writing(self._engine) as connection:
            model_labels.review_labels(connection, annotation_ids, state)

    def create_version(self, name: str, task: str = "detection") -> Version:
        """Keep the current state of a task under a name; see `tilth.data.versions`."""
        with writing(self._engine) as connection:
            return versions.create_version(connection, name, task)

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        with reading(self._engine) as connection:
            return versions.list_versions(connection)

    def set_splits(self, media_ids: NDArray[np.int64], splits: NDArray[np.int8]) -> None:
        """Assign `Split` codes; derived media follow their parent.

        Raises:
            DataError: an unknown medium, or a derived one set apart from its parent.
        """
        with writing(self._engine) as connection:
            assign_splits(connection, media_ids, splits)

    def tag_media(self, media_ids: NDArray[np.int64], tag: str) -> None:
        """Put a tag on media; those that have it keep it."""
        table = schema.media_tags
        with writing(self._engine) as connection:
            query = sa.select(table.c.media_id).where(table.c.tag == tag)
            known = set(connection.execute(query).scalars())
            new = sorted(set(np.asarray(media_ids).tolist()) - known)
            if new:
                connection.execute(table.insert(), [{"tag": tag, "media_id": i} for i in new])

    def tagged_media(self, tag: str) -> NDArray[np.int64]:
        """Ids of the media with a tag, ascending."""
        table = schema.media_tags
        with reading(self._engine) as connection:
            query = sa.select(table.c.media_id).where(table.c.tag == tag)
            ids = connection.execute(query.order_by(table.c.media_id)).scalars()
            return np.fromiter(ids, dtype=np.int64)

    def write_features(
        self,
        feature_set: str,
        columns: Sequence[str],
        owner: Owner,
        ids: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> None:
        """Insert or replace measured rows; see `tilth.data.features`."""
        with writing(self._engine) as connection:
            features.write_features(connection, feature_set, columns, owner, ids, values)

    def read_features(self, feature_set: str) -> Features:
        """The rows of a feature set that are current."""
        with reading(self._engine) as connection:
            return features.read_features(connection, feature_set)

    def missing_features(self, feature_set: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of ``ids`` that have no current row."""
        with reading(self._engine) as connection:
            return features.missing_features(connection, feature_set, ids)

    def set_content_hashes(self, media_ids: NDArray[np.int64], hashes: Sequence[str]) -> None:
        """Note the hash of each medium's bytes; see `tilth.data.images.content_hash`."""
        table = schema.media
        rows = [
            {"b_id": key, "b_hash": value}
            for key, value in zip(np.asarray(media_ids).tolist(), hashes, strict=True)
        ]
        if not rows:
            return
        with writing(self._engine) as connection:
            connection.execute(
                table.update()
                .where(table.c.id == sa.bindparam("b_id"))
                .values(content_hash=sa.bindparam("b_hash")),
                rows,
            )

    def content_hashes(self, media_ids: NDArray[np.int64]) -> list[str | None]:
        """The hash of each medium, None where nothing has decoded it yet."""
        with reading(self._engine) as connection:
            return state.content_hashes(connection, np.asarray(media_ids))

    def has_media(self, uri: str) -> bool:
        """Whether a medium is recorded under exactly this uri."""
        table = schema.media
        with reading(self._engine) as connection:
            query = sa.select(table.c.id).where(table.c.uri == uri)
            return connection.execute(query).first() is not None

    def has_frames_of(self, uri: str) -> bool:
        """Whether a frame of this video is recorded."""
        table = schema.media
        with reading(self._engine) as connection:
            frames = table.c.uri.startswith(f"{uri}#", autoescape=True)
            query = sa.select(table.c.id).where(frames & (table.c.uri > uri)).limit(1)
            return connection.execute(query).first() is not None

    def content_hash_of(self, uri: str) -> str | None:
        """The hash of a medium's bytes; None of one that nobody has read, or that is unknown."""
        table = schema.media
        with reading(self._engine) as connection:
            query = sa.select(table.c.content_hash).where(table.c.uri == uri)
            return connection.execute(query).scalar()

    def record_run(
        self, name: str, digest: str, settings: Mapping[str, Any], results: Mapping[str, Any]
    ) -> None:
        """Note a finished run with the digest of the version that it saw."""
        with writing(self._engine) as connection:
            connection.execute(
                schema.runs.insert().values(
                    id=next_id(connection, schema.runs),
                    name=name,
                    digest=digest,
                    created=datetime.now(UTC).isoformat(timespec="seconds"),
                    settings=json.dumps(dict(settings)),
                    results=json.dumps(dict(results)),
                )
            )

    def runs(self) -> list[Run]:
        """All recorded runs, oldest first."""
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(schema.runs).order_by(schema.runs.c.id)).all()
        return [
            Run(
                name=row.name,
                digest=row.digest,
                created=row.created,
                settings=json.loads(row.settings),
                results=json.loads(row.results),
            )
            for row in rows
        ]
