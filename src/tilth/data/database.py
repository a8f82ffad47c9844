"""The connection to SQLite or PostgreSQL: pragmas, transactions, and errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from tilth.errors import CatalogueError, MissingExtraError, SettingsError, StorageError, TilthError

__all__ = ["connect", "is_sqlite", "reading", "shown_url", "writing"]

# One writer at a time on PostgreSQL as on SQLite: ids and label identities are settled in memory
# before the rows are written. Readers are not held up. The number is ours, for good.
_WRITER_LOCK = 7_246_213_908

_FULL = ("disk is full", "No space left", "disk I/O error", "could not extend", "DiskFull")
_BUSY = ("locked", "lock timeout", "LockNotAvailable", "deadlock")


def connect(url: str, *, lock_timeout_s: float = 60.0) -> Engine:
    """An engine for ``sqlite:///path`` or ``postgresql+psycopg://...``; connects on first use.

    Raises:
        SettingsError: not a URL, or a database that is neither SQLite nor PostgreSQL.
        MissingExtraError: PostgreSQL without its driver.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        engine = sa.create_engine(parsed, connect_args={"timeout": lock_timeout_s})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = sa.create_engine(parsed, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "the PostgreSQL driver is not installed", fix="pip install 'tilth[postgres]'"
        ) from error

    def limit_waiting(connection: Any, _record: Any) -> None:
        # Not by connection options: those of the URL are the user's (a search_path, say).
        connection.execute(f"SET lock_timeout = {int(lock_timeout_s * 1000)}")
        connection.commit()

    event.listen(engine, "connect", limit_waiting)
    return engine


def is_sqlite(connection: Connection | Engine) -> bool:
    """Whether the embedded database is behind it."""
    return connection.dialect.name == "sqlite"


def shown_url(engine: Engine) -> str:
    """The URL without its password."""
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of the catalogue, and never waits for a writer.

    Raises:
        CatalogueError: the database cannot be reached.
    """
    with _translated(engine), engine.connect() as connection:
        if not is_sqlite(engine):
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """The one write transaction; all of it is kept, or nothing.

    Raises:
        CatalogueError: another process held the lock for longer than the timeout.
        StorageError: the disk is full; nothing was changed.
    """
    with _translated(engine), engine.connect() as connection:
        connection = connection.execution_options(tilth_writes=True)
        with connection.begin():
            if is_sqlite(engine):
                # Within one import a derived picture may stand before its parent.
                connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
            yield connection


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise SettingsError("the catalogue's URL cannot be read", got=_without_password(url)) from (
            error
        )
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingsError(
            "the catalogue lives in SQLite or PostgreSQL",
            expected="postgresql+psycopg://user@host/database",
            got=parsed.get_backend_name(),
        )
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def _without_password(url: str) -> str:
    return url.rpartition("@")[2]


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # begin and commit are ours: see _begin_sqlite
    # A label with its polygon is 0.5 to 5 KB: on SQLite's usual 4 KB pages many spill into chains
    # of pages, and an import takes a third longer. Counts for a new file only.
    connection.execute("PRAGMA page_size = 32768")
    for pragma in ("foreign_keys = ON", "cache_size = -65536", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later cannot wait for the lock, only fail; a
    # writer therefore takes it at once.
    writes = connection.get_execution_options().get("tilth_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except TilthError:
        raise
    except (exc.DBAPIError, sqlite3.Error) as error:
        raise _in_our_words(engine, error) from error


def _in_our_words(engine: Engine, error: Exception) -> TilthError:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    text = f"{type(cause).__name__}: {cause}".strip()
    where = shown_url(engine)
    if any(sign in text for sign in _FULL):
        return StorageError(
            "the catalogue could not be written; nothing was changed",
            where=where,
            got=text,
            fix="free some space and do it again",
        )
    if any(sign in text for sign in _BUSY):
        return CatalogueError(
            "another process holds the catalogue",
            where=where,
            got=text,
            fix="wait for it to finish and do it again; nothing was changed",
        )
    missing = is_sqlite(engine) and not Path(engine.url.database or "").exists()
    return CatalogueError(
        "there is no catalogue" if missing else "the catalogue cannot be used",
        where=where,
        got=text,
        fix="tilth init" if missing else "is the server running, and the URL in tilth.toml right?",
    )
