"""ONNX's Resize and Upsample: each result is a weighted sum of a few neighbours, axis by axis.

The places in the old axis that a new one falls on, and the weights of the neighbours there, follow
from the node's modes alone; the picture itself is only indexed and summed, so that its gradient is
the transposed of the same sums.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_graph import Node
from tilth.losses.differentiable.onnx_operators_shapes import whole_numbers

__all__ = ["OPERATORS"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """How one axis changes.

    Attributes:
        old: its size.
        new: its size afterwards.
        scale: new by old, as asked for; sizes are whole, so that it may differ from their ratio.
        region: part of the old axis that is cut out, for ``tf_crop_and_resize``.
    """

    old: int
    new: int
    scale: float
    region: tuple[float, float]

    def places(self, mode: str) -> np.ndarray:
        """Where in the old axis the new indices lie."""
        new = np.arange(self.new, dtype=np.float64)
        if mode == "align_corners":
            return new * (self.old - 1) / (self.new - 1) if self.new > 1 else 0 * new
        if mode == "asymmetric":
            return new / self.scale
        if mode == "tf_half_pixel_for_nn":
            return (new + 0.5) / self.scale
        if mode == "tf_crop_and_resize":
            start, end = self.region
            if self.new == 1:
                return 0 * new + 0.5 * (start + end) * (self.old - 1)
            return start * (self.old - 1) + new * (end - start) * (self.old - 1) / (self.new - 1)
        places = (new + 0.5) / self.scale - 0.5
        if mode == "pytorch_half_pixel" and self.new == 1:
            return 0 * new
        if mode == "half_pixel_symmetric":
            return places + self.old / 2 * (1 - self.new / (self.scale * self.old))
        return places


def _nearest(places: np.ndarray, mode: str, scale: float) -> np.ndarray:
    rules: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
        "simple": np.ceil if scale < 1 else np.floor,
    }
    return rules[mode](places)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _neighbours(node: Node, axis: Axis, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices [new, taps] and weights [new, taps] of the old numbers that make each new one."""
    mode = node.option("mode", "nearest")
    if mode == "nearest":
        default = "simple" if node.opset < 11 else "round_prefer_floor"
        index = _nearest(places, node.option("nearest_mode", default), axis.scale)[:, None]
        return index.clip(0, axis.old - 1).astype(np.int64), np.ones_like(index)
    reach = 2 if mode == "cubic" else 1
    shrink = min(axis.scale, 1.0) if node.option("antialias", 0) else 1.0
    first = math.floor(-reach / shrink) + 1
    base = np.floor(places)
    steps = np.arange(first, 2 - first)
    distance = (steps[None] - (places - base)[:, None]) * shrink
    if mode == "cubic":
        weights = _cubic(distance, node.option("cubic_coeff_a", -0.75))
    else:
        weights = np.clip(1 - np.abs(distance), 0, None)
    index = base[:, None] + steps[None]
    if node.option("exclude_outside", 0):
        weights = np.where((index >= 0) & (index < axis.old), weights, 0.0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return index.clip(0, axis.old - 1).astype(np.int64), weights


def _along(node: Node, x: Tensor, dim: int, axis: Axis) -> Tensor:
    """One axis resized."""
    mode = node.option("coordinate_transformation_mode", _default_mode(node))
    places = axis.places(mode)
    index, weights = _neighbours(node, axis, places)
    shape = [1] * x.ndim
    shape[dim] = -1
    result: Tensor | None = None
    for tap in range(index.shape[1]):
        part = x.index_select(dim, torch.from_numpy(index[:, tap].copy()).to(x.device))
        if index.shape[1] > 1:
            weight = torch.from_numpy(weights[:, tap].copy()).to(x.device, _real(x))
            part = part.to(_real(x)) * weight.reshape(shape)
        result = part if result is None else result + part
    assert result is not None
    if mode == "tf_crop_and_resize":
        outside = torch.from_numpy((places < 0) | (places > axis.old - 1)).to(x.device)
        fill = torch.tensor(node.option("extrapolation_value", 0.0), dtype=result.dtype)
        result = torch.where(outside.reshape(shape), fill.to(x.device), result)
    return result


def _real(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float32


def _default_mode(node: Node) -> str:
    return "half_pixel" if node.opset >= 11 and node.operator == "Resize" else "asymmetric"


def _sizes(
    node: Node, old: Sequence[int], scales: Sequence[float], sizes: Sequence[int]
) -> tuple[list[float], list[int]]:
    """Scale and new size of each axis, whichever of the two is given."""
    if scales:
        return list(scales), [math.floor(o * s) for o, s in zip(old, scales, strict=True)]
    if not sizes:
        raise DataError(
            f"node '{node.name}' (Resize) gives neither scales nor sizes",
            expected="one of the two",
            fix="export the model again",
        )
    ratios = [new / size for new, size in zip(sizes, old, strict=True)]
    policy = node.option("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return ratios, list(sizes)
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [ratio] * len(old), [math.floor(ratio * size + 0.5) for size in old]


def resize(
    node: Node,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    """Larger or smaller along each axis; of version 10 the second input is the scales."""
    if node.opset < 11:
        roi, scales = None, roi
    axes = [axis % x.ndim for axis in node.option("axes") or range(x.ndim)]
    old = [x.shape[axis] for axis in axes]
    written = [] if scales is None else [float(scale) for scale in scales.tolist()]
    ratios, new = _sizes(node, old, written, whole_numbers(sizes))
    region = [] if roi is None else [float(edge) for edge in roi.tolist()]
    crops = node.option("coordinate_transformation_mode") == "tf_crop_and_resize"
    result = x
    for place, dim in enumerate(axes):
        edges = (region[place], region[place + len(axes)]) if region and crops else (0.0, 1.0)
        axis = Axis(old=old[place], new=new[place], scale=ratios[place], region=edges)
        if axis.new != axis.old or axis.scale != 1 or edges != (0.0, 1.0):
            result = _along(node, result, dim, axis)
    return result.to(x.dtype) if x.is_floating_point() else result.round().to(x.dtype)


def upsample(node: Node, x: Tensor, scales: Tensor | None = None) -> Tensor:
    """The older form of `resize`; scales are an attribute before version 9."""
    written = node.option("scales") if scales is None else scales.tolist()
    return resize(node, x, torch.tensor(written, dtype=torch.float64))


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Resize": resize,
    "Upsample": upsample,
}
