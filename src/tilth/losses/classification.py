"""The loss of a classifier: cross-entropy of each example, and a mean that weighs them.

One number an example, before any reduction, is what methods need that weigh examples anew: class
weights, a frame's weight column, and losses that trust some labels less than others.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["example_losses", "weighted_mean"]


def example_losses(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], *, label_smoothing: float = 0.0
) -> Float[Tensor, "n"]:
    """Cross-entropy in nats of each example with its label.

    Args:
        label_smoothing: e; the target 1 becomes 1 - e + e / k, and 0 becomes e / k (Szegedy et al.,
            2016, arXiv 1512.00567v3, section 7).

    >>> example_losses(torch.zeros(1, 4), torch.tensor([2]))
    tensor([1.3863])
    """
    return cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)


def weighted_mean(values: Float[Tensor, "n"], weights: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """Sum of values times weights over the sum of weights; 0 where all weights are 0.

    >>> weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0]))
    tensor(2.)
    """
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, 1.0)
