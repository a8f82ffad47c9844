"""The reference libraries of slow metrics, asked in an interpreter of their own.

They are peers, not parts of Tilth: rapidfuzz (MIT), pystoi (MIT), and pesq, whose C code is the
one that the ITU hands out with recommendation P.862, for evaluation. `.venv-peers/metrics` is made
by `make bench`. A process here talks to one there, a line of JSON a question; sounds go as base64.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import subprocess
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tilth.errors import StorageError, TilthError

__all__ = ["Peer"]

ANSWERING = """
import base64, importlib.metadata, json, sys
import numpy as np

def sound(text):
    return np.frombuffer(base64.b64decode(text), dtype=np.float32)

def levenshtein(one, other):
    from rapidfuzz.distance import Levenshtein
    return Levenshtein.distance(one, other)

def pesq_nb(reference, degraded):
    from pesq import NoUtterancesError, pesq
    one, other = sound(reference), sound(degraded)
    if not one.any() or not other.any():  # it divides by the loudest sample
        return None
    try:
        return pesq(8000, one, other, "nb")
    except NoUtterancesError:
        return None

def stoi(reference, degraded):
    from pystoi import stoi
    return float(stoi(sound(reference), sound(degraded), 8000))

def versions(*names):
    return {name: importlib.metadata.version(name) for name in names}

answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    name, given = json.loads(line)
    try:
        answer = {"value": globals()[name](*given)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), file=answers, flush=True)
"""


class Peer:
    """A process that has the libraries, for one process here."""

    def __init__(self, python: Path) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", "-c", ANSWERING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        atexit.register(self.close)

    @staticmethod
    def of(python: Path) -> Peer:
        """The one of this process, started when it is first asked."""
        return _peer_of(python, os.getpid())

    @staticmethod
    def python(path: Path | None) -> Path:
        """The interpreter, or an error that says how to make one."""
        if path is None or not path.is_file():
            raise StorageError(
                "there is no Python with the libraries of the metrics",
                where=str(path),
                expected="one that has rapidfuzz, pesq and pystoi",
                fix="run `make bench`, or name one by --peers",
            )
        return path.absolute()

    def ask(self, name: str, *given: Any) -> Any:
        """What the function of this name answers.

        Raises:
            TilthError: the library failed, or the process has ended.
        """
        question = json.dumps([name, [_plain(part) for part in given]])
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process has ended"}
        if "error" in answer:
            raise TilthError(f"{name} did not answer", got=answer["error"])
        return answer["value"]

    def close(self) -> None:
        """End the process, which has nothing more to read."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=10)


@cache
def _peer_of(python: Path, process: int) -> Peer:
    """A forked process must not read the answers of the one it comes from."""
    return Peer(python)


def _plain(part: Any) -> Any:
    if isinstance(part, np.ndarray):
        return base64.b64encode(np.ascontiguousarray(part, dtype=np.float32)).decode()
    return part
