"""The migrations that ship make the tables that the code uses, and say when they cannot."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from small_sets import small_dataset

from tilth.data import schema
from tilth.data.catalogue import Catalogue
from tilth.data.database import connect, reading, writing
from tilth.data.migration import alembic_config, current_revision
from tilth.errors import CatalogueError


def test_migrations_make_the_tables_of_the_schema(database_url: str) -> None:
    Catalogue.create(database_url).close()
    with connect(database_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_the_head_that_the_schema_names_is_the_newest_migration() -> None:
    script = ScriptDirectory.from_config(alembic_config(None))
    assert script.get_current_head() == schema.HEAD_REVISION


def test_a_catalogue_of_a_newer_release_is_refused_and_untouched(database_url: str) -> None:
    Catalogue.create(database_url).close()
    engine = connect(database_url)
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'r9999'")
    with pytest.raises(CatalogueError, match="newer release") as caught:
        Catalogue.open(database_url)
    assert caught.value.fix == "pip install --upgrade tilth"
    with reading(engine) as connection:
        assert current_revision(connection) == "r9999"


def test_an_older_catalogue_is_upgraded_when_it_is_opened(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Catalogue.create(database_url).close()
    asked: list[str] = []
    monkeypatch.setattr(schema, "HEAD_REVISION", "r0002")
    monkeypatch.setattr(
        "tilth.data.catalogue.upgrade", lambda connection: asked.append(str(connection.closed))
    )
    catalogue = Catalogue.open(database_url)
    assert asked == ["False"]
    catalogue.import_dataset(small_dataset())


def test_sqlite_is_prepared_for_readers_beside_a_writer(tmp_path) -> None:  # type: ignore[no-untyped-def]
    url = f"sqlite:///{tmp_path / 'tilth.db'}"
    Catalogue.create(url).close()
    with connect(url).connect() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "page_size")
        }
    assert pragma == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "busy_timeout": 60_000,
        "page_size": 32_768,
    }


def test_the_database_refuses_labels_of_nothing(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    with pytest.raises(CatalogueError, match="cannot be used"), writing(catalogue._engine) as c:
        c.execute(schema.task_media.insert().values(task_id=1, media_id=12_345))
    assert len(catalogue.read().media) == 4
