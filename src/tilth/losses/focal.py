"""The focal loss: binary cross-entropy that counts what is nearly right less.

Source: Lin, Goyal, Girshick, He, Dollár, 2017, Focal Loss for Dense Object Detection,
    arXiv 1708.02002v2.
Follows: Eq. 5 -> `focal_cross_entropy`.
Symbols: gamma = focusing parameter; alpha = weight of y = 1; p = sigmoid of the logit.
Differs: 1 - p_t is written |y - p|, which is the same for y of 0 and 1 and goes on between them,
    for smoothed labels and overlaps as targets; alpha_t is alpha y + (1 - alpha) (1 - y).
Checked by: `test_eq5_focal_loss_by_hand`, `test_gamma_zero_is_cross_entropy`,
    `test_focal_gradient_matches_finite_differences`
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

__all__ = ["focal_cross_entropy"]

# Keeps the derivative of |y - p| ** gamma finite at 0 for gamma below 1.
SMALLEST_ERROR = 1e-6


def focal_cross_entropy(
    logits: Float[Tensor, "*n"],
    targets: Float[Tensor, "*n"],
    *,
    gamma: float,
    alpha: float | None = None,
) -> Float[Tensor, "*n"]:
    """Loss of each entry, in nats.

    Args:
        targets: 0 to 1.
        gamma: 0 gives the cross-entropy itself.
        alpha: weight of yes, that of no being 1 - alpha; None weighs both by 1.

    >>> focal_cross_entropy(torch.zeros(1), torch.ones(1), gamma=2.0)
    tensor([0.1733])
    """
    losses = bce(logits, targets, reduction="none")
    if gamma:
        error = (targets - torch.sigmoid(logits)).abs().clamp(min=SMALLEST_ERROR)
        losses = error**gamma * losses  # Eq. 4
    if alpha is not None:
        losses = (alpha * targets + (1 - alpha) * (1 - targets)) * losses  # Eq. 5
    return losses
