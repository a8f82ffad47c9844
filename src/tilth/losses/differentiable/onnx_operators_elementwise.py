"""ONNX operators that treat every number by itself: arithmetic, comparisons, activations, casts.

Each takes the node and its inputs, None where an optional one is left out, and returns tensors.
"""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_graph import Node
from tilth.losses.differentiable.onnx_types import (
    FLOAT4,
    FLOAT8_E4M3,
    NARROW_FLOATS,
    RANGES,
    UINT8,
    UINT32,
)

__all__ = ["OPERATORS"]

LARGEST_E4M3 = 464.0
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator without attributes."""
    return lambda node, *inputs: function(*inputs)


def folded(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator of any number of inputs that takes them in pairs."""
    return lambda node, *inputs: reduce(function, inputs)


def divide(node: Node, dividend: Tensor, divisor: Tensor) -> Tensor:
    """Whole numbers are cut towards zero."""
    whole = not dividend.is_floating_point()
    return torch.div(dividend, divisor, rounding_mode="trunc" if whole else None)


def power(node: Node, base: Tensor, exponent: Tensor) -> Tensor:
    """The result has the type of the base."""
    return torch.pow(base, exponent).to(base.dtype)


def modulo(node: Node, dividend: Tensor, divisor: Tensor) -> Tensor:
    """Sign of the divisor, or with ``fmod`` of the dividend."""
    operation = torch.fmod if node.option("fmod", 0) else torch.remainder
    return operation(dividend, divisor)


def clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Bounds are attributes before version 11."""
    if node.opset < 11:
        smallest, largest = node.option("min"), node.option("max")
        return x if smallest is largest is None else x.clamp(smallest, largest)
    if low is not None:
        x = torch.maximum(x, low) if low.ndim else x.clamp(min=low)
    if high is not None:
        x = torch.minimum(x, high) if high.ndim else x.clamp(max=high)
    return x


def cast(node: Node, x: Tensor) -> Tensor:
    """To the type ``to``; see `cast_to`."""
    return cast_to(node, x, node.option("to"))


def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    """To the type of the second input."""
    code = node.input_types[1] if len(node.input_types) > 1 else 0
    return cast_to(node, x, code) if code else x.to(like.dtype)


def cast_to(node: Node, x: Tensor, code: int) -> Tensor:
    """Values as ONNX's type ``code`` would hold them, rounded to it but for half precision."""
    dtype = node.dtype(code)
    if code == FLOAT4:
        raise DataError(f"node '{node.name}' ({node.operator}) rounds to floats of four bits")
    if code in NARROW_FLOATS:
        if node.option("saturate", 1):
            limits = torch.finfo(NARROW_FLOATS[code])
            x = torch.where(x.isnan(), x, x.clamp(limits.min, limits.max))
        elif code == FLOAT8_E4M3:  # has no infinity: half a step above the largest is no number
            x = torch.where(x.abs() > LARGEST_E4M3, torch.full_like(x, torch.nan), x)
        return x.to(NARROW_FLOATS[code]).to(dtype)
    if dtype == torch.bool or dtype.is_floating_point:
        return x.to(dtype)
    whole = x.to(torch.int64)
    if code in RANGES and code != UINT8:  # wraps as C does
        low, high = RANGES[code]
        return ((whole - low) % (high - low + 1) + low).to(dtype)
    return (whole % 2**32 if code == UINT32 else whole).to(dtype)


def shift_bits(node: Node, x: Tensor, amount: Tensor) -> Tensor:
    """Left or right."""
    left = node.option("direction") == "LEFT"
    return torch.bitwise_left_shift(x, amount) if left else torch.bitwise_right_shift(x, amount)


def is_infinite(node: Node, x: Tensor) -> Tensor:
    """Either sign can be left out."""
    up = torch.isposinf(x) if node.option("detect_positive", 1) else torch.zeros_like(x).bool()
    return up | torch.isneginf(x) if node.option("detect_negative", 1) else up


def elu(node: Node, x: Tensor) -> Tensor:
    """x, or alpha (exp x - 1) below zero."""
    alpha = node.option("alpha", 1.0)
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def selu(node: Node, x: Tensor) -> Tensor:
    """A scaled `elu`."""
    alpha, gamma = node.option("alpha", SELU_ALPHA), node.option("gamma", SELU_GAMMA)
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    """alpha x + beta between 0 and 1."""
    return (node.option("alpha", 0.2) * x + node.option("beta", 0.5)).clamp(0, 1)


def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    """x, or slope x below zero."""
    return torch.where(x < 0, slope * x, x)


def shrink(node: Node, x: Tensor) -> Tensor:
    """Towards zero by the bias; zero inside +-lambd."""
    edge, bias = node.option("lambd", 0.5), node.option("bias", 0.0)
    below = torch.where(x < -edge, x + bias, torch.zeros_like(x))
    return torch.where(x > edge, x - bias, below)


def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    """x above alpha, else zero."""
    return torch.where(x > node.option("alpha", 1.0), x, torch.zeros_like(x))


def softplus(node: Node, x: Tensor) -> Tensor:
    """log(1 + exp x), exact also where torch's own is cut short."""
    return torch.logaddexp(x, torch.zeros_like(x))


def dropout(node: Node, x: Tensor, *unused: Tensor | None) -> tuple[Tensor, Tensor]:
    """Nothing is dropped: a network that judges is never in training."""
    return x, torch.ones_like(x, dtype=torch.bool)


ARITHMETIC: dict[str, Callable[..., Tensor]] = {
    "Add": plain(torch.add),
    "Sub": plain(torch.sub),
    "Mul": plain(torch.mul),
    "Div": divide,
    "Pow": power,
    "Mod": modulo,
    "Max": folded(torch.maximum),
    "Min": folded(torch.minimum),
    "Sum": folded(torch.add),
    "Mean": lambda node, *inputs: reduce(torch.add, inputs) / len(inputs),
    "Clip": clip,
    "Where": plain(torch.where),
    "Identity": plain(lambda x: x),
    "Cast": cast,
    "CastLike": cast_like,
}
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    name: plain(getattr(torch, name.lower()))
    for name in (
        *("Abs", "Neg", "Exp", "Log", "Sqrt", "Sign", "Ceil", "Floor", "Round", "Reciprocal"),
        *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh"),
        *("Atanh", "Erf", "IsNaN", "Sigmoid", "Relu"),
    )
}
COMPARISONS: dict[str, Callable[..., Tensor]] = {
    "Equal": plain(torch.eq),
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "And": plain(torch.logical_and),
    "Or": plain(torch.logical_or),
    "Xor": plain(torch.logical_xor),
    "Not": plain(torch.logical_not),
    "BitwiseAnd": plain(torch.bitwise_and),
    "BitwiseOr": plain(torch.bitwise_or),
    "BitwiseXor": plain(torch.bitwise_xor),
    "BitwiseNot": plain(torch.bitwise_not),
    "BitShift": shift_bits,
    "IsInf": is_infinite,
}
ACTIVATIONS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Elu": elu,
    "Selu": selu,
    "Celu": lambda node, x: functional.celu(x, node.option("alpha", 1.0)),
    "LeakyRelu": lambda node, x: functional.leaky_relu(x, node.option("alpha", 0.01)),
    "ThresholdedRelu": thresholded_relu,
    "PRelu": prelu,
    "Shrink": shrink,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": plain(lambda x: x * (x / 6 + 0.5).clamp(0, 1)),
    "Softplus": softplus,
    "Softsign": plain(functional.softsign),
    "Mish": lambda node, x: x * torch.tanh(softplus(node, x)),
    "Gelu": lambda node, x: functional.gelu(x, approximate=node.option("approximate", "none")),
    "Swish": lambda node, x: x * torch.sigmoid(node.option("alpha", 1.0) * x),
    "Dropout": dropout,
}
OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = (
    ARITHMETIC | FUNCTIONS | COMPARISONS | ACTIVATIONS
)
