"""A full disk, a second writer, a killed process: all or nothing, and an error that says so."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_sets import small_dataset

from tilth.data.catalogue import Catalogue
from tilth.errors import CatalogueError, StorageError

ROOM = Path(__file__).parent


def limit_pages(catalogue: Catalogue, extra: int) -> None:
    """The next connection finds a disk with room for a few more pages only."""
    from sqlalchemy import event

    def limit(connection: Any, _record: Any) -> None:
        used = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {used + extra}")

    catalogue._engine.dispose()
    event.listen(catalogue._engine, "connect", limit)


def test_a_disk_that_fills_half_way_leaves_the_catalogue_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tilth.db"
    catalogue = Catalogue.create(f"sqlite:///{path}")
    catalogue.import_dataset(small_dataset())
    before = catalogue.create_version("before")
    limit_pages(catalogue, extra=4)
    with pytest.raises(StorageError, match="nothing was changed") as caught:
        catalogue.import_dataset(small_dataset(num_media=9_000, labels_each=2, prefix="new/"))
    assert caught.value.exit_code == 7
    catalogue.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = Catalogue.open(f"sqlite:///{path}")
    assert again.create_version("before") == before
    assert len(again.read().media) == 4


def test_a_lock_that_is_never_freed_is_an_error_with_a_fix(database_url: str) -> None:
    from tilth.data.database import connect, writing

    Catalogue.create(database_url).close()
    impatient = Catalogue.open(database_url, lock_timeout_s=0.2)
    with writing(connect(database_url)):
        started = time.monotonic()
        with pytest.raises(CatalogueError, match="another process") as caught:
            impatient.import_dataset(small_dataset())
        assert time.monotonic() - started < 10
        assert len(impatient.read().media) == 0, "readers do not wait"
    assert "do it again" in str(caught.value.fix)
    assert impatient.import_dataset(small_dataset()).media_added == 4


def import_many(url: str, name: str, times: int) -> None:
    catalogue = Catalogue.open(url)
    for i in range(times):
        catalogue.import_dataset(small_dataset(num_media=40, prefix=f"{name}/{i}/"))
        ids = catalogue.read().media.id
        catalogue.write_features("m", ["a"], "media", ids[:5], np.ones((5, 1)))


@pytest.mark.cluster
def test_two_processes_write_at_once_and_nothing_is_lost(database_url: str) -> None:
    Catalogue.create(database_url).close()
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=import_many, args=(database_url, name, 8)) for name in ("a", "b")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    dataset = Catalogue.open(database_url).read()
    assert len(dataset.media) == 2 * 8 * 40
    assert len(dataset.annotations) == 2 * 8 * 39 * 3
    assert len(set(dataset.media.uri)) == len(dataset.media)
    assert len(dataset.categories) == 3


KILLED = """
import sys
sys.path.insert(0, {room!r})
from small_sets import small_dataset
from tilth.data.catalogue import Catalogue
catalogue = Catalogue.open({url!r})
def advance(rows):
    print("half-way", flush=True)
    import time
    time.sleep(60)
catalogue.import_dataset(small_dataset(num_media=9_000, prefix="new/"), advance=advance)
"""


@pytest.mark.cluster
def test_a_process_killed_during_an_import_leaves_nothing(database_url: str) -> None:
    catalogue = Catalogue.create(database_url)
    catalogue.import_dataset(small_dataset())
    before = catalogue.create_version("before")
    script = KILLED.format(room=str(ROOM), url=database_url)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"half-way\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert catalogue.create_version("before") == before
    assert catalogue.import_dataset(small_dataset(prefix="new/")).media_added == 4
