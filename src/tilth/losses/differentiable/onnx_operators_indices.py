"""ONNX operators that pick and place by index."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tilth.losses.differentiable.onnx_graph import Node

__all__ = ["OPERATORS"]

REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _wrapped(indices: Tensor, size: int, x: Tensor) -> Tensor:
    """Indices from the end, which are negative, counted from the start; on the device of x."""
    indices = indices.to(device=x.device, dtype=torch.int64)
    return torch.where(indices < 0, indices + size, indices)


def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Slices of an axis."""
    axis = node.option("axis", 0) % x.ndim
    places = _wrapped(indices, x.shape[axis], x)
    rows = x.index_select(axis, places.reshape(-1))
    return rows.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """One number for each index."""
    axis = node.option("axis", 0)
    return torch.gather(x, axis, _wrapped(indices, x.shape[axis], x))


def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Slices at places of several axes, the first ``batch_dims`` of which run along."""
    batch = node.option("batch_dims", 0)
    lead, depth = x.shape[:batch], indices.shape[-1]
    rows = x.reshape([math.prod(lead), *x.shape[batch:]])
    places = indices.reshape(math.prod(lead), -1, depth)
    example = torch.arange(rows.shape[0], device=x.device)[:, None].expand(places.shape[:2])
    columns = [_wrapped(places[..., axis], rows.shape[axis + 1], x) for axis in range(depth)]
    found = rows[(example, *columns)]
    return found.reshape([*indices.shape[:-1], *x.shape[batch + depth :]])


def scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Numbers put where the indices say, or brought together with what is there."""
    axis = node.option("axis", 0)
    places = _wrapped(indices, x.shape[axis], x)
    reduction = node.option("reduction", "none")
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, REDUCTIONS[reduction])


def scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Slices put at places of several axes."""
    depth = indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for axis in range(depth):
        flat = flat * x.shape[axis] + _wrapped(indices[..., axis], x.shape[axis], x)
    width = math.prod(x.shape[depth:])
    rows = x.reshape(-1, width)
    values = updates.reshape(-1, width)
    places = flat.reshape(-1, 1).expand(-1, width)
    reduction = node.option("reduction", "none")
    if reduction == "none":
        return rows.scatter(0, places, values).reshape(x.shape)
    return rows.scatter_reduce(0, places, values, REDUCTIONS[reduction]).reshape(x.shape)


def one_hot(node: Node, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """The second value at the index, the first elsewhere; an index outside is nowhere."""
    count = int(depth.reshape(()))
    axis = node.option("axis", -1)
    axis += indices.ndim + 1 if axis < 0 else 0
    indices = indices.to(torch.int64)
    places = torch.where(indices < 0, indices + count, indices).unsqueeze(axis)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = count
    chosen = places == torch.arange(count, device=indices.device).reshape(shape)
    off, on = values.to(indices.device)
    return torch.where(chosen, on, off)


def compress(node: Node, x: Tensor, condition: Tensor) -> Tensor:
    """Slices where the condition holds."""
    axis = node.option("axis")
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    return x.index_select(axis, condition.nonzero().reshape(-1).to(x.device))


def largest(node: Node, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest or smallest in order, the first of equals first, and where they were."""
    count = node.option("k") if k is None else int(k.reshape(()))
    axis = node.option("axis", -1)
    values, places = torch.sort(
        x, dim=axis, descending=bool(node.option("largest", 1)), stable=True
    )
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def non_zero(node: Node, x: Tensor) -> Tensor:
    """Places of what is not zero, one column each."""
    return torch.nonzero(x if x.ndim else x[None]).T


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "OneHot": one_hot,
    "Compress": compress,
    "TopK": largest,
    "NonZero": non_zero,
}
