"""Shared by all tests: shape checks are on, Hypothesis is derandomised, data may be absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Processes that share the cores among them compute with one thread each; read when torch comes in.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Rooms whose signatures carry shapes; checked by beartype while testing, silent in production.
install_import_hook(["tilth.ops", "tilth.models", "tilth.losses"], "beartype.beartype")

settings.register_profile(
    "tilth",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tilth")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = Path(os.environ.get("TILTH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; the test skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found at {SHARED_DATA} (set TILTH_SHARED_DATA)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """A PostgreSQL URL for tests; `.ci/run` starts the server and sets the variable."""
    url = os.environ.get("TILTH_TEST_POSTGRES")
    if not url:
        pytest.skip("no PostgreSQL (set TILTH_TEST_POSTGRES=postgresql+psycopg://user:pw@host/db)")
    return url
