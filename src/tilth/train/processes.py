"""Several processes that do one piece of work: who does which part, and how they agree.

torchrun says by RANK and WORLD_SIZE how many there are. Without it every function here is that of
a single process, and no process group is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from accelerate.state import PartialState
from numpy.typing import NDArray
from torch import distributed

from tilth.errors import TrainingError

__all__ = [
    "from_main",
    "gathered",
    "is_main",
    "join",
    "lost_processes_explained",
    "main_first",
    "num_local_processes",
    "num_processes",
    "rank",
    "shard",
    "share_cores",
]

Value = TypeVar("Value")

# What gloo and NCCL say when a peer has gone or does not answer.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Timed out", "timed out")


def num_processes() -> int:
    """How many work on this run, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def num_local_processes() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """The number of this one, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


def join(device: Literal["auto", "cpu", "cuda"] = "auto", *, timeout: float = 1800.0) -> None:
    """Meet the other processes, once; before anything here that lets them wait for each other.

    Args:
        device: as in the settings of the loop that follows.
        timeout: seconds that one waits for the others.
    """
    if num_processes() > 1:
        with lost_processes_explained():
            PartialState(cpu=device == "cpu", timeout=timedelta(seconds=timeout))


@contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the block while the others wait before it."""
    if num_processes() > 1 and not is_main():
        _meet()
    try:
        yield
    finally:
        if num_processes() > 1 and is_main():
            _meet()


def gathered(value: Value) -> list[Value]:
    """The values of all processes, by rank; each of them must call this.

    Raises:
        TrainingError: one of them has ended, or did not answer in time.
    """
    if num_processes() == 1:
        return [value]
    values: list[Any] = [None] * num_processes()
    with lost_processes_explained():
        distributed.all_gather_object(values, value)
    return values


def from_main(value: Value) -> Value:
    """The value of the main process, everywhere; each of them must call this.

    Raises:
        TrainingError: one of them has ended, or did not answer in time.
    """
    if num_processes() == 1:
        return value
    values = [value]
    with lost_processes_explained():
        distributed.broadcast_object_list(values, src=0)
    return values[0]


def shard(count: int, *, chunk: int) -> NDArray[np.int64]:
    """Which of ``count`` items are this process': every so-manieth chunk of ``chunk``.

    By whole chunks, so that batches of that size hold the same items as in a single process, and
    with them the last bits of what comes out.

    >>> shard(5, chunk=2)
    array([0, 1, 2, 3, 4])
    """
    items = np.arange(count, dtype=np.int64)
    return items[(items // chunk) % num_processes() == rank() % num_processes()]


def share_cores(threads: int) -> None:
    """Let torch use ``threads`` on the CPU; 0 leaves it, or takes this process' share of the cores.

    torchrun asks for one thread a process, whatever the machine has.
    """
    if threads:
        torch.set_num_threads(threads)
    elif num_local_processes() > 1:
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // num_local_processes()))


@contextmanager
def lost_processes_explained() -> Iterator[None]:
    """Turn a broken connection between processes into an error that says so.

    Raises:
        TrainingError: another process has ended, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:  # torch.distributed's own errors are among them
        known = isinstance(error, distributed.DistError)
        if num_processes() == 1 or not (known or any(words in str(error) for words in _LOST)):
            raise
        raise TrainingError(
            "another process of this run has ended, or did not answer in time",
            where=f"process {rank()} of {num_processes()}",
            got=str(error).strip().split("\n")[0],
            fix="read what the others said; a longer train.timeout waits for a slow one. The same "
            "command goes on from the last checkpoint",
        ) from error


def _meet() -> None:
    with lost_processes_explained():
        PartialState().wait_for_everyone()
