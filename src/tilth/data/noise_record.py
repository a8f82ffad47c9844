"""The record beside noisy labels: what was done, and a row for each label that was changed.

As ``.json`` one document, ``{"noise": {...}, "changes": [...]}``; as ``.parquet`` the rows are the
table, and the rest is in its metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet

from tilth.data.atomic import atomic_writer
from tilth.errors import DataError, SettingsError

__all__ = [
    "RECORD_SUFFIXES",
    "read_noise_record",
    "record_beside",
    "refuse_other_records",
    "write_noise_record",
]

RECORD_SUFFIXES = (".json", ".parquet")
_KEY = b"tilth noise"


def record_beside(target: Path) -> Path:
    """Where the record of ``target`` lies unless it is said.

    >>> record_beside(Path("sets/noisy.csv")).as_posix()
    'sets/noisy.noise.json'
    """
    return target.with_name(f"{target.stem}.noise.json")


def write_noise_record(
    path: Path, noise: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]
) -> None:
    """Write the record, whole or not at all.

    Raises:
        SettingsError: another suffix than ``.json`` and ``.parquet``.
        StorageError: the disk refused.
    """
    refuse_other_records(path)
    with atomic_writer(path) as stream:
        if path.suffix == ".json":
            rows = b",\n".join(orjson.dumps(change) for change in changes)  # a line each
            stream.write(b'{"noise":%b,\n"changes":[\n%b]}\n' % (orjson.dumps(noise), rows))
        else:
            table = pa.Table.from_pylist(list(changes))
            pyarrow.parquet.write_table(
                table.replace_schema_metadata({_KEY: orjson.dumps(noise)}), stream
            )


def read_noise_record(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was done, and the rows.

    Raises:
        DataError: no file there, or no record.
    """
    refuse_other_records(path)
    try:
        if path.suffix == ".json":
            document = orjson.loads(path.read_bytes())
            return dict(document["noise"]), list(document["changes"])
        table = pyarrow.parquet.read_table(path)
        return orjson.loads(table.schema.metadata[_KEY]), table.to_pylist()
    except FileNotFoundError as error:
        raise DataError("the record of a noise is not there", where=str(path)) from error
    except (ValueError, KeyError, TypeError, OSError) as error:  # pyarrow's are ValueErrors
        raise DataError(
            "not the record of a noise",
            where=str(path),
            got=f"{type(error).__name__}: {error}",
            fix="name the file that 'tilth noise inject' wrote beside the labels",
        ) from error


def refuse_other_records(path: Path) -> None:
    """Refuse a record of another suffix than `RECORD_SUFFIXES`.

    Raises:
        SettingsError: the suffix is none of them.
    """
    if path.suffix not in RECORD_SUFFIXES:
        raise SettingsError(
            "the record of a noise cannot be such a file",
            where=str(path),
            expected=".json or .parquet",
            got=path.suffix or "no suffix",
        )
