"""Tilth's own folder: all that a data set holds, without loss, as Parquet or JSON lines.

    dataset.json                                version, categories, rows and digest of each table
    media.parquet, annotations.parquet          or
    media.jsonl, annotations.jsonl              with --option storage=jsonl

Columns are those of `tilth.data.dataset`, in absolute pixel-edge coordinates; null stands for a
score or an area that is not there. ``media_index`` and ``category_index`` are rows, counted from 0,
of the media and of the list of categories; what the codes of the other columns mean is written in
dataset.json. Pictures are named relative to the folder of pictures, URLs in full.

The version is two numbers. A later second number adds columns or fields, which a reader that does
not know them passes over with a note; a later first number is refused. The digest (BLAKE2b-256) of
each table is compared when it is read: a table that was cut off or changed is no data set.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
import numpy as np

from tilth.data.atomic import atomic_folder
from tilth.data.dataset import Dataset
from tilth.data.formats._media_names import media_uri, relative_names
from tilth.data.formats._tilth_columns import (
    CODES,
    Columns,
    Table,
    annotation_table,
    annotations_of,
    media_of,
    media_table,
)
from tilth.data.formats._tilth_lines import read_lines, write_lines
from tilth.data.formats._tilth_parquet import read_parquet, write_parquet
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.data.storage import is_url
from tilth.errors import DataError, EmptyDatasetError, LabelError, PathEscapeError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

VERSION = (1, 0)
_HEAD = "dataset.json"
_MAX_HEAD_BYTES = 2**26
_SUFFIXES = {"parquet": ".parquet", "jsonl": ".jsonl"}

TARGET = "folder"
HOLDS = Holds(
    labels=True,
    boxes=True,
    polygons=True,
    masks=True,
    scores=True,
    attributes="all",
    crowd=True,
    frames=True,
    class_ids=True,
    supercategories=True,
    splits=True,
    provenance=True,
)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """There is nothing to choose: the folder says what it is."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How the tables are stored.

    Attributes:
        storage: parquet (small and fast), or jsonl (text, a record a line).
    """

    storage: Literal["parquet", "jsonl"] = "parquet"


class _File(msgspec.Struct):
    rows: int
    bytes: int
    blake2b: str


class _Category(msgspec.Struct):
    name: str
    origin_id: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    supercategory: str = ""


class _Head(msgspec.Struct, kw_only=True):
    format: Literal["tilth dataset"]
    version: str
    storage: Literal["parquet", "jsonl"]
    codes: dict[str, dict[str, int]] = {}
    files: dict[str, _File]
    categories: list[_Category]


class _OnlyVersion(msgspec.Struct):
    format: Literal["tilth dataset"]
    version: str


def recognises(path: Path) -> bool:
    """A folder with a dataset.json that says so."""
    try:
        with (path / _HEAD).open("rb") as stream:
            return re.search(rb'"format"\s*:\s*"tilth dataset"', stream.read(1024)) is not None
    except (OSError, ValueError):
        return False


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read a folder that `write` made; the pictures are not opened.

    Args:
        media_root: the folder that pictures are named from; otherwise the folder itself.
        on_unknown: what to do with labels of a category that dataset.json does not list.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: not such a folder, of a later version, or not what its digests say.
        PathEscapeError: a picture or table that leaves its folder.
        EmptyDatasetError: no media.
    """
    report = report or LabelReport(where=str(path))
    head = _read_head(path / _HEAD, report)
    columns = _read_table(path, "media", head)
    if not len(columns["id"]):
        raise EmptyDatasetError("no media in the data set", where=str(path))
    root, where = (media_root or path).resolve(), f"{path.name}/media"
    uris = [media_uri(name, root, where) for name in columns["uri"]]
    media = media_of(columns, uris, where)
    labels = annotations_of(
        _read_table(path, "annotations", head),
        len(media),
        len(head.categories),
        on_unknown,
        report,
        f"{path.name}/annotations",
    )
    categories = tuple(
        Category(name=c.name, origin_id=c.origin_id, supercategory=c.supercategory)
        for c in head.categories
    )
    report.num_media, report.num_annotations = len(media), len(labels)
    return Dataset(categories=categories, media=media, annotations=labels), report


def _read_head(path: Path, report: LabelReport) -> _Head:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_HEAD_BYTES)
        said = msgspec.json.decode(data, type=_OnlyVersion).version
        major, minor = _version(said)
        if major != VERSION[0]:
            raise LabelError(
                "the data set is of a version that this Tilth does not read",
                where=str(path),
                expected=f"{VERSION[0]}.x",
                got=said,
                fix="update Tilth, or write the data set with the version that you have",
            )
        head = msgspec.json.decode(data, type=_Head)
    except (OSError, ValueError, RecursionError) as error:
        raise LabelError(
            "not the head of a Tilth data set", where=str(path), got=str(error)[:200]
        ) from error
    if minor > VERSION[1]:
        ours = ".".join(map(str, VERSION))
        report.notes.append(f"version {said}: what it adds to {ours} was not read")
    names = [category.name for category in head.categories]
    if len(set(names)) < len(names):
        raise LabelError("one category name stands twice", where=str(path))
    return head


def _version(said: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,6})\.([0-9]{1,6})", said)
    if match is None:
        raise ValueError(f"{said[:40]!r} is no version")
    return int(match[1]), int(match[2])


def _read_table(folder: Path, table: Table, head: _Head) -> Columns:
    """A table that is the one that was written."""
    path = folder / (table + _SUFFIXES[head.storage])
    said = head.files.get(path.name)
    if said is None:
        raise LabelError(f"no '{path.name}' among the files", where=str(folder / _HEAD))
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise PathEscapeError("a table that leaves its folder", where=str(path))
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, _digest).hexdigest()
    except OSError as error:
        raise LabelError("a table cannot be read", where=str(path), got=error.strerror) from error
    if digest != said.blake2b:
        raise LabelError(
            "a table is not the one that was written",
            where=str(path),
            expected=f"the digest {said.blake2b[:16]}... of dataset.json",
            got=f"{digest[:16]}...",
            fix="copy the folder again, or write it again with tilth export",
        )
    columns = (read_parquet if head.storage == "parquet" else read_lines)(path, table)
    if len(columns["id"]) != said.rows:
        got = f"{len(columns['id'])}, not {said.rows}"
        raise LabelError(
            "a table of another length than dataset.json says", where=str(path), got=got
        )
    return columns


def _digest() -> Any:
    return hashlib.blake2b(digest_size=32)


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """The data set as it is: there is nothing that this format does not hold."""
    report = LabelReport(where="tilth")
    report.num_media, report.num_annotations = len(dataset.media), len(dataset.annotations)
    return dataset, report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
    replace: bool = False,
) -> LabelReport:
    """Write the folder in one step: it is there whole or not at all.

    Args:
        media_root: pictures are named relative to this folder; without it, to the deepest that
            holds all of them.
        replace: a folder that is there is replaced whole.

    Raises:
        DataError: a box that is not finite, which no reader would take.
        StorageError: the write failed; what was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    if not np.isfinite(dataset.annotations.boxes_xyxy).all():
        raise DataError("a box with a number that is not finite", fix="leave it out first")
    names = _names(dataset.media.uri, media_root)
    tables: dict[Table, Columns] = {
        "media": media_table(dataset.media, names),
        "annotations": annotation_table(dataset.annotations),
    }
    files: dict[str, _File] = {}
    with atomic_folder(path, replace=replace) as folder:
        for table, columns in tables.items():
            file = folder / (table + _SUFFIXES[options.storage])
            files[file.name] = _write_table(file, table, columns, options.storage)
        (folder / _HEAD).write_bytes(_head_text(dataset, files, options.storage))
    return report


def _names(uris: Sequence[str], media_root: Path | None) -> list[str]:
    """URLs in full, other pictures relative to their folder."""
    local = iter(relative_names([uri for uri in uris if not is_url(uri)], media_root))
    return [uri if is_url(uri) else next(local) for uri in uris]


def _write_table(path: Path, table: Table, columns: Columns, storage: str) -> _File:
    with path.open("wb") as plain:
        stream = _Digesting(plain)
        (write_parquet if storage == "parquet" else write_lines)(stream, table, columns)  # type: ignore[arg-type]
    return _File(len(columns["id"]), stream.size, stream.digest.hexdigest())


class _Digesting:
    """A file that knows the digest of what was written to it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = _digest()
        self.size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += memoryview(data).nbytes
        return self._stream.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._stream.flush()


def _head_text(dataset: Dataset, files: dict[str, _File], storage: Any) -> bytes:
    head = _Head(
        format="tilth dataset",
        version=".".join(map(str, VERSION)),
        storage=storage,
        codes={
            column: {code.name.lower(): int(code) for code in codes}
            for column, codes in CODES.items()
        },
        files=files,
        categories=[
            _Category(name=c.name, origin_id=c.origin_id, supercategory=c.supercategory)
            for c in dataset.categories
        ],
    )
    return msgspec.json.format(msgspec.json.encode(head), indent=1) + b"\n"
