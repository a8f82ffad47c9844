"""What can go wrong, as a small tree of exceptions that say how to put it right.

    TilthError                 1   anything that Tilth reports on purpose
    ├── SettingsError          2   a setting, flag or tilth.toml that cannot be used
    ├── DataError              3   labels or a data set that cannot be used
    │   ├── LabelError         3   one label file, with the place in it
    │   └── EmptyDatasetError  3   nothing left to work on
    ├── MediaError             4   a picture that is missing, broken or too large
    │   └── PathEscapeError    4   a path that leaves the folder it must stay in
    ├── CatalogueError         5   the catalogue is missing, busy, or of another age
    ├── MissingExtraError      6   an optional library is not installed
    ├── StorageError           7   a write that failed; nothing half-written was left
    └── TrainingError          8   training cannot start or go on

The number is the exit code of the command line; scripts may rely on it.
"""

from __future__ import annotations


class TilthError(Exception):
    """An error a person can act on.

    Args:
        message: what happened, in one sentence.
        expected: what would have been right.
        got: what was found instead.
        where: the file, line or field.
        fix: what to do now.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        where: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.got = got
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        parts = [self.message]
        for label, value in self.details().items():
            parts.append(f"  {label}: {value}")
        return "\n".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (worker pools); keyword arguments must survive pickling.
        return (_rebuild, (type(self), self.message, self.details()))

    def details(self) -> dict[str, str]:
        """The parts that were given, in the order in which they are printed."""
        parts = {
            "where": self.where,
            "expected": self.expected,
            "got": self.got,
            "fix": self.fix,
        }
        return {name: value for name, value in parts.items() if value is not None}


def _rebuild(kind: type[TilthError], message: str, details: dict[str, str]) -> TilthError:
    return kind(message, **details)


class SettingsError(TilthError):
    """A setting, flag or ``tilth.toml`` entry that cannot be used."""

    exit_code = 2


class DataError(TilthError):
    """Labels or a data set that cannot be used."""

    exit_code = 3


class LabelError(DataError):
    """Something wrong in one label file."""


class EmptyDatasetError(DataError):
    """No pictures, no boxes, or no class left to work on."""


class MediaError(TilthError):
    """A picture that is missing, truncated, too large or of an unknown kind."""

    exit_code = 4


class PathEscapeError(MediaError):
    """A path that leaves the folder it must stay in."""


class CatalogueError(TilthError):
    """The catalogue is missing, locked by another process, or needs a migration."""

    exit_code = 5


class MissingExtraError(TilthError):
    """An optional library is not installed."""

    exit_code = 6


class StorageError(TilthError):
    """A write that failed; whatever was there before is still there."""

    exit_code = 7


class TrainingError(TilthError):
    """Training cannot start or go on."""

    exit_code = 8
