"""How far the weights of a batch are from uniform ones: alpha-divergences, their kin, two shares.

Source: Kumar, Amid, 2021, Constrained Instance and Class Reweighting for Robust Learning under
    Label Noise, arXiv 2111.05428 (the authors' released program, google-research
    ciw_label_noise, and the abstract); Basu, Harris, Hjort, Jones, 1998, Robust and efficient
    estimation by minimising a density power divergence, Biometrika 85 (beta); Fujisawa, Eguchi,
    2008, Robust parameter estimation with a small bias against heavy contamination, Journal of
    Multivariate Analysis 99 (gamma).
Follows: the alpha-divergence -> `alpha_divergence`; what its kin make of it -> `alpha_radius`,
    `named_radius`.
Symbols: order = alpha; log_ratios = log(n w); radius = D(w, u), delta where it is a bound.
Differs: written as a mean of terms that are 0 at w = u and level there, so that the last bits of
    near-uniform weights do not drown a small divergence.
Checked by: `test_alpha_divergence_is_the_formula`, `test_vectors_of_the_derivation`,
    `test_kin_give_the_same_weights`, `test_radius_goes_through_every_name_and_back`
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tilth.errors import SettingsError
from tilth.losses.reweighting_settings import Divergence

__all__ = ["alpha_divergence", "alpha_radius", "divergence_of", "named_radius", "order_of"]

NAMED_ORDERS = {"kl": 1.0, "reverse_kl": 0.0, "hellinger": 0.5, "chi2": 2.0, "neyman": -1.0}
KIN = ("tsallis", "renyi", "beta", "gamma")
SHARES = ("tv", "cvar")
# Closer to 0 or 1 than this, the general formula is a difference of almost equal numbers.
NEAR = 1e-8
# exp of it is 0 already; it keeps 0 * log 0 at 0.
LOG_OF_NOTHING = -800.0


def order_of(divergence: Divergence, alpha: float) -> float | None:
    """The order alpha of a divergence; None for total variation and CVaR, which have none.

    Raises:
        SettingsError: a name that is not known, or an order that the divergence does not have.

    >>> order_of("hellinger", 0.1), order_of("alpha", 0.1)
    (0.5, 0.1)
    """
    if divergence in SHARES:
        return None
    known = (*NAMED_ORDERS, "alpha", *KIN)
    if divergence not in known or not math.isfinite(alpha) or (divergence in KIN and alpha <= 0):
        raise SettingsError(
            "this divergence of weights is not known",
            expected=f"one of {', '.join((*known, *SHARES))}; alpha above 0 for {', '.join(KIN)}",
            got=f"{divergence!r} with alpha {alpha:g}",
        )
    order = NAMED_ORDERS.get(divergence, alpha)
    return next((whole for whole in (0.0, 1.0) if abs(order - whole) < NEAR), float(order))


def alpha_divergence(
    log_ratios: Float[Tensor, "*r n"], order: float, active: Bool[Tensor, "*r n"]
) -> Float[Tensor, "*r"]:
    """D_a(w || u) = (n^(a-1) sum w^a - 1) / (a (a - 1)), and its limits at 0 and 1.

    Args:
        log_ratios: log(n w), n counting the active entries.
        active: what is counted; every row has at least one, or its divergence is 0.
    """
    gain = torch.expm1(log_ratios)
    if order == 1:
        terms = (gain + 1) * log_ratios.clamp(min=LOG_OF_NOTHING) - gain
    elif order == 0:
        terms = gain - log_ratios
    else:
        terms = torch.expm1(order * log_ratios) - order * gain
        terms = terms / (order * (order - 1))
    return terms.where(active, 0).sum(dim=-1) / active.sum(dim=-1).clamp(min=1)


def alpha_radius(
    delta: float, divergence: Divergence, order: float, count: Float[Tensor, "*r"]
) -> Float[Tensor, "*r"]:
    """The radius of the alpha-divergence that holds the weights within ``delta`` of another's.

    Tsallis', Renyi's, the beta- and the gamma-divergence from w to the uniform u are rising
    functions of sum w^a, as the alpha-divergence is, so that they differ in the radius alone.

    Args:
        count: weights in a row, n, which the beta-divergence depends on.
    """
    radius = torch.full_like(count, delta)
    slope = order * (order - 1)
    if divergence == "tsallis":
        return radius / order
    if divergence == "beta":
        return radius * count ** (order - 1) / order
    if divergence in ("renyi", "gamma") and slope:
        stretched = radius * (order - 1) * (order if divergence == "gamma" else 1)
        return torch.expm1(stretched) / slope
    return radius


def named_radius(
    radius: Float[Tensor, "*r"], divergence: Divergence, order: float, count: Float[Tensor, "*r"]
) -> Float[Tensor, "*r"]:
    """The inverse of `alpha_radius`: an alpha-divergence in another's unit."""
    slope = order * (order - 1)
    if divergence == "tsallis":
        return radius * order
    if divergence == "beta":
        return radius * order / count ** (order - 1)
    if divergence in ("renyi", "gamma") and slope:
        per = (order - 1) * (order if divergence == "gamma" else 1)
        return torch.log1p((slope * radius).clamp(min=-1)) / per
    return radius


def divergence_of(
    weights: Float[Tensor, "n"],
    *,
    divergence: Divergence = "alpha",
    alpha: float = 0.1,
    mask: Bool[Tensor, "n"] | None = None,
) -> Float[Tensor, ""]:
    """How far weights are from uniform ones, in the unit of the constraint's ``delta``.

    Total variation is half the sum of absolute differences, the mass that was moved; CVaR's is
    1 - 1 / (n max w), the share of the batch that was dropped.

    Args:
        weights: they sum to 1 over what is counted.
        mask: what is counted; all by default.

    >>> round(float(divergence_of(torch.tensor([0.5, 0.5, 0.0]), divergence="tv")), 4)
    0.3333
    """
    order = order_of(divergence, alpha)
    active = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask
    count = active.sum().double()
    ratios = weights.double() * count
    if order is None:
        if divergence == "cvar":
            return 1 - 1 / ratios.where(active, 0).max()
        return (ratios - 1).abs().where(active, 0).sum() / (2 * count)
    return named_radius(alpha_divergence(ratios.log(), order, active), divergence, order, count)
