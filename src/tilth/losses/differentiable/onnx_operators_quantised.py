"""ONNX operators that compute with numbers of few bits.

Quantised numbers are held as floating ones that are whole, and rounding passes the gradient
straight through where a number is inside the range of its type (zero outside).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_graph import Node
from tilth.losses.differentiable.onnx_operators_convolution import convolve
from tilth.losses.differentiable.onnx_types import NARROW_FLOATS, RANGES, UINT8, is_float

__all__ = ["OPERATORS"]


def quantize(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """round(x / scale) + zero point, inside the range of the type."""
    ratio = x / _spread(node, scale, x)
    code = _quantised_type(node)
    if is_float(code):
        return _narrow(node, ratio, code)
    shift = ratio.new_zeros(()) if zero_point is None else _spread(node, zero_point, x).to(ratio)
    return _rounded(ratio, shift, code)


def _rounded(ratio: Tensor, shift: Tensor, code: int) -> Tensor:
    """Nearest whole number, of two the even one, plus the shift, inside the range of the type."""
    low, high = RANGES[code]
    inside = torch.minimum(torch.maximum(ratio, low - shift), high - shift)
    return inside + (inside.round() - inside).detach() + shift


def _quantised_type(node: Node) -> int:
    """ONNX's number of the type of the quantised values."""
    written = node.option("output_dtype", 0)
    declared = node.input_types[2] if len(node.input_types) > 2 else 0
    return written or declared or UINT8


def _narrow(node: Node, x: Tensor, code: int) -> Tensor:
    """A number as eight bits of floating point hold it, at the largest where it is too large."""
    if code not in NARROW_FLOATS:
        raise DataError(f"node '{node.name}' ({node.operator}) rounds to floats of four bits")
    kind = NARROW_FLOATS[code]
    limits = torch.finfo(kind)
    inside = torch.where(x.isnan(), x, x.clamp(limits.min, limits.max))
    return inside + (inside.to(kind).to(x.dtype) - inside).detach()


def dequantize(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """(x - zero point) scale."""
    scale = _spread(node, scale, x)
    if zero_point is not None:
        x = x.to(scale.dtype) - _spread(node, zero_point, x).to(scale.dtype)
    return x.to(scale.dtype) * scale


def _spread(node: Node, factor: Tensor, x: Tensor) -> Tensor:
    """One factor, one of each index along the axis, or one of each block, shaped to fit x."""
    axis, block = node.option("axis", 1), node.option("block_size", 0)
    if block:
        repeated = factor.repeat_interleave(block, dim=axis)
        return repeated.narrow(axis, 0, x.shape[axis])
    if factor.ndim != 1 or factor.numel() == 1:
        return factor.reshape(()) if factor.numel() == 1 else factor
    shape = [1] * x.ndim
    shape[axis] = -1
    return factor.reshape(shape)


def dynamic_quantize(node: Node, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of 0 to 255, with the scale and the zero point that cover x and zero."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = ((high - low) / 255).detach()
    zero_point = (-low / scale).detach().nan_to_num().clamp(0, 255).round()
    return _rounded(x / scale, zero_point, UINT8), scale, zero_point.to(torch.uint8)


def _shifted(x: Tensor, zero_point: Tensor | None, real: torch.dtype, *, rows: bool) -> Tensor:
    """x less its zero point, which may be one of each row or column."""
    x = x.to(real)
    if zero_point is None:
        return x
    zero_point = zero_point.to(real)
    if zero_point.ndim == 1 and zero_point.numel() > 1:
        zero_point = zero_point[:, None] if rows else zero_point
    return x - zero_point.reshape(()) if zero_point.numel() == 1 else x - zero_point


def matmul_integer(
    node: Node, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Product of the numbers that quantised ones stand for, before scaling."""
    real = node.dtype(1)
    return _shifted(a, a_zero, real, rows=True) @ _shifted(b, b_zero, real, rows=False)


def conv_integer(
    node: Node, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    """As `matmul_integer`, a convolution."""
    real = node.dtype(1)
    if w_zero is not None and w_zero.numel() > 1:
        w_zero = w_zero.reshape(-1, *[1] * (w.ndim - 1))
    return convolve(node, _shifted(x, x_zero, real, rows=True), _kernel(w, w_zero, real))


def _kernel(w: Tensor, zero_point: Tensor | None, real: torch.dtype) -> Tensor:
    return w.to(real) if zero_point is None else w.to(real) - zero_point.to(real)


def quantised_matmul(
    node: Node, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor,
    b_zero: Tensor, y_scale: Tensor, y_zero: Tensor,
) -> Tensor:  # fmt: skip
    """A product whose factors and result are quantised."""
    real = y_scale.dtype
    rows = a_scale[:, None] if a_scale.ndim == 1 and a_scale.numel() > 1 else a_scale
    product = _shifted(a, a_zero, real, rows=True) @ _shifted(b, b_zero, real, rows=False)
    return _requantised(node, product * (rows * b_scale), y_scale, y_zero, place=7)


def quantised_conv(
    node: Node, x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, w_scale: Tensor,
    w_zero: Tensor, y_scale: Tensor, y_zero: Tensor, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """A convolution whose picture, kernel and result are quantised."""
    real = y_scale.dtype
    one_a_kernel = [-1, *[1] * (w.ndim - 1)]
    kernel = _kernel(w, w_zero.reshape(one_a_kernel), real)
    result = convolve(node, _shifted(x, x_zero, real, rows=True), kernel)
    if bias is not None:
        result = result + bias.to(real).reshape(-1, *[1] * (w.ndim - 2))
    scale = w_scale.reshape(one_a_kernel[:-1]) * x_scale
    return _requantised(node, result * scale, y_scale, y_zero, place=7)


def _requantised(
    node: Node, values: Tensor, scale: Tensor, zero_point: Tensor, *, place: int
) -> Tensor:
    code = node.input_types[place] if len(node.input_types) > place else 0
    if is_float(code):
        return _narrow(node, values / scale, code)
    return _rounded(values / scale, zero_point.to(scale.dtype), code or UINT8)


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "MatMulInteger": matmul_integer,
    "ConvInteger": conv_integer,
    "QLinearMatMul": quantised_matmul,
    "QLinearConv": quantised_conv,
}
