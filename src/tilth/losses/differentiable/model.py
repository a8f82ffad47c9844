"""A model that was fitted elsewhere, as a frozen torch module with a gradient to its inputs."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tilth.errors import DataError, SettingsError, TrainingError

__all__ = ["DifferentiableModel"]

GRADIENT_FIX = "as_differentiable(model, method='distil', sample=inputs)"


class DifferentiableModel(nn.Module):
    """[n, *features] to [n], or [n, k] where there are several outputs.

    Gradients reach the inputs. The parameters take none, and the network stays in evaluation
    whatever ``train()`` is told. Twins of kernels and neighbourhoods, and finite differences, can
    be differentiated once, not twice.

    Args:
        network: does the work.
        way: how it came about: "as it is", "exact", "smooth", "distilled" or "finite differences".
        description: the same for a person, in one sentence.
        num_features: of a table; inputs are flattened, and checked for it. None passes any.
        max_error: largest difference from the model's own outputs on the sample.
        r2: share of the variance of those that is met.
        columns: order of the outputs; -1 turns the only one round.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        way: str,
        description: str,
        num_features: int | None = None,
        max_error: float | None = None,
        r2: float | None = None,
        columns: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.way, self.description = way, description
        self.num_features = num_features
        self.max_error, self.r2, self.columns = max_error, r2, columns
        network.requires_grad_(False)
        self.train(False)

    def forward(self, x: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        inputs = self._inputs(x)
        try:
            found = _single(self.network(inputs))
        except RuntimeError as error:
            if "numpy() on Tensor that requires grad" not in str(error):
                raise
            raise _cut(type(self.network).__name__, "it goes through NumPy") from error
        if inputs.requires_grad and torch.is_grad_enabled() and not found.requires_grad:
            raise _cut(type(self.network).__name__, "it detaches, or computes under no_grad")
        return self._outputs(found, like=x)

    def uncertainty(self, x: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Standard deviation that the model itself states, differentiable too.

        Raises:
            SettingsError: only a Gaussian process, alone or at the end of a pipeline, states one.
        """
        inputs = self._inputs(x)
        uncertainty = getattr(self.network, "uncertainty", None)
        if uncertainty is None:
            raise SettingsError(
                "the model states no uncertainty of its own",
                expected="a Gaussian process",
                got=self.description,
            )
        return _without_last(uncertainty(inputs).to(_output_dtype(x)))

    def train(self, mode: bool = True) -> "DifferentiableModel":
        """Stays in evaluation."""
        self.training = False
        with suppress(NotImplementedError):  # an exported program is what it was exported as
            self.network.train(False)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves with its owner, but keeps its precision: kernels cannot be told in half."""

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, recurse)

    def _inputs(self, x: Tensor) -> Tensor:
        if x.ndim < 2:
            raise SettingsError(
                "the model reads several inputs at once",
                expected="[n, features]",
                got=f"shape {list(x.shape)}",
            )
        dtype = self._dtype()
        if self.num_features is None:
            return x if dtype is None and x.is_floating_point() else x.to(dtype or torch.float32)
        num = math.prod(x.shape[1:])
        if num != self.num_features:
            raise SettingsError(
                "the input has another number of features than the model was fitted on",
                expected=f"{self.num_features}",
                got=f"{num} (shape {list(x.shape)})",
            )
        if not bool(torch.isfinite(x.detach()).all()):
            place = torch.isfinite(x.detach()).logical_not().nonzero()[0].tolist()
            raise DataError("the input holds a missing or infinite number", where=f"index {place}")
        return x.flatten(1).to(dtype or torch.float64)

    def _dtype(self) -> torch.dtype | None:
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype
        return None

    def _outputs(self, found: Tensor, *, like: Tensor) -> Tensor:
        if found.ndim == 0 or found.shape[0] != like.shape[0]:
            raise SettingsError(
                "the model does not give one output an input",
                expected=f"[{like.shape[0]}] or [{like.shape[0]}, outputs]",
                got=f"shape {list(found.shape)}",
            )
        found = found.to(_output_dtype(like))
        found = found.flatten(1) if found.ndim > 1 else found.unsqueeze(1)
        if self.columns == [-1]:
            found = -found
        elif self.columns is not None:
            found = found[:, self.columns]
        return _without_last(found)


def _single(found: Any) -> Tensor:
    """The one tensor of numbers among what a network gives."""
    if isinstance(found, Tensor):
        return found
    parts = list(found.values()) if isinstance(found, dict) else list(found)
    numbers = [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]
    if len(numbers) != 1:
        raise SettingsError(
            "the model has several outputs",
            expected="one tensor of numbers",
            got=f"{len(numbers)} of them",
            fix="wrap it in a module that returns the one that is the score",
        )
    return numbers[0]


def _cut(name: str, reason: str) -> TrainingError:
    return TrainingError(
        f"no gradient reaches the inputs of {name}: {reason}",
        expected="torch operations from the inputs to the outputs",
        fix=GRADIENT_FIX,
    )


def _output_dtype(like: Tensor) -> torch.dtype:
    """That of the inputs; scores in half precision would be too coarse to follow."""
    return like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32


def _without_last(found: Tensor) -> Tensor:
    return found.squeeze(1) if found.ndim == 2 and found.shape[1] == 1 else found
