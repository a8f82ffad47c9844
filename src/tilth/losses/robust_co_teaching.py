"""Co-teaching: two networks, each of which learns what the other finds easy.

Source: Han, Yao, Yu, Niu, Xu, Hu, Tsang, Sugiyama, 2018, Co-teaching: Robust Training of Deep
    Neural Networks with Extremely Noisy Labels, arXiv 1804.06872v3.
Follows: Algorithm 1, step 8 -> `kept_share`; steps 4 to 7 -> `chosen_by_the_other`.
Symbols: forget_rate = tau; ramp = T_k; share = R(T).
Differs: R is a function of the step, not of the epoch, so that it falls smoothly in short runs too;
    at least one example is learnt. Both networks take one step of one optimiser.
Checked by: `test_kept_share_falls_to_what_is_thought_right`,
    `test_each_network_learns_what_the_other_finds_easy`
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["chosen_by_the_other", "kept_share"]


def kept_share(step: int, *, forget_rate: float, ramp: float) -> float:
    """Share of a batch that is learnt at ``step``: 1 - tau min(step / ramp, 1).

    Args:
        ramp: steps over which all of ``forget_rate`` is reached; 0 begins with it.

    >>> [kept_share(step, forget_rate=0.4, ramp=10.0) for step in (0, 5, 99)]
    [1.0, 0.8, 0.6]
    """
    reached = min(step / ramp, 1.0) if ramp > 0 else 1.0
    return 1.0 - forget_rate * reached


@torch.no_grad()
def chosen_by_the_other(
    losses: Float[Tensor, "2 n"], share: float, mask: Bool[Tensor, "n"] | None = None
) -> Bool[Tensor, "2 n"]:
    """For each network the examples that the other one loses least on.

    Args:
        losses: of both networks.
        share: of the examples that is chosen, rounded down, but at least one.
        mask: examples that may be chosen; all by default.
    """
    ranked = losses.detach().flip(0)
    if mask is not None:
        ranked = ranked.masked_fill(~mask, torch.inf)
    count = max(int(share * losses.shape[1]), 1)
    least = ranked.argsort(dim=1, stable=True)[:, :count]
    chosen = torch.zeros_like(ranked, dtype=torch.bool).scatter_(1, least, True)
    return chosen if mask is None else chosen & mask
