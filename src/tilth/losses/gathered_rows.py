"""The rows of the batches of all processes, one after the other, in every process."""

import math

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed

from tilth.losses.global_batch import gathered_columns

__all__ = ["gathered_rows", "num_together", "rank_of", "summed", "together"]


def together() -> distributed.ProcessGroup | None:
    """The processes that train together; None where there is but this one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    return distributed.group.WORLD if distributed.get_world_size() > 1 else None


def num_together() -> int:
    """How many processes train together."""
    return 1 if together() is None else distributed.get_world_size()


def rank_of() -> int:
    """The number of this process among those that train together."""
    return 0 if together() is None else distributed.get_rank()


def summed(value: Tensor) -> Tensor:
    """The sum over all processes; every one of them must call this."""
    group = together()
    if group is None:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total, group=group)
    return total


def gathered_rows(
    numbers: Shaped[Tensor, "n"], values: Shaped[Tensor, "n *rest"]
) -> tuple[Shaped[Tensor, "m"], Shaped[Tensor, "m *rest"]]:
    """Numbers and values with the rows of all processes by rank; every one must call this.

    >>> gathered_rows(torch.tensor([3, 5]), torch.tensor([0.5, 1.5]))
    (tensor([3, 5]), tensor([0.5000, 1.5000]))
    """
    group = together()
    if group is None:
        return numbers, values
    flat = values.reshape(len(values), math.prod(values.shape[1:])).double()
    columns = torch.cat([numbers[None].double(), flat.mT])
    whole, _ = gathered_columns(columns, group)
    of_all = whole[1:].mT.to(values.dtype).reshape(-1, *values.shape[1:])
    return whole[0].to(numbers.dtype), of_all
