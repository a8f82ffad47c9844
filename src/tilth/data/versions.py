"""Immutable versions: the columns of a data set as they were, under a name and a digest.

A version is kept as arrays, not as rows: reading one back is a buffer per column. Columns are cut
into parts (SQLite holds at most 1 GB in a value) and compressed where that pays.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from tilth.data import schema
from tilth.data.bulk import next_id
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.digest import dataset_digest
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Category
from tilth.data.state import content_hashes, read_state, task_id_or_error
from tilth.errors import DataError, EmptyDatasetError, SettingsError

__all__ = ["Version", "create_version", "list_versions", "read_version"]

# Begins with no dot or dash: no hidden file, no option. Names of runs are of the same kind.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")

_PART = 32 * 2**20
_SAMPLE = 2**20
_PAYS_BELOW = 0.25  # polygons shrink to 0.4 and would take longer to read back than from a disk

_MEDIA_ARRAYS = ("id", "width", "height", "split", "parent_id")
_ANNOTATION_ARRAYS = (
    "id",
    "media_index",
    "category_index",
    "boxes_xyxy",
    "area",
    "is_crowd",
    "score",
    "source",
    "review_state",
    "geometry",
)


@dataclass(frozen=True, kw_only=True)
class Version:
    """A named, unchangeable state of a task.

    Attributes:
        digest: see `tilth.data.digest.dataset_digest`; what a run records.
        created: ISO 8601, UTC.
    """

    name: str
    digest: str
    num_media: int
    num_annotations: int
    created: str


def create_version(connection: Connection, name: str, task: str) -> Version:
    """Keep the current state of a task under ``name``; the same content again is no change.

    Raises:
        EmptyDatasetError: the task has no media.
        DataError: the name is taken by other content.
        SettingsError: the name has other than letters, digits, ".", "-" and "_".
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            "this cannot be the name of a version",
            expected='letters, digits, ".", "-" and "_", the first no "." and no "-"',
            got=repr(name),
        )
    dataset = read_state(connection, task)
    if not len(dataset.media):
        raise EmptyDatasetError("there is nothing to keep", where=f"task '{task}'")
    digest = dataset_digest(dataset)
    table = schema.versions
    same_name = connection.execute(sa.select(table).where(table.c.name == name)).first()
    if same_name is not None:
        if same_name.digest == digest:
            return _version(same_name)
        raise DataError(
            f"version '{name}' exists and holds other content",
            expected=f"digest {same_name.digest[:12]}",
            got=digest[:12],
            fix="choose another name; a version never changes",
        )
    version_id = next_id(connection, table)
    row = {
        "id": version_id,
        "task_id": task_id_or_error(connection, task),
        "name": name,
        "digest": digest,
        "num_media": len(dataset.media),
        "num_annotations": len(dataset.annotations),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "categories": json.dumps([asdict(category) for category in dataset.categories]),
    }
    connection.execute(table.insert().values(**row))
    hashes = content_hashes(connection, dataset.media.id)
    for column, values in _columns_of(dataset, hashes).items():
        _write_column(connection, version_id, column, values)
    return list_versions(connection, name=name)[0]


def list_versions(connection: Connection, *, name: str | None = None) -> list[Version]:
    """All versions, oldest first, or the one of that name."""
    table = schema.versions
    query = sa.select(table).order_by(table.c.id)
    if name is not None:
        query = query.where(table.c.name == name)
    return [_version(row) for row in connection.execute(query)]


def read_version(connection: Connection, name: str, task: str) -> Dataset:
    """The data set that the version keeps; its arrays cannot be written to.

    Raises:
        DataError: no version of that name for the task.
    """
    table = schema.versions
    task_id = task_id_or_error(connection, task)
    row = connection.execute(
        sa.select(table).where((table.c.name == name) & (table.c.task_id == task_id))
    ).first()
    if row is None:
        known = ", ".join(version.name for version in list_versions(connection))
        raise DataError(
            f"no version '{name}' of task '{task}'",
            expected=known or "a version that was made before",
            fix=f"tilth version create {name}",
        )
    columns = _read_columns(connection, row.id)
    categories = tuple(Category(**category) for category in json.loads(row.categories))
    return _dataset_of(columns, categories)


def _version(row: Any) -> Version:
    return Version(
        name=row.name,
        digest=row.digest,
        num_media=row.num_media,
        num_annotations=row.num_annotations,
        created=row.created,
    )


def _columns_of(dataset: Dataset, hashes: list[str | None]) -> dict[str, NDArray[Any]]:
    media, labels = dataset.media, dataset.annotations
    columns: dict[str, NDArray[Any]] = {}
    for name in _MEDIA_ARRAYS:
        columns[f"media.{name}"] = getattr(media, name)
    for name in _ANNOTATION_ARRAYS:
        columns[f"annotations.{name}"] = getattr(labels, name)
    texts = {
        "media.uri": [uri.encode() for uri in media.uri],
        "media.attributes": media.attributes or RaggedBytes.empty(len(media)),
        "media.content_hash": [value.encode() if value else None for value in hashes],
        "annotations.segmentation": labels.segmentation,
        "annotations.attributes": labels.attributes,
    }
    for name, items in texts.items():
        ragged = RaggedBytes.of(items).packed()
        columns[f"{name}.lengths"] = ragged.lengths
        columns[f"{name}.data"] = np.frombuffer(ragged.data, dtype=np.uint8)
    return columns


def _write_column(connection: Connection, version_id: int, name: str, values: NDArray[Any]) -> None:
    array = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    data = array.reshape(-1).view(np.uint8).data
    codec = _codec(data)
    for part, start in enumerate(range(0, max(len(data), 1), _PART)):
        block = bytes(data[start : start + _PART])
        connection.execute(
            schema.version_columns.insert().values(
                version_id=version_id,
                name=name,
                part=part,
                dtype=array.dtype.str,
                codec=codec,
                data=zlib.compress(block, 1) if codec == "zlib" else block,
            )
        )


def _codec(data: memoryview) -> str:
    sample = data[:_SAMPLE]
    pays = len(sample) > 1024 and len(zlib.compress(sample, 1)) < _PAYS_BELOW * len(sample)
    return "zlib" if pays else "raw"


def _read_columns(connection: Connection, version_id: int) -> dict[str, NDArray[Any]]:
    table = schema.version_columns
    parts: dict[str, list[bytes]] = {}
    dtypes: dict[str, str] = {}
    rows = connection.execute(
        sa.select(table.c.name, table.c.dtype, table.c.codec, table.c.data)
        .where(table.c.version_id == version_id)
        .order_by(table.c.name, table.c.part)
    )
    for row in rows:
        block = zlib.decompress(row.data) if row.codec == "zlib" else bytes(row.data)
        parts.setdefault(row.name, []).append(block)
        dtypes[row.name] = row.dtype
    return {
        name: np.frombuffer(blocks[0] if len(blocks) == 1 else b"".join(blocks), dtypes[name])
        for name, blocks in parts.items()
    }


def _dataset_of(columns: Mapping[str, NDArray[Any]], categories: tuple[Category, ...]) -> Dataset:
    arrays = {name: columns[f"annotations.{name}"] for name in _ANNOTATION_ARRAYS}
    arrays["boxes_xyxy"] = arrays["boxes_xyxy"].reshape(-1, 4)
    attributes = _ragged(columns, "media.attributes")
    return Dataset(
        categories=categories,
        media=MediaColumns(
            uri=[(uri or b"").decode() for uri in _ragged(columns, "media.uri")],
            attributes=attributes if attributes.lengths.any() else (),
            **{name: columns[f"media.{name}"] for name in _MEDIA_ARRAYS},
        ),
        annotations=AnnotationColumns(
            segmentation=_ragged(columns, "annotations.segmentation"),
            attributes=_ragged(columns, "annotations.attributes"),
            **arrays,
        ),
    )


def _ragged(columns: Mapping[str, NDArray[Any]], name: str) -> RaggedBytes:
    lengths = columns[f"{name}.lengths"]
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return RaggedBytes(columns[f"{name}.data"].data, offsets)
