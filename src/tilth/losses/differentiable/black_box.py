"""The gradient of a function that nobody can look into, from differences of its values.

Source: Spall, 1992, Multivariate stochastic approximation using a simultaneous perturbation
    gradient approximation, IEEE Transactions on Automatic Control 37(3).
Follows: Eq. 2.2 -> `BlackBox`.
Symbols: step = c = how far an input is moved, [d]; sign = Delta = +1 or -1 for every feature.
Differs: a whole batch is moved at once; several directions are averaged; without directions every
    feature is moved alone (central differences), which is exact to the square of the step and costs
    two rows a feature.
Checked by: `test_central_differences_are_the_gradient`,
    `test_random_directions_are_right_on_average`
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tilth.losses.differentiable.model_outputs import Outputs

__all__ = ["BlackBox", "telling_step"]

# Rows given to the function in one call.
ROWS_AT_ONCE = 4096
# In units of the spread of a feature; the last is for functions with steps as wide as that.
STEPS = (1e-4, 1e-3, 1e-2, 1e-1, 0.3)
TRIED_ROWS, TRIED_FEATURES = 32, 8


class BlackBox(nn.Module):
    """The values of a function, and an estimate of their gradient: [n, *features] -> [n, k].

    Args:
        outputs: of NumPy arrays [n, *features].
        step: how far a feature is moved; one number, or one a feature.
        directions: random directions an input; None moves every feature by itself.
        seed: of the directions.

    Attributes:
        num_rows: how many inputs the function was asked about until now.
    """

    def __init__(
        self,
        outputs: Outputs,
        *,
        step: float | np.ndarray = 1e-3,
        directions: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.outputs, self.directions = outputs, directions
        self.step = np.asarray(step, dtype=np.float64)
        self.random = np.random.default_rng(seed)
        self.num_rows = 0

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n k"]:
        return _Estimated.apply(x, self)

    def rows_per_gradient(self, num_features: int) -> int:
        """What the gradient of one input costs, in inputs."""
        return 2 * (num_features if self.directions is None else self.directions)

    def values(self, x: np.ndarray) -> np.ndarray:
        """Outputs [n, k], asked for in pieces."""
        self.num_rows += len(x)
        starts = range(0, len(x), ROWS_AT_ONCE)
        return np.concatenate([self.outputs(x[start : start + ROWS_AT_ONCE]) for start in starts])

    def gradient(self, x: np.ndarray, upstream: np.ndarray) -> np.ndarray:
        """Of ``sum(upstream * values(x))`` by ``x``: [n, *features]."""
        flat = x.reshape(len(x), -1)
        step = np.broadcast_to(self.step.reshape(-1), flat.shape[1:])
        total = np.zeros_like(flat)
        num_moves = flat.shape[1] if self.directions is None else self.directions
        for start in range(0, num_moves, max(ROWS_AT_ONCE // max(2 * len(x), 1), 1)):
            stop = min(start + max(ROWS_AT_ONCE // max(2 * len(x), 1), 1), num_moves)
            signs = self._signs(start, stop, flat.shape)  # [m, n, d]
            ends = np.concatenate([flat + signs * step, flat - signs * step])
            found = self.values(ends.reshape(-1, *x.shape[1:]))
            high, low = found.reshape(2, stop - start, len(x), -1)
            change = ((high - low) * upstream).sum(axis=2, keepdims=True) / 2
            # One over a sign is the sign; a feature that was not moved learns nothing.
            total += (change * signs / step).sum(axis=0)  # Eq. 2.2
        total /= 1 if self.directions is None else self.directions
        return total.reshape(x.shape)

    def _signs(self, start: int, stop: int, shape: tuple[int, ...]) -> np.ndarray:
        if self.directions is not None:
            return self.random.choice([-1.0, 1.0], size=(stop - start, *shape))
        alone = np.eye(shape[1])[start:stop, None, :]
        return np.broadcast_to(alone, (stop - start, *shape))


class _Estimated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, box: BlackBox) -> Tensor:
        ctx.save_for_backward(x)
        ctx.box = box
        values = box.values(x.detach().cpu().double().numpy())
        return torch.as_tensor(values, dtype=x.dtype, device=x.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        arrays = (one.detach().cpu().double().numpy() for one in (x, upstream))
        gradient = ctx.box.gradient(*arrays)
        return torch.as_tensor(gradient, dtype=x.dtype, device=x.device), None


def telling_step(outputs: Outputs, sample: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """The smallest step, in each feature's spread, at which most moves change the outputs.

    A smooth function answers to any; one of steps, such as a count or a forest, only to wide ones.

    Returns:
        One step a feature.
    """
    flat = sample.reshape(len(sample), -1)
    spread = flat.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    random = np.random.default_rng(seed)
    rows = flat[random.permutation(len(flat))[:TRIED_ROWS]]
    columns = random.permutation(flat.shape[1])[:TRIED_FEATURES]
    moves = np.eye(flat.shape[1])[columns, None, :]
    for share in STEPS:
        ends = [rows + side * share * spread * moves for side in (1, -1)]
        high, low = (outputs(end.reshape(-1, *sample.shape[1:])) for end in ends)
        if (high != low).any(axis=1).mean() > 0.5:
            break
    return share * spread
