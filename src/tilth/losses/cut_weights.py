"""Instance weights that leave a share of the batch out: total variation, and CVaR's mirror image.

Source: Kumar, Amid, 2021, Constrained Instance and Class Reweighting for Robust Learning under
    Label Noise, arXiv 2111.05428 (the problem); Rockafellar, Uryasev, 2000, Optimization of
    conditional value-at-risk, Journal of Risk 2 (the mean of a tail, here of the lower one).
Follows: the problem with a total variation ball -> `total_variation_weights`; with the bound
    w <= 1 / ((1 - delta) n) -> `kept_share_weights`.
Symbols: excess = l_i - min l; delta = share of the mass that moves, of the batch that is dropped.
Differs: the released program has neither. Equal losses get equal weights, where the linear
    programme would take any.
Checked by: `test_vectors_of_the_derivation`, `test_constraint_form_matches_a_numerical_solver`,
    `test_penalised_form_matches_a_numerical_solver`, `test_equal_losses_get_equal_weights`
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = [
    "kept_share_weights",
    "lam_of_kept_share",
    "lam_of_moved_mass",
    "total_variation_weights",
]

# Examples that stay where (1 - delta) n is none at all: the least losses share the mass.
FEWEST_KEPT = 1e-9
# A boundary example that rounding alone has cut into.
ROUNDING = 1e-9


class Standing(NamedTuple):
    """Where each loss stands in its row, inactive ones after all others.

    Attributes:
        below: losses that are less.
        ties: losses that are equal, itself included.
        sum_below: of the losses that are less.
        num_active: active losses of the row.
    """

    below: Float[Tensor, "r n"]
    ties: Float[Tensor, "r n"]
    sum_below: Float[Tensor, "r n"]
    num_active: Float[Tensor, "r 1"]


def total_variation_weights(
    excess: Float[Tensor, "r n"],
    active: Bool[Tensor, "r n"],
    *,
    lam: float = math.inf,
    delta: float | None = None,
) -> Float[Tensor, "r n"]:
    """Mass moves from the highest losses to the least.

    With a radius, ``delta`` of the mass; with a price, that of every loss that exceeds the least by
    more than ``lam``.
    """
    standing = _standing(excess, active)
    removed = (excess > lam).double() if delta is None else _moved(standing, delta)
    weights = ((1 - removed) / standing.num_active.clamp(min=1)).where(active, 0)
    is_least = active & (excess == 0)
    spare = (1 - weights.sum(dim=1, keepdim=True)).clamp(min=0)
    return weights + is_least * (spare / is_least.sum(dim=1, keepdim=True).clamp(min=1))


def kept_share_weights(
    excess: Float[Tensor, "r n"],
    active: Bool[Tensor, "r n"],
    *,
    lam: float = math.inf,
    delta: float | None = None,
) -> Float[Tensor, "r n"]:
    """The lowest losses share the mass alike, none having more than 1 / ((1 - delta) n).

    With a price ``lam`` of max(n w) - 1, those stay whose loss q has mean_i (q - l_i)_+ <= lam.
    """
    standing = _standing(excess, active)
    shortfall = _mean_shortfall(excess, standing)
    kept = (shortfall <= lam).double() if delta is None else _kept(standing, delta)
    kept = kept.where(active, 0)
    return kept / kept.sum(dim=1, keepdim=True).clamp(min=FEWEST_KEPT / 2)


def lam_of_moved_mass(
    excess: Float[Tensor, "r n"], active: Bool[Tensor, "r n"], delta: float
) -> Float[Tensor, "r"]:
    """The least price at which no more than ``delta`` of the mass moves."""
    is_kept = active & (_moved(_standing(excess, active), delta) < 1 - ROUNDING)
    return excess.where(is_kept, 0).amax(dim=1)


def lam_of_kept_share(
    excess: Float[Tensor, "r n"], active: Bool[Tensor, "r n"], delta: float
) -> Float[Tensor, "r"]:
    """The least price at which no more than ``delta`` of the batch is dropped."""
    standing = _standing(excess, active)
    is_kept = active & (_kept(standing, delta) > ROUNDING)
    return _mean_shortfall(excess, standing).where(is_kept, 0).amax(dim=1)


def _standing(excess: Float[Tensor, "r n"], active: Bool[Tensor, "r n"]) -> Standing:
    ordered = excess.masked_fill(~active, math.inf).sort(dim=1).values
    below = torch.searchsorted(ordered, excess.contiguous())
    upto = torch.searchsorted(ordered, excess.contiguous(), right=True)
    sums = torch.nn.functional.pad(ordered.cumsum(dim=1), (1, 0))
    return Standing(
        below=below.double(),
        ties=(upto - below).clamp(min=1).double(),
        sum_below=sums.gather(1, below),
        num_active=active.sum(dim=1, keepdim=True).double(),
    )


def _moved(standing: Standing, delta: float) -> Float[Tensor, "r n"]:
    """Share of each example's own mass that goes to the least loss."""
    above = standing.num_active - standing.below - standing.ties
    return ((delta * standing.num_active - above) / standing.ties).clamp(0, 1)


def _kept(standing: Standing, delta: float) -> Float[Tensor, "r n"]:
    """Share of each example that stays."""
    allowed = ((1 - delta) * standing.num_active).clamp(min=FEWEST_KEPT)
    return ((allowed - standing.below) / standing.ties).clamp(0, 1)


def _mean_shortfall(excess: Float[Tensor, "r n"], standing: Standing) -> Float[Tensor, "r n"]:
    """mean_i (q - l_i)_+ for each loss q of the row."""
    return (standing.below * excess - standing.sum_below) / standing.num_active.clamp(min=1)
