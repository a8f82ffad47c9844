"""The learning rate of a step: linear warm-up, then half a cosine down.

Source: Loshchilov and Hutter 2017, SGDR: Stochastic Gradient Descent with Warm Restarts,
    arXiv:1608.03983v5; the warm-up is the gradual one of Goyal et al. 2017, Accurate, Large
    Minibatch SGD, arXiv:1706.02677v2, section 2.2.
Follows: Eq. 5 -> `learning_rate_factor`.
Symbols: factor = eta_t / eta_max; final_fraction = eta_min / eta_max; done = T_cur, steps since the
    warm-up; span = T_i, steps of the cosine.
Differs: one cosine, no restarts; the last step of the run has exactly ``final_fraction``.
Checked by: `test_eq5_cosine_matches_the_written_formula`, `test_warm_up_rises_linearly`.
"""

from __future__ import annotations

import math

__all__ = ["learning_rate_factor"]


def learning_rate_factor(
    step: int, *, steps: int, warmup_steps: int, final_fraction: float
) -> float:
    """What the peak learning rate is multiplied by at ``step`` (counted from 0).

    A pure function of the step: there is no scheduler whose state could be lost.

    Args:
        steps: optimiser steps of the whole run.
        warmup_steps: the factor rises to 1 over this many steps; 0 starts at the peak.
        final_fraction: the factor of the last step; 1 keeps the rate constant.

    >>> [learning_rate_factor(s, steps=5, warmup_steps=2, final_fraction=0.0) for s in (0, 1, 4)]
    [0.5, 1.0, 0.0]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    span = max(steps - 1 - warmup_steps, 1)
    done = min(step - warmup_steps, span)
    cosine = 0.5 * (1 + math.cos(math.pi * done / span))
    return final_fraction + (1 - final_fraction) * cosine  # Eq. 5
