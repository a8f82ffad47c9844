"""Catalogues for the tests of this room: every test of one runs on both databases."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tilth.data.catalogue import Catalogue

sys.path.insert(0, str(Path(__file__).parent))  # for `small_sets`, beside this file


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database; on PostgreSQL a schema of its own, dropped afterwards."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'tilth.db'}"
        return
    yield from _schema_of_its_own(request.getfixturevalue("postgres_url"), tmp_path.name)


def _schema_of_its_own(server_url: str, test_name: str) -> Iterator[str]:
    url = sa.make_url(server_url)
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg"))
    process = os.environ.get("PYTEST_XDIST_WORKER", "")
    name = f"tilth_{process}{test_name}".replace("-", "_").lower()[:60]
    with engine.begin() as connection:
        connection.exec_driver_sql(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
        connection.exec_driver_sql(f'CREATE SCHEMA "{name}"')
    inside = url.update_query_dict({"options": f"-csearch_path={name}"})
    yield inside.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.exec_driver_sql(f'DROP SCHEMA "{name}" CASCADE')
    engine.dispose()


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    made = Catalogue.create(database_url)
    yield made
    made.close()


@pytest.fixture
def postgres_team_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty PostgreSQL schema; the test skips where there is no server."""
    yield from _schema_of_its_own(request.getfixturevalue("postgres_url"), tmp_path.name)
