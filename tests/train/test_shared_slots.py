"""Made once by all processes together, whole or not at all, and gone when nobody needs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tilth.errors import StorageError
from tilth.train.shared_slots import SharedSlots, swept

LENGTHS = np.array([3000, 0, 5, 70_000, 1, 4096])

# A process that makes every slot, notes which, and waits to be told (or is killed).
MAKER = """
import sys, time
from pathlib import Path
import numpy as np
from tilth.train.shared_slots import SharedSlots

path, notes = Path(sys.argv[1]), Path(sys.argv[2])
pause, stop = float(sys.argv[3]), int(sys.argv[4])
lengths = np.array([20_000] * 40)
slots = SharedSlots(path, lengths, keep=True)
for slot in range(40):
    def make():
        time.sleep(pause)
        if slot == stop:
            print("here", flush=True)
            time.sleep(60)
        with notes.open("a") as stream:
            stream.write(f"{slot}\\n")
        return np.full(20_000, slot + 1, dtype=np.uint8)
    assert (slots.get(slot, make) == slot + 1).all()
"""


def _start(tmp_path, *, pause=0.0, stop=-1):
    command = [sys.executable, "-c", MAKER, str(tmp_path / "a.slots"), str(tmp_path / "notes")]
    return subprocess.Popen([*command, str(pause), str(stop)], stdout=subprocess.PIPE, text=True)


def _fill(slot):
    return np.full(LENGTHS[slot], slot + 1, dtype=np.uint8)


def test_every_slot_holds_what_was_made_for_it(tmp_path):
    for path in (tmp_path / "a.slots", None):
        slots, made = SharedSlots(path, LENGTHS), []

        def make(slot, noted=made):
            noted.append(slot)
            return _fill(slot)

        for slot in [*range(len(LENGTHS))] * 2:
            got = slots.get(slot, partial(make, slot))
            np.testing.assert_array_equal(got, _fill(slot))
        assert made == [0, 1, 2, 3, 4, 5, 1]  # one without a length is never kept
        assert slots.is_made(3)
        assert not slots.is_made(1)


def test_two_processes_make_every_slot_once_and_read_the_same(tmp_path):
    first, second = _start(tmp_path, pause=0.005), _start(tmp_path, pause=0.005)
    assert first.wait(60) == second.wait(60) == 0
    made = [int(line) for line in (tmp_path / "notes").read_text().split()]
    assert sorted(made) == list(range(40))


def test_what_a_killed_process_began_is_finished_by_the_next(tmp_path):
    killed = _start(tmp_path, stop=17)
    assert killed.stdout.readline() == "here\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    done = _start(tmp_path)
    assert done.wait(60) == 0
    made = [int(line) for line in (tmp_path / "notes").read_text().split()]
    assert made == list(range(40))  # 0 to 16 by the first, the others by the second


def test_a_slot_that_somebody_makes_is_waited_for(tmp_path):
    slow = _start(tmp_path, stop=3)
    assert slow.stdout.readline() == "here\n"
    slots = SharedSlots(tmp_path / "a.slots", np.array([20_000] * 40), keep=True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slots.get, 3, lambda: np.full(20_000, 9, dtype=np.uint8))
        time.sleep(0.3)
        assert not waiting.done()
        slow.kill()
        slow.wait(10)
        assert (waiting.result(10) == 9).all()


def test_threads_make_every_slot_once(tmp_path):
    slots, made = SharedSlots(tmp_path / "a.slots", LENGTHS), []

    def make(slot):
        made.append(slot)
        time.sleep(0.01)
        return _fill(slot)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda slot: slots.get(slot, lambda: make(slot)), [0, 2, 3, 4, 5] * 8))
    assert sorted(made) == [0, 2, 3, 4, 5]


def test_the_last_one_out_deletes_the_file(tmp_path):
    path = tmp_path / "a.slots"
    first = SharedSlots(path, LENGTHS)
    second = subprocess.run(
        [sys.executable, "-c", _USE, str(path)], capture_output=True, text=True, check=True
    )
    assert second.stdout == "used\n"
    assert path.exists()  # the other process has ended, this one still uses it
    view = first.get(0, lambda: _fill(0))
    first.close()
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(view, _fill(0))  # what was handed out stays


_USE = """
import sys
import numpy as np
from pathlib import Path
from tilth.train.shared_slots import SharedSlots
slots = SharedSlots(Path(sys.argv[1]), np.array([3000, 0, 5, 70_000, 1, 4096]))
slots.get(0, lambda: np.full(3000, 1, dtype=np.uint8))
print("used")
"""


def test_what_a_killed_process_left_is_swept_and_what_is_used_is_not(tmp_path):
    killed = _start(tmp_path, stop=3)
    killed.stdout.readline()
    used = SharedSlots(tmp_path / "used.slots", LENGTHS)
    assert swept(tmp_path, older_than_s=0.0) == 0
    killed.kill()
    killed.wait(10)
    assert swept(tmp_path, older_than_s=3600.0) == 0
    assert swept(tmp_path, older_than_s=0.0) == 1
    assert not (tmp_path / "a.slots").exists()
    assert (tmp_path / "used.slots").exists()
    used.close()


def test_damage_is_noticed_and_repaired(tmp_path):
    path = tmp_path / "a.slots"
    SharedSlots(path, LENGTHS, keep=True).get(3, lambda: _fill(3))
    with path.open("r+b") as stream:
        stream.seek(-80_000, os.SEEK_END)
        stream.write(b"\0" * 40_000)
    made = []
    again = SharedSlots(path, LENGTHS, keep=True)
    np.testing.assert_array_equal(again.get(3, lambda: made.append(1) or _fill(3)), _fill(3))
    assert made == [1]


def test_a_full_disk_keeps_no_more_and_still_gives(tmp_path, monkeypatch):
    slots = SharedSlots(tmp_path / "a.slots", LENGTHS)
    slots.get(0, lambda: _fill(0))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    made = []
    for _ in range(2):
        got = slots.get(3, lambda: made.append(1) or _fill(3))
        np.testing.assert_array_equal(got, _fill(3))
    assert made == [1, 1]
    assert slots.is_full
    np.testing.assert_array_equal(slots.get(0, lambda: _fill(5)), _fill(0))


def test_an_error_of_the_maker_leaves_the_slot_free(tmp_path):
    slots = SharedSlots(tmp_path / "a.slots", LENGTHS)

    def broken():
        raise ValueError("no picture")

    for _ in range(2):
        with pytest.raises(ValueError, match="no picture"):
            slots.get(3, broken)
    np.testing.assert_array_equal(slots.get(3, lambda: _fill(3)), _fill(3))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        SharedSlots(Path(tmp_path / "file" / "a.slots"), LENGTHS)
    assert "file" in caught.value.where
