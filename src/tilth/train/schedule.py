"""The learning rate of a step: a warm-up, then one of four ways down.

Source: Loshchilov and Hutter 2017, SGDR: Stochastic Gradient Descent with Warm Restarts,
    arXiv:1608.03983v5; the warm-up is the gradual one of Goyal et al. 2017, Accurate, Large
    Minibatch SGD, arXiv:1706.02677v2, section 2.2; its power and the steps are Darknet's burn_in
    and policy=steps.
Follows: Eq. 5 -> `cosine`; policy=steps -> `drops`; burn_in -> `learning_rate_factor`.
Symbols: factor = eta_t / eta_max; final_fraction = eta_min / eta_max; done = T_cur, steps since the
    warm-up; span = T_i, steps of the way down.
Differs: one cosine, no restarts; the last step of the run has exactly ``final_fraction``. Drops are
    given as shares of the run, not as step numbers, so that a longer run keeps its shape.
Checked by: `test_eq5_cosine_matches_the_written_formula`, `test_warm_up_rises_linearly`,
    `test_warm_up_of_power_four_is_darknets_burn_in`, `test_steps_drop_where_darknet_does`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = ["SCHEDULES", "learning_rate_factor"]


def cosine(done: int, span: int, final_fraction: float) -> float:
    """Half a cosine from 1 to ``final_fraction``; ``done`` of ``span`` steps are over."""
    height = 0.5 * (1 + math.cos(math.pi * done / span))
    return final_fraction + (1 - final_fraction) * height  # Eq. 5


def linear(done: int, span: int, final_fraction: float) -> float:
    """A straight line from 1 to ``final_fraction``."""
    return 1 - done / span * (1 - final_fraction)


def constant(done: int, span: int, final_fraction: float) -> float:
    """The peak to the end."""
    return 1.0


SCHEDULES: dict[str, Callable[[int, int, float], float] | None] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "steps": None,  # a function of the share of the whole run, warm-up included: see `drops`
}


def drops(step: int, *, steps: int, drops_at: Sequence[float], drop_factor: float) -> float:
    """``drop_factor`` to the power of how many of the shares ``drops_at`` of the run are over.

    >>> [drops(s, steps=10, drops_at=(0.8, 0.9), drop_factor=0.5) for s in (7, 8, 9)]
    [1.0, 0.5, 0.25]
    """
    passed = sum(step >= round(share * steps) for share in drops_at)
    return drop_factor**passed


def learning_rate_factor(
    step: int,
    *,
    steps: int,
    warmup_steps: int,
    final_fraction: float,
    schedule: str = "cosine",
    warmup_power: float = 1.0,
    drops_at: Sequence[float] = (),
    drop_factor: float = 0.1,
) -> float:
    """What the peak learning rate is multiplied by at ``step`` (counted from 0).

    A pure function of the step: there is no scheduler whose state could be lost.

    Args:
        steps: optimiser steps of the whole run.
        warmup_steps: the factor rises to 1 over this many steps; 0 starts at the peak.
        final_fraction: the factor of the last step of cosine and linear; 1 keeps the rate constant.
        schedule: a name in `SCHEDULES`.
        warmup_power: of the rise; 1 is a straight line.
        drops_at, drop_factor: see `drops`.

    >>> [learning_rate_factor(s, steps=5, warmup_steps=2, final_fraction=0.0) for s in (0, 1, 4)]
    [0.5, 1.0, 0.0]
    """
    if step < warmup_steps:
        return ((step + 1) / warmup_steps) ** warmup_power
    way_down = SCHEDULES[schedule]
    if way_down is None:
        return drops(step, steps=steps, drops_at=drops_at, drop_factor=drop_factor)
    span = max(steps - 1 - warmup_steps, 1)
    return way_down(min(step - warmup_steps, span), span, final_fraction)
