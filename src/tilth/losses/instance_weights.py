"""Weights of the examples of a batch from their losses: what is learnt badly counts less.

Source: Kumar, Amid, 2021, Constrained Instance and Class Reweighting for Robust Learning under
    Label Noise, arXiv 2111.05428 (the authors' released program, google-research ciw_label_noise).
Follows: min over w of sum_i w_i l_i with D(w, u) <= delta, or plus its price -> `instance_weights`;
    the map between the two -> `lam_of_radius`, `radius_of_lam`.
Symbols: losses = l_i; lam = temperature of the penalised form; delta = radius; u = 1 / n.
Differs: lam is not the price of the divergence unless it is KL, total variation or CVaR: for
    other orders it is the rescaled multiplier of sum w = 1, as in the program. Masks, groups and
    batches over several processes are ours.
Checked by: `test_vectors_of_the_derivation`, `test_constraint_form_matches_a_numerical_solver`,
    `test_penalised_form_matches_a_numerical_solver`, `test_lam_and_delta_map_both_ways`,
    `test_groups_keep_their_share`, `test_weights_over_two_processes_are_those_of_one`
"""

import math
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, distributed

from tilth.errors import SettingsError, TrainingError
from tilth.losses.cut_weights import (
    kept_share_weights,
    lam_of_kept_share,
    lam_of_moved_mass,
    total_variation_weights,
)
from tilth.losses.divergences import alpha_radius, divergence_of, order_of
from tilth.losses.global_batch import gathered_columns
from tilth.losses.power_weights import (
    log_power_weights,
    temperature_of_lam,
    temperature_of_radius,
)
from tilth.losses.reweighting_settings import Divergence

__all__ = [
    "divergence_of",
    "element_weights",
    "instance_weights",
    "lam_of_radius",
    "radius_of_lam",
    "refuse_nonsense",
]

# Of the rows that an error names.
ROWS_NAMED = 5


class Rows(NamedTuple):
    """Losses as rows that are weighed apart: one a group.

    Attributes:
        excess: above the least active loss of the row.
        active: what gets weight: neither masked nor infinite.
        least: the least active loss.
        share: of the mass, by count of active losses.
    """

    excess: Float[Tensor, "r n"]
    active: Bool[Tensor, "r n"]
    least: Float[Tensor, "r"]
    share: Float[Tensor, "r"]


def instance_weights(
    losses: Float[Tensor, "n"],
    *,
    divergence: Divergence = "alpha",
    alpha: float = 0.1,
    lam: float | None = None,
    delta: float | None = None,
    mask: Bool[Tensor, "n"] | None = None,
    groups: Int64[Tensor, "n"] | None = None,
    process_group: distributed.ProcessGroup | None = None,
    capacity: int | None = None,
) -> Float[Tensor, "n"]:
    """Weights that sum to 1 over the batch, float32, without gradient, whatever the losses' scale.

    An infinite loss has weight 0, unless all are infinite. Equal losses have equal weights. For
    orders below 1, ``lam=0`` is the formula's limit, l ** (-1 / (1 - alpha)); for the others it
    puts all weight on the least losses, as a ``delta`` beyond all reach does for every divergence.

    Args:
        losses: of any float type; computed in float64.
        alpha: order of the divergences that have one.
        lam: temperature of the penalised form, 0 or more.
        delta: radius of the constraint form, in the unit of `divergence_of`. One of the two, not
            both.
        mask: what is an example at all; the others get 0 and are not looked at.
        groups: numbers of groups, such as classes, that are weighed apart: each keeps the share of
            the mass that its count of examples has.
        process_group: whose batches, those of all its processes, are weighed as one; None is this
            process alone. The result is this process' part.
        capacity: see `gathered_columns`.

    Raises:
        SettingsError: a divergence or order that is not known, neither or both of lam and delta.
        TrainingError: a loss that is not a number, or minus infinity; the rows are named.

    >>> instance_weights(torch.tensor([0.1, 0.5, 4.0]), divergence="kl", lam=1.0)
    tensor([0.5915, 0.3965, 0.0120])
    """
    order = order_of(divergence, alpha)
    _require_one_form(lam, delta)
    columns = [losses.detach().double()]
    columns.append(torch.ones_like(columns[0]) if mask is None else mask.double())
    if groups is not None:
        columns.append(groups.double())
    whole, start = gathered_columns(torch.stack(columns), process_group, capacity=capacity)
    if not whole.shape[1]:
        return losses.detach().float()
    counted = whole[1] > 0
    refuse_nonsense(whole[0], counted)
    rows = _rows(whole[0], counted, whole[2] if groups is not None else None)
    weights = _row_weights(rows, divergence, order, lam=lam, delta=delta)
    weights = (weights * rows.share.unsqueeze(1)).sum(dim=0)
    return weights[start : start + len(losses)].float()


def element_weights(
    losses: Float[Tensor, "n *rest"],
    *,
    instance: Literal["example", "element"],
    mask: Bool[Tensor, "n *rest"] | None = None,
    divergence: Divergence = "alpha",
    alpha: float = 0.1,
    lam: float | None = None,
    delta: float | None = None,
    process_group: distributed.ProcessGroup | None = None,
) -> Float[Tensor, "n *rest"]:
    """`instance_weights` for losses of pixels or tokens, in the losses' shape, summing to 1.

    Args:
        instance: what is trusted more or less: an ``"example"``, by the mean loss of its elements,
            which share its weight; or every ``"element"`` by itself.
        mask: elements that count, such as those that are not padding.
    """
    counted = torch.ones_like(losses, dtype=torch.bool) if mask is None else mask
    how: dict[str, Any] = {
        "divergence": divergence,
        "alpha": alpha,
        "lam": lam,
        "delta": delta,
        "process_group": process_group,
    }
    if instance == "element":
        flat = instance_weights(losses.flatten(), mask=counted.flatten(), **how)
        return flat.view_as(losses)
    flat_mask = counted.flatten(1)
    elements = flat_mask.sum(dim=1)
    sums = losses.detach().double().flatten(1).where(flat_mask, 0).sum(dim=1)
    weights = instance_weights(sums / elements.clamp(min=1), mask=elements > 0, **how)
    shared = weights / elements.clamp(min=1)
    return (shared.unsqueeze(1) * flat_mask).view_as(losses)


def lam_of_radius(
    losses: Float[Tensor, "n"],
    delta: float,
    *,
    divergence: Divergence = "alpha",
    alpha: float = 0.1,
    mask: Bool[Tensor, "n"] | None = None,
) -> Float[Tensor, ""]:
    """The lam whose weights of these losses are at ``delta`` from uniform, float64.

    Below 0 for an order below 1 where only that reaches the radius: `instance_weights` takes no
    such lam, but does reach the radius. Total variation and CVaR go in steps of whole examples:
    the lam is the least at which the radius is not exceeded.

    >>> losses = torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0])
    >>> round(float(lam_of_radius(losses, 0.2, divergence="kl")), 4)
    1.6199
    """
    order = order_of(divergence, alpha)
    _require_one_form(None, delta)
    counted = torch.ones_like(losses, dtype=torch.bool) if mask is None else mask
    refuse_nonsense(losses, counted)
    rows = _rows(losses.detach().double(), counted, None)
    if order is None:
        lam_of = lam_of_moved_mass if divergence == "tv" else lam_of_kept_share
        return lam_of(rows.excess, rows.active, delta)[0]
    temperature = _temperature(rows, divergence, order, delta)
    return (temperature - (1 - order) * rows.least)[0]


def radius_of_lam(
    losses: Float[Tensor, "n"],
    lam: float,
    *,
    divergence: Divergence = "alpha",
    alpha: float = 0.1,
    mask: Bool[Tensor, "n"] | None = None,
) -> Float[Tensor, ""]:
    """How far from uniform the weights of these losses are at ``lam``: its delta, float64."""
    order = order_of(divergence, alpha)
    _require_one_form(lam, None)
    counted = torch.ones_like(losses, dtype=torch.bool) if mask is None else mask
    refuse_nonsense(losses, counted)
    rows = _rows(losses.detach().double(), counted, None)
    weights = _row_weights(rows, divergence, order, lam=lam, delta=None)[0]
    return divergence_of(weights, divergence=divergence, alpha=alpha, mask=rows.active[0])


def _row_weights(
    rows: Rows,
    divergence: Divergence,
    order: float | None,
    *,
    lam: float | None,
    delta: float | None,
) -> Float[Tensor, "r n"]:
    """Weights of each row, summing to 1 over it."""
    if order is None:
        weigh = total_variation_weights if divergence == "tv" else kept_share_weights
        return weigh(rows.excess, rows.active, lam=math.inf if lam is None else lam, delta=delta)
    if lam is not None:
        temperature = temperature_of_lam(lam, order, rows.least)
        excess = rows.excess
        if order < 1:  # Losses below 0 count as 0.
            excess = (excess + rows.least.clamp(max=0).unsqueeze(1)).clamp(min=0)
    else:
        temperature = _temperature(rows, divergence, order, delta or 0.0)
        excess = rows.excess
    logs = log_power_weights(excess, order, temperature.unsqueeze(1))
    weights = logs.exp().where(rows.active, 0)
    total = weights.sum(dim=1, keepdim=True)
    return weights / total.where(total > 0, 1)


def _temperature(
    rows: Rows, divergence: Divergence, order: float, delta: float
) -> Float[Tensor, "r"]:
    count = rows.active.sum(dim=1).double()
    radius = alpha_radius(delta, divergence, order, count.clamp(min=1))
    return temperature_of_radius(radius, order, rows.excess, rows.active)


def _rows(
    losses: Float[Tensor, "n"], counted: Bool[Tensor, "n"], groups: Float[Tensor, "n"] | None
) -> Rows:
    is_finite = counted & losses.isfinite()
    has_none = ~is_finite.any()
    # Without a finite loss all infinite ones are alike. No question to the device: both at once.
    active = is_finite | (counted & has_none)
    losses = losses.where(is_finite, 0)
    if groups is None:
        of_rows = active.unsqueeze(0)
    else:
        # Masked examples may have any number, such as -1 for nothing.
        of_rows = (groups == groups.unique().unsqueeze(1)) & active
    spread = losses.expand_as(of_rows)
    least = spread.masked_fill(~of_rows, math.inf).amin(dim=1)
    least = least.where(of_rows.any(dim=1), 0)
    excess = (spread - least.unsqueeze(1)).masked_fill(~of_rows, math.inf)
    share = of_rows.sum(dim=1).double() / active.sum().clamp(min=1)
    return Rows(excess, of_rows, least, share)


def _require_one_form(lam: float | None, delta: float | None) -> None:
    given = [value for value in (lam, delta) if value is not None]
    if len(given) != 1 or not given[0] >= 0:
        raise SettingsError(
            "weights need exactly one of a temperature and a radius",
            expected="lam or delta, 0 or more",
            got=f"lam={lam}, delta={delta}",
        )


def refuse_nonsense(losses: Float[Tensor, "n"], counted: Bool[Tensor, "n"]) -> None:
    """Stop at a counted loss that is not a number or is minus infinity.

    Raises:
        TrainingError: with the rows that have one.
    """
    wrong = counted & (losses.isnan() | (losses == -math.inf))
    if wrong.any():
        rows = wrong.nonzero().flatten().tolist()
        named = ", ".join(str(row) for row in rows[:ROWS_NAMED])
        more = f" and {len(rows) - ROWS_NAMED} more" if len(rows) > ROWS_NAMED else ""
        raise TrainingError(
            "a loss is not a number, so that no weights can be made of the batch",
            where=f"row {named}{more} of {len(losses)}, those of all processes that weigh together",
            got=str(losses[rows[0]].item()),
            fix="look at these examples for values that are not finite; else lower the learning "
            "rate, or train in float32",
        )
