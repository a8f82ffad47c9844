"""ONNX operators that bring many numbers together: sums and extremes, norms and normalisations."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_graph import Node

__all__ = ["OPERATORS"]

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _reducing(function: Reduction) -> Callable[..., Tensor]:
    """An operator over axes that are an attribute in old versions and an input in new ones."""

    def operator(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = list(node.option("axes") or []) if axes is None else axes.tolist()
        if not chosen and node.option("noop_with_empty_axes", 0):
            return function(x[None], [0], False)  # of each number by itself
        chosen = [axis % x.ndim for axis in chosen] if chosen else list(range(x.ndim))
        keep = bool(node.option("keepdims", 1))
        return function(x, chosen, keep) if x.ndim else function(x[None], [0], False)

    return operator


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _extreme(x: Tensor, axes: list[int], keep: bool, largest: bool) -> Tensor:
    if x.dtype == torch.bool:
        return _extreme(x.to(torch.uint8), axes, keep, largest).to(torch.bool)
    if any(x.shape[axis] == 0 for axis in axes):
        return _of_nothing(x, axes, keep, largest)
    return x.amax(axes, keepdim=keep) if largest else x.amin(axes, keepdim=keep)


def _of_nothing(x: Tensor, axes: list[int], keep: bool, largest: bool) -> Tensor:
    limits = torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
    value = limits.min if largest else limits.max
    if x.is_floating_point():
        value = -math.inf if largest else math.inf
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    result = x.new_full(shape, value)
    return result if keep else result.squeeze(axes)


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep).to(x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    return x.to(torch.float64).mean(axes, keepdim=keep).to(x.dtype)


def _norm(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """Its slope at zero is 0, not infinite."""
    values = x if x.is_floating_point() else x.to(torch.float64)
    return torch.linalg.vector_norm(values, dim=axes, keepdim=keep).to(x.dtype)


def _log_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    values = x if x.is_floating_point() else x.to(torch.float64)
    return values.sum(axes, keepdim=keep).log().to(x.dtype)


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    values = x if x.is_floating_point() else x.to(torch.float64)
    return values.logsumexp(axes, keepdim=keep).to(x.dtype)


def arg_extreme(node: Node, x: Tensor) -> Tensor:
    """Index of the largest or smallest, the first or the last of equals."""
    axis, keep = node.option("axis", 0), bool(node.option("keepdims", 1))
    find = torch.argmax if node.operator == "ArgMax" else torch.argmin
    if node.option("select_last_index", 0):
        return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=keep)
    return find(x, axis, keepdim=keep)


def cumulate(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    """Running sum or product, from either end, with or without the number itself."""
    dim = int(axis)
    running, neutral = (torch.cumsum, 0) if node.operator == "CumSum" else (torch.cumprod, 1)
    x = x.flip(dim) if node.option("reverse", 0) else x
    result = running(x, dim).to(x.dtype)
    if node.option("exclusive", 0):
        first = torch.full_like(result.narrow(dim, 0, 1), neutral)
        result = torch.cat([first, result.narrow(dim, 0, x.shape[dim] - 1)], dim)
    return result.flip(dim) if node.option("reverse", 0) else result


def _along_axis(function: Callable[[Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """Before version 13 all axes from the given one on are one."""

    def operator(node: Node, x: Tensor) -> Tensor:
        if node.opset >= 13:
            return function(x, node.option("axis", -1))
        axis = node.option("axis", 1) % x.ndim
        return function(x.reshape(*x.shape[:axis], -1), axis).reshape(x.shape)

    return operator


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


def batch_normalization(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """With the statistics of the file."""
    if node.option("training_mode", 0):
        raise DataError(
            f"node '{node.name}' (BatchNormalization) takes the statistics of the batch",
            expected="a model exported for inference",
            got="training_mode = 1",
            fix="call model.eval() before exporting",
        )
    if node.option("spatial", 1):
        epsilon = node.option("epsilon", 1e-5)
        return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)
    return (x - mean) / (variance + node.option("epsilon", 1e-5)).sqrt() * scale + bias


def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Each channel of each picture by itself."""
    axes = list(range(2, x.ndim))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    shape = [-1, *[1] * len(axes)]
    normal = (x - mean) * torch.rsqrt(variance + node.option("epsilon", 1e-5))
    return normal * scale.reshape(shape) + bias.reshape(shape)


def layer_normalization(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """All axes from ``axis`` on together; also their mean and one over their spread."""
    axes = list(range(node.option("axis", -1) % x.ndim, x.ndim))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    inverse = torch.rsqrt(variance + node.option("epsilon", 1e-5))
    normal = (x - mean) * inverse * scale
    return normal if bias is None else normal + bias, mean, inverse


def norm_division(node: Node, x: Tensor) -> Tensor:
    """x by its norm along an axis; zero where that is zero."""
    norm = torch.linalg.vector_norm(
        x, node.option("p", 2), dim=node.option("axis", -1), keepdim=True
    )
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


def local_response(node: Node, x: Tensor) -> Tensor:
    """By the squares of neighbouring channels."""
    size = node.option("size")
    before = (size - 1) // 2
    squares = (x * x).movedim(1, -1)
    padded = functional.pad(squares, [before, size - 1 - before])
    sums = padded.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    base = node.option("bias", 1.0) + node.option("alpha", 1e-4) / size * sums
    return x / base ** node.option("beta", 0.75)


REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": lambda x, axes, keep: _extreme(x, axes, keep, True),
    "ReduceMin": lambda x, axes, keep: _extreme(x, axes, keep, False),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": _norm,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
}
OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    **{name: _reducing(function) for name, function in REDUCTIONS.items()},
    "ArgMax": arg_extreme,
    "ArgMin": arg_extreme,
    "CumSum": cumulate,
    "CumProd": cumulate,
    "Softmax": _along_axis(torch.softmax),
    "LogSoftmax": _along_axis(torch.log_softmax),
    "Hardmax": _along_axis(_hardmax),
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "LpNormalization": norm_division,
    "LRN": local_response,
}
