"""Fitting the networks that predict a metric, and how well they do on outputs held out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss, softplus

from tilth.losses.metric_replay import Examples, Replay
from tilth.losses.surrogate_settings import SurrogateSettings
from tilth.seeding import generator

__all__ = [
    "Quality",
    "adams",
    "fit_members",
    "follow_parameters",
    "quality_of",
    "rank_correlation",
    "value_and_rank_loss",
]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well a metric is predicted on outputs that nothing was learned from.

    Attributes:
        rank_correlation: Spearman's, -1 to 1; NaN where all values, or all beliefs, are equal.
        mean_error: mean absolute difference, in the metric's units.
        r2: share of the variance explained; NaN where there is none.
        bias: mean of belief less truth.
        count: outputs.
    """

    rank_correlation: float
    mean_error: float
    r2: float
    bias: float
    count: int

    def as_dict(self) -> dict[str, float]:
        """For logs and JSON."""
        return asdict(self)


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, ties sharing their ranks; NaN where one side is constant.

    >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.2, 0.3]))
    1.0
    """
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.round(np.corrcoef(rankdata(first), rankdata(second))[0, 1], 12))


def quality_of(believed: NDArray[np.float64], true: NDArray[np.float64]) -> Quality:
    """How well beliefs meet the truth.

    >>> quality_of(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0])).rank_correlation
    1.0
    """
    if len(true) == 0:
        nan = float("nan")
        return Quality(rank_correlation=nan, mean_error=nan, r2=nan, bias=nan, count=0)
    apart = believed - true
    variance = float(np.var(true))
    return Quality(
        rank_correlation=rank_correlation(believed, true),
        mean_error=float(np.abs(apart).mean()),
        r2=1 - float(np.square(apart).mean()) / variance if variance > 0 else float("nan"),
        bias=float(apart.mean()),
        count=len(true),
    )


def adams(members: Iterable[nn.Module], learning_rate: float) -> list[torch.optim.Optimizer]:
    """One Adam a member."""
    return [torch.optim.Adam(member.parameters(), lr=learning_rate) for member in members]


def follow_parameters(optimiser: torch.optim.Optimizer) -> None:
    """Have the averages where the parameters are, which may have been moved since."""
    for parameter, state in optimiser.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = state[name].to(parameter)


def fit_members(
    members: Sequence[nn.Module],
    optimisers: Sequence[torch.optim.Optimizer],
    replay: Replay,
    *,
    steps: Iterable[int],
    settings: SurrogateSettings,
    scale: float,
    seed: int,
    device: torch.device,
    finish: Callable[[Examples], Examples] | None = None,
) -> float:
    """Take one step of every member for each of ``steps``; the mean loss of the last one.

    Each member draws its own batches: what they have not seen alike they should not know alike.

    Args:
        steps: numbers of the draws, which must not come again under the same seed.
        scale: what an error of the metric is measured in.
        finish: makes of a drawn batch what the members see, for instance sets of examples.
    """
    loss = 0.0
    with torch.enable_grad():
        for step in steps:
            total = 0.0
            for number, (member, optimiser) in enumerate(zip(members, optimisers, strict=True)):
                draws = generator(seed, "surrogate", number, step)
                batch = replay.draw(settings.batch_size, draws)
                batch = finish(batch) if finish is not None else batch
                total += _step(member, optimiser, batch, settings, scale, device)
            loss = total / len(members)
    return loss


def _step(
    member: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Examples,
    settings: SurrogateSettings,
    scale: float,
    device: torch.device,
) -> float:
    penalised = settings.smoothness == "penalty" and batch.predictions.is_floating_point()
    predictions = batch.predictions.to(device)
    if penalised:
        predictions.requires_grad_(True)
    member.requires_grad_(True)
    try:
        believed = member(predictions, batch.targets.to(device))
        loss = value_and_rank_loss(
            believed / scale, batch.values.to(device) / scale, settings.rank_weight
        )
        if penalised:
            loss = loss + _steepness(believed / scale, predictions, settings.slope)
        loss.backward()
        nn.utils.clip_grad_norm_(member.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    finally:
        member.requires_grad_(False)
    return loss.item()


def value_and_rank_loss(
    believed: Float[Tensor, "n"], true: Float[Tensor, "n"], rank_weight: float
) -> Float[Tensor, ""]:
    """Huber's loss of the values, and the logistic loss of each pair's order.

    An optimiser goes by differences, so the order matters beside the values (Huang et al., 2022,
    ReLoss); pairs count by how far they are apart, so that noise between equals is not learned.
    """
    loss = smooth_l1_loss(believed, true)
    if not rank_weight or len(true) < 2:
        return loss
    apart = true[:, None] - true[None]
    wrong = softplus(-(believed[:, None] - believed[None]) * apart.sign())
    weight = apart.abs().clamp_max(1.0)
    return loss + rank_weight * (wrong * weight).sum() / weight.sum().clamp_min(1e-6)


def _steepness(believed: Tensor, predictions: Tensor, slope: float) -> Tensor:
    """What the gradient's norm has above ``slope``, squared (one-sided, as a bound is)."""
    (gradient,) = torch.autograd.grad(believed.sum(), predictions, create_graph=True)
    norms = gradient.flatten(1).square().sum(dim=1).add(1e-12).sqrt()
    return (norms - slope).clamp_min(0).square().mean()
