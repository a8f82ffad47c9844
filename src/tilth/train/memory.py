"""Errors of memory that ran out, in words that say what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from tilth.errors import TrainingError

__all__ = ["is_out_of_memory", "out_of_memory_explained"]

# torch has a class of its own for accelerators; on the CPU it is a RuntimeError with these words.
_CPU_ALLOCATOR = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whichever device.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    True
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error) for w in _CPU_ALLOCATOR)


@contextmanager
def out_of_memory_explained(step: int, batch_size: Callable[[], int]) -> Iterator[None]:
    """Turn a failed allocation into an error that names the batch size.

    Args:
        step: counted from 0.
        batch_size: samples of the batch that was made last, 0 where none was.

    Raises:
        TrainingError: an allocation inside the block failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        samples = batch_size()
        half = max(1, samples // 2)
        raise TrainingError(
            "the memory ran out",
            where=f"step {step}, a batch of {samples}" if samples else f"step {step}",
            got=str(error).strip().split("\n")[0] or type(error).__name__,
            fix=f"batch_size={half} and twice train.accumulate train the same in less memory, so "
            "does a smaller network input; batch_size=auto measures what fits. The last checkpoint "
            "is intact",
        ) from error
