"""ONNX operators that multiply matrices."""

from collections.abc import Callable

import torch
from torch import Tensor

from tilth.losses.differentiable.onnx_graph import Node

__all__ = ["OPERATORS"]


def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha A B + beta C, each matrix turned where asked."""
    a = a.T if node.option("transA", 0) else a
    b = b.T if node.option("transB", 0) else b
    product = a @ b
    alpha, beta = node.option("alpha", 1.0), node.option("beta", 1.0)
    product = product if alpha == 1 else _scaled(product, alpha)
    if c is None:
        return product
    return product + (c if beta == 1 else _scaled(c, beta))


def _scaled(x: Tensor, factor: float) -> Tensor:
    return (x * factor).to(x.dtype)


def einsum(node: Node, *inputs: Tensor) -> Tensor:
    """Sum over the indices that the result does not name."""
    return torch.einsum(node.option("equation").replace(" ", ""), *inputs)


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "MatMul": lambda node, a, b: torch.matmul(a, b),
    "Gemm": gemm,
    "Einsum": einsum,
    "Det": lambda node, x: torch.linalg.det(x),
}
