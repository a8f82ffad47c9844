"""A fast function whose gradient is fast too, and whose second derivative is a plain twin's.

Fused kernels know their first derivative. A gradient penalty or a Hessian asks for the second, and
gets it from the plain twin, which autograd can follow all the way.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["twice_differentiable"]

Values = tuple[Any, ...]  # tensors, and None where there is none


def twice_differentiable(
    fast: Callable[..., Values], plain: Callable[..., Values], *tensors: Tensor | None
) -> Values:
    """``fast(*tensors)``; ``plain(*tensors)``, which must equal it, is run for second derivatives.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> (y,) = twice_differentiable(lambda x: (x**3,), lambda x: (x * x * x,), x)
    >>> (slope,) = torch.autograd.grad(y, x, create_graph=True)
    >>> torch.autograd.grad(slope, x)
    (tensor(18.),)
    """
    needed = any(tensor is not None and tensor.requires_grad for tensor in tensors)
    if not (needed and torch.is_grad_enabled()):
        return fast(*tensors)
    return _TwiceDifferentiable.apply(fast, plain, *tensors)


class _TwiceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fast: Callable, plain: Callable, *tensors: Tensor | None) -> Values:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.plain = plain
        ctx.tensors = [
            tensor if tensor is None else tensor.detach().requires_grad_(is_needed)
            for tensor, is_needed in zip(tensors, ctx.needs_input_grad[2:], strict=True)
        ]
        with torch.enable_grad():
            ctx.values = fast(*ctx.tensors)
        return tuple(value if value is None else value.detach() for value in ctx.values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        if torch.is_grad_enabled():  # create_graph=True
            tensors = ctx.saved_tensors
            return None, None, *_gradients(ctx, ctx.plain(*tensors), tensors, grads)
        return None, None, *_gradients(ctx, ctx.values, ctx.tensors, grads)


def _gradients(
    ctx: Any, values: Values, tensors: Sequence[Any], grads: Values
) -> list[Tensor | None]:
    pairs = [
        (value, grad)
        for value, grad in zip(values, grads, strict=True)
        if value is not None and grad is not None and value.requires_grad
    ]
    wanted = [
        tensor
        for tensor, is_needed in zip(tensors, ctx.needs_input_grad[2:], strict=True)
        if is_needed
    ]
    found = iter(
        torch.autograd.grad(
            [value for value, _ in pairs],
            wanted,
            [grad for _, grad in pairs],
            retain_graph=True,
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )
    )
    return [next(found) if is_needed else None for is_needed in ctx.needs_input_grad[2:]]
