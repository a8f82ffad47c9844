"""A network is trained by what a regressor of scikit-learn says of a metric without a gradient.

A shop orders by what a network expects to be sold. What that is worth is known only by counting:
goods come in crates, what is left over is lost, and what is missing costs five times as much. The
count has no gradient. A support vector regressor has learned it from a few hundred past orders,
as numbers about each; `as_differentiable` makes a torch module of it, and that is the loss. The
twenty lines to copy are in `main`.

    python examples/learned_metric_sklearn.py       some six seconds on one core
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from torch import Tensor, nn

from tilth.losses.differentiable import DifferentiableModel, as_differentiable

CRATE = 0.1


def cost(order: float, sold: float) -> float:
    """What one order turned out to cost: counted, and therefore without a gradient."""
    delivered = CRATE * math.ceil(order / CRATE)
    return 5 * max(sold - delivered, 0.0) + max(delivered - sold, 0.0)


def features(order: Tensor, sold: Tensor) -> Tensor:
    """[n], [n] -> [n, 2]: what the regressor is told, in operations of torch, end to end."""
    return torch.stack([order - sold, sold], dim=1)


@dataclass(frozen=True, kw_only=True)
class Done:
    """The regressor as a loss, and mean costs of new days, by squared error and by the metric."""

    judge: DifferentiableModel
    cost_by_squares: float
    cost_by_metric: float


def days(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """What is known of a day [n, 4], and what was sold [n]: 1 is a usual day."""
    draws = torch.Generator().manual_seed(seed)
    known = torch.randn(count, 4, generator=draws)
    noise = 0.3 * torch.randn(count, generator=draws)
    return known, 1.5 + 0.3 * known[:, 0] * known[:, 1] + 0.2 * known[:, 2] + noise


def network() -> nn.Sequential:
    """What is known of a day -> how much to order."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.SiLU(), nn.Linear(32, 1), nn.Flatten(0))


def main(*, steps: int = 300) -> Done:
    """Train one network by squared error, and one by the regressor."""
    known, sold = days(1000, seed=0)

    # Past orders, and what they cost: the regressor learns from these.
    orders = sold[:400] + 0.6 * torch.randn(400, generator=torch.Generator().manual_seed(1))
    costs = [cost(*pair) for pair in zip(orders.tolist(), sold[:400].tolist(), strict=True)]
    told = features(orders, sold[:400]).numpy()
    regressor = make_pipeline(StandardScaler(), SVR(C=10, epsilon=0.02)).fit(told, costs)

    # The regressor as a loss: frozen, the same numbers, with a gradient to its inputs.
    judge = as_differentiable(regressor, sample=told)
    print(judge.description)

    def by_squares(order: Tensor) -> Tensor:
        return (order - sold).square().mean()

    def by_metric(order: Tensor) -> Tensor:
        # The squared error stays as an anchor: far from past orders the regressor knows nothing.
        return judge(features(order, sold)).mean() + 0.1 * by_squares(order)

    found = []
    for loss in (by_squares, by_metric):
        model = network()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimiser.zero_grad()
            loss(model(known)).backward()
            optimiser.step()
        found.append(true_cost(model))
    print(f"cost of a new day, trained by squared error: {found[0]:.3f}")
    print(f"trained by the regressor:                     {found[1]:.3f}")
    return Done(judge=judge, cost_by_squares=found[0], cost_by_metric=found[1])


def true_cost(model: nn.Module) -> float:
    """The metric itself, on days that nothing was learned from."""
    known, sold = days(2000, seed=9)
    with torch.no_grad():
        orders = model(known)
    return float(
        np.mean([cost(*pair) for pair in zip(orders.tolist(), sold.tolist(), strict=True)])
    )


if __name__ == "__main__":
    main()
