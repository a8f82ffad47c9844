"""ONNX operators that slide a window: convolutions, pools, and sampling along a grid."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tilth.losses.differentiable.onnx_graph import Node

__all__ = ["OPERATORS", "convolve"]

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
MEAN_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
SAMPLING_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def _edges(pads: Sequence[int]) -> list[int]:
    """Pads as ``functional.pad`` wants them: of the last axis first, before and after."""
    half = len(pads) // 2
    return [pad for axis in reversed(range(half)) for pad in (pads[axis], pads[half + axis])]


def _window(node: Node, size: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], ...]:
    """Strides, dilations and pads (all before, then all after) of a window over ``size``."""
    axes = range(len(kernel))
    strides = list(node.option("strides") or [1] * len(kernel))
    dilations = list(node.option("dilations") or [1] * len(kernel))
    pads = list(node.option("pads") or [0] * 2 * len(kernel))
    mode = node.option("auto_pad", "NOTSET")
    if mode == "VALID":
        pads = [0] * 2 * len(kernel)
    elif mode.startswith("SAME"):
        total = [
            max(
                (math.ceil(size[a] / strides[a]) - 1) * strides[a]
                + (kernel[a] - 1) * dilations[a]
                + 1
                - size[a],
                0,
            )
            for a in axes
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if mode == "SAME_UPPER" else large + small
    return strides, dilations, pads


def convolve(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution of one, two or three axes."""
    axes = weight.ndim - 2
    strides, dilations, pads = _window(node, x.shape[2:], weight.shape[2:])
    padding = pads[:axes]
    if padding != pads[axes:]:
        x, padding = functional.pad(x, _edges(pads)), [0] * axes
    return CONVOLUTIONS[axes](x, weight, bias, strides, padding, dilations, node.option("group", 1))


def convolve_transposed(
    node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """The gradient of a convolution as an operator; cut or widened to the size asked for."""
    axes = weight.ndim - 2
    strides = list(node.option("strides") or [1] * axes)
    dilations = list(node.option("dilations") or [1] * axes)
    full = TRANSPOSED[axes](
        x, weight, None, strides, groups=node.option("group", 1), dilation=dilations
    )
    extra = list(node.option("output_padding") or [0] * axes)
    before, after = _transposed_pads(node, x.shape[2:], full.shape[2:], strides, extra)
    edges = [-pad for pad in before] + [e - pad for e, pad in zip(extra, after, strict=True)]
    result = functional.pad(full, _edges(edges))
    return result if bias is None else result + bias.reshape(-1, *[1] * axes)


def _transposed_pads(
    node: Node,
    size: Sequence[int],
    full: Sequence[int],
    strides: Sequence[int],
    extra: Sequence[int],
) -> tuple[list[int], list[int]]:
    """How much of the full result is cut off before and after, by axis."""
    axes = len(size)
    mode = node.option("auto_pad", "NOTSET")
    wanted = node.option("output_shape")
    if wanted is not None:
        wanted = list(wanted)[-axes:]
    elif mode.startswith("SAME"):
        wanted = [size[axis] * strides[axis] for axis in range(axes)]
    else:
        pads = list(node.option("pads") or [0] * 2 * axes)
        return (pads[:axes], pads[axes:]) if mode == "NOTSET" else ([0] * axes, [0] * axes)
    total = [full[axis] + extra[axis] - wanted[axis] for axis in range(axes)]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def _pooled_padding(
    node: Node, x: Tensor
) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations, pads, and what a last window that sticks out needs more."""
    kernel = list(node.option("kernel_shape"))
    size = x.shape[2:]
    strides, dilations, pads = _window(node, size, kernel)
    axes = len(kernel)
    more = [0] * axes
    if node.option("ceil_mode", 0) and node.option("auto_pad", "NOTSET") in ("NOTSET", "VALID"):
        for axis in range(axes):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            room = size[axis] + pads[axis] + pads[axes + axis] - reach
            windows = math.ceil(room / strides[axis]) + 1
            if (windows - 1) * strides[axis] >= size[axis] + pads[axis]:
                windows -= 1  # it would start behind the last number
            more[axis] = max((windows - 1) * strides[axis] - room, 0)
    return kernel, strides, dilations, pads, more


def max_pool(node: Node, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """Largest number in each window, and where it was."""
    kernel, strides, dilations, pads, more = _pooled_padding(node, x)
    axes = len(kernel)
    wide = [*pads[:axes], *(p + m for p, m in zip(pads[axes:], more, strict=True))]
    values = x if x.is_floating_point() else x.to(torch.float32)
    padded = functional.pad(values, _edges(wide), value=-math.inf)
    pool = MAX_POOLS[axes]
    if len(node.outputs) < 2:
        return pool(padded, kernel, strides, 0, dilations).to(x.dtype)
    best, places = pool(padded, kernel, strides, 0, dilations, return_indices=True)
    return best.to(x.dtype), _flat_places(node, places, x.shape, padded.shape[2:], wide)


def _flat_places(
    node: Node, places: Tensor, shape: Sequence[int], padded: Sequence[int], pads: Sequence[int]
) -> Tensor:
    """Places in the padded picture as places in the whole unpadded tensor."""
    size = shape[2:]
    axes = range(len(size))
    coordinates = torch.unravel_index(places, tuple(padded))
    inside = [coordinates[axis] - pads[axis] for axis in axes]
    order = reversed(axes) if node.option("storage_order", 0) else axes
    flat = torch.zeros_like(places)
    for axis in order:
        flat = flat * size[axis] + inside[axis]
    planes = torch.arange(shape[0] * shape[1], device=places.device)
    return flat + planes.reshape(shape[0], shape[1], *[1] * len(size)) * math.prod(size)


def _window_sums(x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> Tensor:
    axes = len(kernel)
    if all(step == 1 for step in dilations):
        return MEAN_POOLS[axes](x, kernel, strides) * math.prod(kernel)
    planes = x.reshape(-1, 1, *x.shape[2:])
    ones = x.new_ones(1, 1, *kernel)
    sums = CONVOLUTIONS[axes](planes, ones, None, strides, 0, dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def mean_pool(node: Node, x: Tensor) -> Tensor:
    """Mean of each window; the padding counts where the node says so."""
    kernel, strides, dilations, pads, more = _pooled_padding(node, x)
    edge = [0] * len(kernel) + more
    real = x.new_ones(1, 1, *x.shape[2:])
    counted = functional.pad(real, _edges(pads), value=float(node.option("count_include_pad", 0)))
    padded = functional.pad(functional.pad(x, _edges(pads)), _edges(edge))
    sums = _window_sums(padded, kernel, strides, dilations)
    return sums / _window_sums(functional.pad(counted, _edges(edge)), kernel, strides, dilations)


def norm_pool(node: Node, x: Tensor) -> Tensor:
    """(sum of |x|^p)^(1/p) of each window."""
    kernel, strides, dilations, pads, more = _pooled_padding(node, x)
    edge = [0] * len(kernel) + more
    p = node.option("p", 2)
    powers = functional.pad(functional.pad(x.abs() ** p, _edges(pads)), _edges(edge))
    sums = _window_sums(powers, kernel, strides, dilations)
    return sums.clamp(min=torch.finfo(x.dtype).tiny) ** (1 / p)  # the root has no slope at 0


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


def global_norm_pool(node: Node, x: Tensor) -> Tensor:
    """As `norm_pool`, of the whole picture."""
    return torch.linalg.vector_norm(x, node.option("p", 2), dim=_spatial(x), keepdim=True)


def sample_grid(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    """Values at places that are given from -1 to 1."""
    mode = node.option("mode", "linear")
    return functional.grid_sample(
        x,
        grid,
        mode=SAMPLING_MODES.get(mode, mode),
        padding_mode=node.option("padding_mode", "zeros"),
        align_corners=bool(node.option("align_corners", 0)),
    )


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Conv": convolve,
    "ConvTranspose": convolve_transposed,
    "MaxPool": max_pool,
    "AveragePool": mean_pool,
    "LpPool": norm_pool,
    "GlobalMaxPool": lambda node, x: x.amax(_spatial(x), keepdim=True),
    "GlobalAveragePool": lambda node, x: x.mean(_spatial(x), keepdim=True),
    "GlobalLpPool": global_norm_pool,
    "GridSample": sample_grid,
}
