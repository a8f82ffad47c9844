"""ONNX's Fourier transforms; a complex number is two real ones on the last axis."""

from collections.abc import Callable

import torch
from torch import Tensor

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_graph import Node

__all__ = ["OPERATORS"]


def _complex(x: Tensor) -> Tensor:
    """As torch holds it; of real numbers the last axis has size 1."""
    return torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x[..., 0]


def transform(
    node: Node, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None
) -> Tensor:
    """Discrete Fourier transform along an axis, or its inverse; half of it with ``onesided``."""
    dim = int(axis) if axis is not None else node.option("axis", 1 if node.opset < 20 else -2)
    dim = dim + x.ndim if dim < 0 else dim
    size = None if length is None else int(length)
    values = _complex(x)
    inverse, half = bool(node.option("inverse", 0)), bool(node.option("onesided", 0))
    if inverse and half:
        return torch.fft.irfft(values, size, dim)[..., None]
    if inverse:
        return torch.view_as_real(torch.fft.ifft(values, size, dim))
    if not half:
        return torch.view_as_real(torch.fft.fft(values, size, dim))
    if values.is_complex():
        raise DataError(f"node '{node.name}' (DFT) wants half of a transform of complex numbers")
    return torch.view_as_real(torch.fft.rfft(values, size, dim))


def short_time_transform(
    node: Node,
    signal: Tensor,
    step: Tensor,
    window: Tensor | None = None,
    length: Tensor | None = None,
) -> Tensor:
    """Transform [b, frames, bins, 2] of overlapping frames, each weighted by the window."""
    values = _complex(signal) if signal.ndim == 3 else signal
    size = int(length) if length is not None else window.shape[0] if window is not None else 0
    frames = values.unfold(-1, size, int(step))
    if window is not None:
        frames = frames * window
    if node.option("onesided", 1) and not frames.is_complex():
        return torch.view_as_real(torch.fft.rfft(frames))
    return torch.view_as_real(torch.fft.fft(frames))


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "DFT": transform,
    "STFT": short_time_transform,
}
