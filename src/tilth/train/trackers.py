"""Where the numbers of a run are written down: one line of JSON a record, and TensorBoard.

The JSON lines are the record that resume keeps exact: no step twice, none missing. TensorBoard is
for looking at and is loaded only when it is asked for, and so is MLflow (`mlflow_tracker`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson

from tilth.data.atomic import atomic_writer
from tilth.errors import StorageError
from tilth.lazy import require

__all__ = ["JsonLines", "TensorBoard", "Tracker", "flat_numbers", "read_records"]


class Tracker(Protocol):
    """Where records go."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Take one record of a step."""
        ...

    def sync(self) -> None:
        """Bring what was written to safety, before a checkpoint claims that it is there."""
        ...

    def close(self) -> None:
        """The run is over, or stopped."""
        ...


class JsonLines:
    """A file of one JSON object a line, each with a ``step``; opened at the step of a checkpoint.

    Records after ``step`` (written between the checkpoint and the end of the process, perhaps cut
    off in the middle of a line) are dropped: the resumed run writes them again.

    Args:
        path: created when missing.
        step: the step that the run continues from; 0 starts afresh.
    """

    def __init__(self, path: Path, *, step: int) -> None:
        self.path = path
        kept = [record for record in read_records(path) if record["step"] <= step]
        with atomic_writer(path) as stream:
            stream.writelines(_line(record) for record in kept)
        self._stream = path.open("ab", buffering=0)  # a killed process loses no finished line

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one record; a number that is not finite becomes null.

        Raises:
            StorageError: the disk is full.
        """
        line = _line({"step": step, **values})
        with self._storage_errors():
            if self._stream.write(line) < len(line):  # the disk filled up within the line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Bring the lines to the disk, before a checkpoint claims that they exist."""
        with self._storage_errors():
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                "the metrics could not be written; the last checkpoint is intact",
                where=str(self.path),
                got=error.strerror or str(error),
                fix="free some space and start the same run again: it continues",
            ) from error


class TensorBoard:
    """The same records as curves; records after ``step`` are hidden, as a resumed run repeats them.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        require("tensorboard", extra="train")
        module = require("torch.utils.tensorboard", extra="train")
        self._writer = module.SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Add every number of a record, nested names joined by ``/``."""
        for name, value in flat_numbers(values):
            self._writer.add_scalar(name, value, global_step=step)

    def sync(self) -> None:
        """Hand the curves to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The whole records of a metrics file; a last line that was cut off is left out.

    A missing file has no records.
    """
    if not path.exists():
        return []
    *lines, _cut_off = path.read_bytes().split(b"\n")
    return [orjson.loads(line) for line in lines]


def _line(record: Mapping[str, Any]) -> bytes:
    return orjson.dumps(record) + b"\n"


def flat_numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a record, nested names joined by ``/``.

    >>> list(flat_numbers({"loss": {"box": 0.5}, "learning_rate": 0.1}))
    [('loss/box', 0.5), ('learning_rate', 0.1)]
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield prefix + name, value
