"""The losses of all processes as one batch, the same to the last bit as in a single process."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from tilth.errors import DataError

__all__ = ["gathered_columns"]


def gathered_columns(
    columns: Float[Tensor, "c n"],
    process_group: distributed.ProcessGroup | None,
    *,
    capacity: int | None = None,
) -> tuple[Float[Tensor, "c m"], int]:
    """The columns of all processes side by side, by rank, and where this one's begin.

    Sums of parts, added up by an all-reduce, differ from the sum of the whole in the last bits.
    Here the values themselves travel, c numbers an example, and every process computes the same
    from all of them.

    Args:
        process_group: None is this process alone, and nothing is sent.
        capacity: at least what any process has. With it one collective is enough; without it the
            counts travel first, in another.

    Raises:
        DataError: more columns than ``capacity``.
    """
    if process_group is None:
        return columns, 0
    rank, size = process_group.rank(), process_group.size()
    own = columns.shape[1]
    if capacity is None:
        counts = _all_gathered(columns.new_tensor([float(own)]), process_group, size)
        capacity = int(torch.stack(counts).max())
    elif own > capacity:
        raise DataError(
            "a batch is larger than was said",
            expected=f"{capacity} examples at most",
            got=f"{own} in process {rank}",
        )
    # The count goes along as one more row, so that a given capacity needs no other message.
    sent = columns.new_full((columns.shape[0] + 1, max(capacity, 1)), math.nan)
    sent[:-1, :own] = columns
    sent[-1] = own
    parts = _all_gathered(sent, process_group, size)
    counts_of_ranks = [int(count) for count in torch.stack(parts)[:, -1, 0].tolist()]
    whole = [part[:-1, :count] for part, count in zip(parts, counts_of_ranks, strict=True)]
    return torch.cat(whole, dim=1), sum(counts_of_ranks[:rank])


def _all_gathered(sent: Tensor, process_group: distributed.ProcessGroup, size: int) -> list[Tensor]:
    parts = [torch.empty_like(sent) for _ in range(size)]
    distributed.all_gather(parts, sent, group=process_group)
    return parts
