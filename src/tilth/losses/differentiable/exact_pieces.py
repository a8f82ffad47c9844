"""What the exact twins of fitted estimators are built of: affine maps, chains, and one error.

Everything here works on tables [n, d] in float64 and keeps its numbers as buffers: there is
nothing to train, and so nothing to freeze.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import SettingsError

__all__ = [
    "Affine",
    "Chain",
    "Columns",
    "Elementwise",
    "UnsupportedEstimatorError",
    "as_float64",
    "inside",
]


class UnsupportedEstimatorError(SettingsError):
    """A part of a model that has no exact form; the message names the part.

    Args:
        kind: the class of the part.
        reason: why it has none, in a few words.
        places: where the part is in a model of several, outermost first.
    """

    def __init__(self, kind: str, reason: str = "", *, places: tuple[str, ...] = ()) -> None:
        self.kind, self.reason, self.places = kind, reason, places
        part = f"{', '.join(places)} ({kind})" if places else kind
        super().__init__(
            f"{part} has no exact form" + (f": {reason}" if reason else ""),
            fix="as_differentiable(model, sample=inputs) distils it into a small network",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (self.kind, self.reason, self.places))


def _rebuilt(kind: str, reason: str, places: tuple[str, ...]) -> UnsupportedEstimatorError:
    return UnsupportedEstimatorError(kind, reason, places=places)


@contextmanager
def inside(place: str) -> Iterator[None]:
    """Adds a place, such as "step 2 'spline'", to what an unsupported part says of itself."""
    try:
        yield
    except UnsupportedEstimatorError as error:
        raise UnsupportedEstimatorError(
            error.kind, error.reason, places=(place, *error.places)
        ) from None


def as_float64(values: Any) -> Tensor:
    """A fitted array, which may be sparse or None-free scalar, as a float64 tensor of its own."""
    dense = values.toarray() if hasattr(values, "toarray") else values
    return torch.from_numpy(np.array(dense, dtype=np.float64, order="C"))


class Affine(nn.Module):
    """x W + b.

    Args:
        weight: [d, k].
        bias: [k].
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Float[Tensor, "d k"], bias: Float[Tensor, "k"]) -> None:
        super().__init__()
        self.register_buffer("weight", weight.double())
        self.register_buffer("bias", bias.double())

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return x @ self.weight + self.bias


class Columns(nn.Module):
    """Some columns of a table, in an order."""

    index: Tensor

    def __init__(self, index: Sequence[int] | np.ndarray) -> None:
        super().__init__()
        self.register_buffer("index", torch.as_tensor(np.asarray(index, dtype=np.int64)))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return x[:, self.index]


class Elementwise(nn.Module):
    """One function without numbers of its own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return self.function(x)


class Chain(nn.Sequential):
    """One after the other; as sure of itself as the last."""

    def uncertainty(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Standard deviation that the last part states for these inputs.

        Raises:
            SettingsError: it states none.
        """
        *before, last = self
        uncertainty = getattr(last, "uncertainty", None)
        if uncertainty is None:
            raise SettingsError(
                "the model states no uncertainty of its own",
                expected="a Gaussian process as the last step",
                got=type(last).__name__,
            )
        for part in before:
            x = part(x)
        return uncertainty(x)
