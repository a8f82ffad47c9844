"""A network is trained by a regression network that predicts a metric, and that is kept honest.

Four goods are ordered for each day, in crates. What is left over spoils, and the van drives again
for the one that is missed most, which costs eight times as much. That is counted for a whole day at
once and has no gradient. A small regression network has learned the count from past days. Left
alone, it would be right only about orders like those; `MetricLoss` asks the true metric about a few
of the current ones now and then, learns from them, and says if belief and truth part company. The
lines to copy are in `main`.

    python examples/learned_metric_torch.py         some six seconds on one core
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tilth.losses.metric_loss import MetricLoss
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.metric_surrogate import MetricSurrogate

CRATE = 0.1


def cost(orders: NDArray[np.float32], sold: NDArray[np.float32]) -> float:
    """What a day with four goods turned out to cost: counted, and therefore without a gradient."""
    left = CRATE * np.ceil(orders / CRATE) - sold
    return float(8.0 * max(-left.min(), 0.0) + left.clip(0).sum())


def pairs(orders: Tensor, sold: Tensor) -> Tensor:
    """[n, 4], [n, 4] -> [n, 8]: what the regression network is told, in operations of torch."""
    return torch.cat([orders - sold, sold], dim=1)


@dataclass(frozen=True, kw_only=True)
class Done:
    """The loss as it ended, and mean costs of new days, by squared error and by the metric."""

    loss: MetricLoss
    cost_by_squares: float
    cost_by_metric: float


def days(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """What is known of a day [n, 6], and what was sold of four goods [n, 4]."""
    draws = torch.Generator().manual_seed(seed)
    known = torch.randn(count, 6, generator=draws)
    ways = 0.2 * torch.randn(6, 4, generator=torch.Generator().manual_seed(7))
    noise = 0.2 * torch.randn(count, 4, generator=draws)
    return known, 2 + known @ ways + 0.2 * known[:, :4] * known[:, 1:5] + noise


def network(num_inputs: int, num_outputs: int) -> nn.Sequential:
    """Two layers; of the orders, and of the regression network too."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(num_inputs, 64),
        nn.SiLU(),
        nn.Linear(64, 64),
        nn.SiLU(),
        nn.Linear(64, num_outputs),
    )


def squares(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The ordinary loss."""
    return {"total": (model(batch["known"]) - batch["sold"]).square().mean()}


def regression_network(sold: Tensor) -> nn.Module:
    """What somebody has trained already: past orders of a day -> what it cost."""
    orders = sold + 0.4 * torch.randn(sold.shape, generator=torch.Generator().manual_seed(1))
    costs = torch.tensor([cost(*pair) for pair in zip(orders.numpy(), sold.numpy(), strict=True)])
    model = network(8, 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(300):
        optimiser.zero_grad()
        (model(pairs(orders, sold))[:, 0] - costs).square().mean().backward()
        optimiser.step()
    return model


def main(*, steps: int = 400) -> Done:
    """Train one network by squared error, and one by the metric beside it."""
    known, sold = days(1000, seed=0)

    # The network that predicts the metric, as a loss: frozen, in its own units, and watched.
    surrogate = MetricSurrogate(cost, regression_network(sold), inputs=pairs, limits=(0.0, None))
    loss = MetricLoss(
        squares,
        surrogate,
        outputs=lambda model, batch: (model(batch["known"]), batch["sold"]),
        steps=steps,
        settings=MetricSettings(ordinary=0.3, begin=0.2, workers=0, look_every=4),
        notice=print,
    )

    found = []
    for terms in (squares, loss):
        model = network(6, 4)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
        for step in range(steps):
            rows = torch.arange(64) + 64 * step
            batch = {"known": known[rows % 1000], "sold": sold[rows % 1000]}
            optimiser.zero_grad()
            terms(model, batch)["total"].backward()
            optimiser.step()
        found.append(true_cost(model))
    last, spent = loss.watch.readings[-1], surrogate.calls.spent
    print(f"cost of a new day, trained by squared error: {found[0]:.3f}")
    print(f"trained by the metric:                        {found[1]:.3f}")
    print(
        f"of the last outputs: true {last.true:.3f}, believed {last.believed:.3f}, "
        f"rank correlation {last.rank_correlation:.2f}; {spent.calls} calls"
    )
    return Done(loss=loss, cost_by_squares=found[0], cost_by_metric=found[1])


def true_cost(model: nn.Module) -> float:
    """The metric itself, on days that nothing was learned from."""
    known, sold = days(2000, seed=9)
    with torch.no_grad():
        orders = model(known).numpy()
    return float(np.mean([cost(*pair) for pair in zip(orders, sold.numpy(), strict=True)]))


if __name__ == "__main__":
    main()
