"""Instance weights in closed form: one power law for every order of the alpha-divergence.

Source: Kumar, Amid, 2021, Constrained Instance and Class Reweighting for Robust Learning under
    Label Noise, arXiv 2111.05428 (the authors' released program, google-research ciw_label_noise).
Follows: the solution for an alpha-divergence -> `log_power_weights`; its constraint form, which
    the program leaves out -> `temperature_of_radius`.
Symbols: excess = l_i - min l; temperature = lam + (1 - a) min l; order = a.
Differs: written by excess and temperature, w_i ~ [1 + (1 - a) excess_i / temperature]_+ to the
    power 1 / (a - 1), which no scale of the losses under- or overflows, which is exp(-excess /
    temperature) in the limit a = 1, and whose temperature runs from 0 (least losses alone) to
    infinity (uniform) for every order. The constrained weights depend on the excess alone, so
    that their lam may be below 0 where losses are high and a is below 1.
Checked by: `test_vectors_of_the_derivation`, `test_constraint_form_matches_a_numerical_solver`,
    `test_penalised_form_is_the_power_law`, `test_temperature_has_its_limits`
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tilth.losses.batched_root import falling_root
from tilth.losses.divergences import alpha_divergence

__all__ = ["log_power_weights", "temperature_of_lam", "temperature_of_radius"]

# Of temperature over the largest excess: below it all mass is on the least losses to the last bit,
# above it the weights are uniform to the last bit.
LOG_COLDEST, LOG_HOTTEST = -700.0, 80.0


def temperature_of_lam(lam: float, order: float, least: Float[Tensor, "r"]) -> Float[Tensor, "r"]:
    """The temperature that goes with lam, 0 or more.

    An order above 1 has none where lam is below (a - 1) min l, and 0, all mass on the least losses,
    is the limit. Losses below 0, of densities for instance, count as 0 for orders below 1, whose
    weights would have a pole there.
    """
    if order == 1:
        return torch.full_like(least, lam)
    if order < 1:
        least = least.clamp(min=0)
    return (lam + (1 - order) * least).clamp(min=0)


def temperature_of_radius(
    radius: Float[Tensor, "r"],
    order: float,
    excess: Float[Tensor, "r n"],
    active: Bool[Tensor, "r n"],
) -> Float[Tensor, "r"]:
    """The temperature at which the weights are at ``radius`` from uniform, by a root.

    A radius that no weights reach gives the coldest temperature, where the least losses share all.
    """
    scale = excess.where(active, 0).amax(dim=1, keepdim=True)
    scale = scale.where(scale > 0, 1)
    scaled = (excess / scale).unsqueeze(1)
    counted = active.unsqueeze(1)

    def reached(temperatures: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
        ratios = _log_ratios(scaled, order, temperatures.unsqueeze(2), counted)
        return alpha_divergence(ratios, order, counted.expand_as(ratios))

    root = falling_root(
        reached, radius.unsqueeze(1), log_low=LOG_COLDEST, log_high=LOG_HOTTEST, like=excess
    )
    return root * scale.squeeze(1)


def log_power_weights(
    excess: Float[Tensor, "*r n"], order: float, temperature: Float[Tensor, "*q 1"]
) -> Float[Tensor, "*q n"]:
    """Logarithms of the weights before they are normalised; 0 for the least loss."""
    # 0 / 0 is the least loss at temperature 0; inf / inf stands for no example at all.
    relative = (excess / temperature).nan_to_num(nan=0.0, posinf=math.inf)
    if order == 1:
        return -relative
    return -torch.log1p(((1 - order) * relative).clamp(min=-1)) / (1 - order)


def _log_ratios(
    excess: Float[Tensor, "r 1 n"],
    order: float,
    temperature: Float[Tensor, "r c 1"],
    active: Bool[Tensor, "r 1 n"],
) -> Float[Tensor, "r c n"]:
    """log(n w)."""
    logs = log_power_weights(excess, order, temperature).masked_fill(~active, -math.inf)
    count = active.sum(dim=-1, keepdim=True)
    return logs - logs.exp().sum(dim=-1, keepdim=True).log() + count.to(logs.dtype).log()
