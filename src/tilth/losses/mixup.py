"""Mixup: examples blended with partners, by chance or by how far each is trusted.

Source: Zhang, Cisse, Dauphin, Lopez-Paz, 2017, mixup: Beyond Empirical Risk Minimization, arXiv
    1710.09412v2; Kumar, Amid, 2021, Constrained Instance and Class Reweighting for Robust Learning
    under Label Noise, arXiv 2111.05428 (CICW-M, as the authors' released program does it).
Follows: section 2 -> `mixup_plan`, `mix`; the program's sample_weight_w, sample_w and weight_w ->
    `weighted_mixup_plan`.
Symbols: shares = lambda, c_i, of an example's own part; partners = j_i; power = m_pow; m = w^m_pow.
Differs: a share for each example, where many programs draw one a batch; probabilities are not
    rounded; partners are of the process' own batch. The program's label_smoothing_w, which leans
    labels on the prediction, is left out: class weights do that.
Checked by: `test_plain_plan_is_a_permutation`, `test_partners_follow_the_weights`,
    `test_shares_are_those_of_the_weights`, `test_mixing_by_hand`,
    `test_plans_repeat_with_the_seed`
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from tilth.errors import DataError, SettingsError

__all__ = [
    "MixupPlan",
    "mix",
    "mixed_targets",
    "mixup_plan",
    "weighted_mixup_plan",
]

Generator = np.random.Generator | torch.Generator


@dataclass(frozen=True, kw_only=True)
class MixupPlan:
    """Who is blended with whom.

    Attributes:
        partners: row of each example's partner, which may be itself.
        shares: of the example's own part, 0 to 1; the partner has the rest.
    """

    partners: Int64[Tensor, "n"]
    shares: Float[Tensor, "n"]


def mixup_plan(
    n: int,
    alpha: float,
    generator: Generator,
    *,
    device: torch.device | str = "cpu",
) -> MixupPlan:
    """Partners by a permutation, shares from Beta(alpha, alpha).

    Args:
        alpha: 0 leaves the examples as they are.
        generator: of `tilth.seeding`, named by seed and step, so that a resumed run draws the same;
            or torch's, which gives the seed of one.
    """
    _require(0 <= alpha < float("inf"), "alpha of mixup", "0 or more", alpha)
    draws = _draws(generator)
    partners = draws.permutation(n)
    shares = draws.beta(alpha, alpha, size=n) if alpha else np.ones(n)
    return _plan(partners, shares, device)


def weighted_mixup_plan(
    weights: Float[Tensor, "n"],
    kind: Literal["sample_weight", "sample", "weight"] = "sample_weight",
    power: float = 1.0,
    generator: Generator | None = None,
    *,
    alpha: float = 2.0,
) -> MixupPlan:
    """Partners or shares that lean towards examples of high weight, on the weights' device.

    Args:
        weights: 0 or more, of the batch's examples; where all are 0 they count alike.
        kind: ``"sample_weight"`` draws partners with replacement by their weight, and gives the own
            part m_i / (m_i + m_j), one half where both are 0; ``"sample"`` takes shares from
            Beta(alpha, alpha) instead; ``"weight"`` takes partners from a permutation instead.
        power: m = weights ** power; above 1 leans further, 0 not at all.
        generator: as for `mixup_plan`.
        alpha: of the shares that are drawn.
    """
    _require(kind in ("sample_weight", "sample", "weight"), "kind of mixup", "one of three", kind)
    _require(0 <= power < float("inf"), "power of mixup", "0 or more", power)
    if generator is None:
        raise SettingsError(
            "a mixup plan needs a generator",
            fix="generator=tilth.seeding.generator(seed, 'mixup', step)",
        )
    n, draws = len(weights), _draws(generator)
    trust = _trust(weights, power)
    if kind == "weight":
        partners = torch.from_numpy(draws.permutation(n)).to(weights.device)
    else:
        # By the inverse of the distribution: the draw is the seed's, on whatever device.
        points = torch.from_numpy(draws.random(n)).to(weights.device)
        levels = trust.cumsum(dim=0)
        partners = torch.searchsorted(levels, points * levels[-1:], right=True)
        # Rounding may lead beyond the last that has weight.
        partners = partners.minimum((levels < levels[-1:]).sum())
    if kind == "sample":
        return _plan(partners, draws.beta(alpha, alpha, size=n), weights.device)
    both = trust + trust[partners]
    return _plan(partners, (trust / both).where(both > 0, 0.5), weights.device)


def mix(values: Float[Tensor, "n *rest"], plan: MixupPlan) -> Float[Tensor, "n *rest"]:
    """Each row blended with its partner's: pixels, features, or targets as distributions.

    >>> plan = MixupPlan(partners=torch.tensor([1, 1]), shares=torch.tensor([0.25, 1.0]))
    >>> mix(torch.tensor([0.0, 4.0]), plan)
    tensor([3., 4.])
    """
    if len(values) != len(plan.partners):
        raise DataError(
            "a mixup plan is for another batch",
            expected=f"{len(plan.partners)} rows",
            got=f"{len(values)} rows",
        )
    shares = plan.shares.to(values.device, values.dtype).view(-1, *[1] * (values.ndim - 1))
    return torch.lerp(values[plan.partners.to(values.device)], values, shares.expand_as(values))


def mixed_targets(
    labels: Int64[Tensor, "n"], plan: MixupPlan, num_classes: int
) -> Float[Tensor, "n k"]:
    """Distributions over classes of a mixed batch, from its labels."""
    return mix(one_hot(labels, num_classes).float(), plan)


def _draws(generator: Generator) -> np.random.Generator:
    if isinstance(generator, np.random.Generator):
        return generator
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def _trust(weights: Float[Tensor, "n"], power: float) -> Float[Tensor, "n"]:
    """Weights to the power, relative to the largest."""
    wide = weights.detach().double()
    largest = wide.amax() if len(wide) else wide.sum()
    return torch.where(largest > 0, wide / largest, 1.0) ** power


def _plan(
    partners: np.ndarray | Tensor, shares: np.ndarray | Tensor, device: torch.device | str
) -> MixupPlan:
    return MixupPlan(
        partners=torch.as_tensor(partners, dtype=torch.int64, device=device),
        shares=torch.as_tensor(shares, dtype=torch.float32, device=device),
    )


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise SettingsError(f"the {name} cannot be used", expected=expected, got=repr(got))
