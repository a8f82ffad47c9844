"""ONNX operators that move numbers without changing them: shapes, cuts, joins and padding."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tilth.losses.differentiable.onnx_graph import Node

__all__ = ["OPERATORS"]


def whole_numbers(values: Tensor | None) -> list[int]:
    """The numbers of an input that says a shape or axes."""
    return [] if values is None else [int(value) for value in values.reshape(-1).tolist()]


def reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    """0 keeps a size, -1 takes what is left."""
    sizes = whole_numbers(shape)
    if not node.option("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def flatten(node: Node, x: Tensor) -> Tensor:
    """Two axes: those before ``axis``, and the rest."""
    axis = node.option("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def transpose(node: Node, x: Tensor) -> Tensor:
    """Axes in the order ``perm``, by default reversed."""
    return x.permute(node.option("perm") or list(reversed(range(x.ndim))))


def _axes(node: Node, axes: Tensor | None) -> list[int]:
    return list(node.option("axes") or []) if axes is None else whole_numbers(axes)


def squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Axes of size 1 taken out; all of them where none is named."""
    chosen = _axes(node, axes)
    return x.squeeze(chosen) if chosen else x.squeeze()


def unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Axes of size 1 put in, where they are in the result."""
    chosen = _axes(node, axes)
    rank = x.ndim + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def split(node: Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """Parts along an axis: of the given sizes, or of equal ones and a smaller last one."""
    axis = node.option("axis", 0)
    parts = whole_numbers(sizes) or list(node.option("split") or [])
    if not parts:
        count = node.option("num_outputs") or len(node.outputs)
        each, length = -(-x.shape[axis] // count), x.shape[axis]
        parts = [max(min(each, length - each * part), 0) for part in range(count)]
    return torch.split(x, parts, axis)


def cut(
    node: Node,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """From start to end along each axis; both are attributes before version 10."""
    first = node.option("starts") if starts is None else whole_numbers(starts)
    last = node.option("ends") if ends is None else whole_numbers(ends)
    chosen = _axes(node, axes) or list(range(len(first)))
    strides = whole_numbers(steps) or [1] * len(first)
    for start, end, axis, step in zip(first, last, chosen, strides, strict=True):
        places = range(x.shape[axis])[slice(start, end, step)]
        if step == 1:
            x = x.narrow(axis, places.start if places else 0, len(places))
        else:
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))
    return x


def expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    """Broadcast; a 1 in the shape keeps the size."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(whole_numbers(shape))))


def pad(
    node: Node,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """Numbers put around (or, negative, cut off): a constant, or those at the edge."""
    widths = list(node.option("pads") or []) if pads is None else whole_numbers(pads)
    chosen = whole_numbers(axes) or list(range(len(widths) // 2))
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(chosen):
        before[axis], after[axis] = widths[place], widths[len(chosen) + place]
    mode = node.option("mode", "constant")
    if mode == "constant":
        edges = [width for axis in reversed(range(x.ndim)) for width in (before[axis], after[axis])]
        fill = node.option("value", 0.0) if value is None else value.item()
        return functional.pad(x, edges, value=fill if x.is_floating_point() else int(fill))
    for axis in range(x.ndim):
        if before[axis] or after[axis]:
            x = x.index_select(axis, _mirrored(x, axis, before[axis], after[axis], mode))
    return x


def _mirrored(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Which places of the axis lie side by side in the padded one."""
    size = x.shape[axis]
    places = torch.arange(-before, size + after, device=x.device)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    period = max(2 * (size - 1), 1)
    places = places % period
    return torch.where(places < size, places, period - places)


def shape_of(node: Node, x: Tensor) -> Tensor:
    """Sizes, of the axes from ``start`` to ``end``."""
    return torch.tensor(x.shape[node.option("start", 0) : node.option("end")], dtype=torch.int64)


def constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    """One number everywhere."""
    value = node.option("value")
    value = torch.zeros(1, dtype=node.dtype(1)) if value is None else value
    dtype = node.real if node.real and value.is_floating_point() else value.dtype
    return torch.full(whole_numbers(shape), value.item(), dtype=dtype)


def span(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """start, start + delta, ... up to the limit."""
    first, last, step = start.item(), limit.item(), delta.item()
    count = max(math.ceil((last - first) / step), 0)
    return start + torch.arange(count, dtype=start.dtype, device=start.device) * delta


def depth_to_space(node: Node, x: Tensor) -> Tensor:
    """Channels laid out as blocks of pixels."""
    block = node.option("blocksize")
    b, c, h, w = x.shape
    if node.option("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, block)
    parts = x.reshape(b, block, block, c // block**2, h, w)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(b, c // block**2, h * block, w * block)


def space_to_depth(node: Node, x: Tensor) -> Tensor:
    """Blocks of pixels laid out as channels."""
    block = node.option("blocksize")
    b, c, h, w = x.shape
    parts = x.reshape(b, c, h // block, block, w // block, block)
    order = (0, 1, 3, 5, 2, 4) if node.option("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return parts.permute(order).reshape(b, c * block**2, h // block, w // block)


def diagonal(node: Node, x: Tensor) -> Tensor:
    """Ones on a diagonal, of the shape of x."""
    code = node.option("dtype")
    rows, columns = x.shape
    places = torch.arange(columns)[None] - torch.arange(rows)[:, None]
    return (places == node.option("k", 0)).to(node.dtype(code) if code else x.dtype).to(x.device)


def triangle(node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    """What is above, or below, a diagonal; zero elsewhere."""
    offset = 0 if k is None else int(k)
    return x.triu(offset) if node.option("upper", 1) else x.tril(offset)


def reverse_sequence(node: Node, x: Tensor, lengths: Tensor) -> Tensor:
    """The first so many steps of each example in reverse."""
    time, batch = node.option("time_axis", 0), node.option("batch_axis", 1)
    rows = x.movedim((batch, time), (0, 1))
    steps = torch.arange(rows.shape[1], device=x.device)[None]
    lengths = lengths.to(x.device)[:, None]
    places = torch.where(steps < lengths, lengths - 1 - steps, steps)
    turned = rows[torch.arange(rows.shape[0], device=x.device)[:, None], places]
    return turned.movedim((0, 1), (batch, time))


def blocks_to_picture(node: Node, x: Tensor, size: Tensor, block: Tensor) -> Tensor:
    """Sum of overlapping blocks put back where they were cut from a picture."""
    sizes, kernel = whole_numbers(size), whole_numbers(block)
    axes = len(sizes)
    pads = list(node.option("pads") or [0] * 2 * axes)
    padded = [sizes[axis] + pads[axis] + pads[axes + axis] for axis in range(axes)]
    whole = functional.fold(
        x,
        tuple(padded),
        tuple(kernel),
        dilation=node.option("dilations") or 1,
        stride=node.option("strides") or 1,
    )
    for axis in range(axes):
        whole = whole.narrow(axis + 2, pads[axis], sizes[axis])
    return whole


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": lambda node, *inputs: torch.cat(inputs, node.option("axis")),
    "Split": split,
    "Slice": cut,
    "Expand": expand,
    "Tile": lambda node, x, repeats: x.repeat(whole_numbers(repeats)),
    "Pad": pad,
    "Shape": shape_of,
    "Size": lambda node, x: torch.tensor(x.numel()),
    "ConstantOfShape": constant_of_shape,
    "Range": span,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "EyeLike": diagonal,
    "Trilu": triangle,
    "ReverseSequence": reverse_sequence,
    "Col2Im": blocks_to_picture,
}
