"""Losses of each example that trust its label less than cross-entropy does.

Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, 2016, Rethinking the Inception Architecture for
    Computer Vision, arXiv 1512.00567v3 (section 7); Reed, Lee, Anguelov, Szegedy, Erhan,
    Rabinovich, 2014, Training Deep Neural Networks on Noisy Labels with Bootstrapping,
    arXiv 1412.6596v3; Zhang, Sabuncu, 2018, Generalized Cross Entropy Loss for Training Deep Neural
    Networks with Noisy Labels, arXiv 1805.07836v4; Wang, Ma, Chen, Luo, Yi, Bailey, 2019, Symmetric
    Cross Entropy for Robust Learning with Noisy Labels, arXiv 1908.06112v1.
Follows: section 7 of Szegedy et al. -> `label_smoothing`; the soft and the hard objective of Reed
    et al. -> `soft_bootstrapping`, `hard_bootstrapping`; L_q and the truncated L_q of Zhang and
    Sabuncu -> `generalised_cross_entropy`; SL of Wang et al. -> `symmetric_cross_entropy`.
Symbols: smoothing = epsilon; beta = beta, of bootstrapping the share of the given label, of
    symmetric cross-entropy the weight of its reverse part; alpha = alpha, the weight of the
    ordinary part; log_zero = A, what the logarithm of 0 counts as; q = q; truncation = k.
Differs: the network's own answer in the targets of soft bootstrapping is not detached, as in the
    paper, where it pulls answers apart; of the hard one it is a class, which has no gradient. A
    truncated example loses a constant, and no search over which examples to prune is made.
Checked by: `test_losses_are_their_written_formulas`, `test_limits_are_cross_entropy`,
    `test_robust_gradients_match_finite_differences`
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from tilth.losses.classification import example_losses
from tilth.losses.robust_settings import RobustSettings

__all__ = [
    "LOSSES",
    "generalised_cross_entropy",
    "hard_bootstrapping",
    "label_smoothing",
    "soft_bootstrapping",
    "soft_cross_entropy",
    "symmetric_cross_entropy",
]


def label_smoothing(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], *, smoothing: float
) -> Float[Tensor, "n"]:
    """Cross-entropy with (1 - e) on the label and e shared among all classes."""
    return example_losses(logits, labels, label_smoothing=smoothing)


def soft_bootstrapping(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], *, beta: float
) -> Float[Tensor, "n"]:
    """-sum_k (beta y_k + (1 - beta) p_k) log p_k.

    >>> soft_bootstrapping(torch.zeros(1, 4), torch.tensor([2]), beta=0.95)
    tensor([1.3863])
    """
    log_chances = log_softmax(logits.float(), dim=1)
    entropy = -(log_chances.exp() * log_chances).sum(dim=1)
    return beta * example_losses(logits, labels) + (1 - beta) * entropy


def hard_bootstrapping(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, "n"], *, beta: float
) -> Float[Tensor, "n"]:
    """As `soft_bootstrapping`, with the likeliest class in the place of all chances."""
    likeliest = logits.detach().argmax(dim=1)
    return beta * example_losses(logits, labels) + (1 - beta) * example_losses(logits, likeliest)


def generalised_cross_entropy(
    logits: Float[Tensor, "n k"],
    labels: Int64[Tensor, "n"],
    *,
    q: float,
    truncation: float = 0.0,
) -> Float[Tensor, "n"]:
    """(1 - p_y^q) / q: cross-entropy for q to 0, one minus the chance for q = 1.

    Args:
        truncation: examples whose label has at most this chance lose a constant, and so teach
            nothing; 0 lets every one of them count.

    >>> generalised_cross_entropy(torch.zeros(1, 4), torch.tensor([2]), q=1.0)
    tensor([0.7500])
    """
    losses = example_losses(logits, labels)
    if truncation:
        losses = losses.clamp(max=-torch.log(torch.tensor(truncation)).item())
    return -torch.expm1(-q * losses) / q


def symmetric_cross_entropy(
    logits: Float[Tensor, "n k"],
    labels: Int64[Tensor, "n"],
    *,
    alpha: float,
    beta: float,
    log_zero: float,
) -> Float[Tensor, "n"]:
    """alpha H(y, p) + beta H(p, y), where the logarithm of y = 0 counts as ``log_zero``.

    The reverse part is then -A (1 - p_y), A being ``log_zero``.
    """
    losses = example_losses(logits, labels)
    return alpha * losses + beta * log_zero * torch.expm1(-losses)


LOSSES: dict[
    str, Callable[[RobustSettings, Float[Tensor, "n k"], Int64[Tensor, "n"]], Float[Tensor, "n"]]
] = {
    "none": lambda settings, logits, labels: example_losses(logits, labels),
    "label_smoothing": lambda settings, logits, labels: label_smoothing(
        logits, labels, smoothing=settings.smoothing
    ),
    "bootstrap_soft": lambda settings, logits, labels: soft_bootstrapping(
        logits, labels, beta=settings.applied_beta
    ),
    "bootstrap_hard": lambda settings, logits, labels: hard_bootstrapping(
        logits, labels, beta=settings.applied_beta
    ),
    "gce": lambda settings, logits, labels: generalised_cross_entropy(
        logits, labels, q=settings.q, truncation=settings.truncation
    ),
    "sce": lambda settings, logits, labels: symmetric_cross_entropy(
        logits,
        labels,
        alpha=settings.alpha,
        beta=settings.applied_beta,
        log_zero=settings.log_zero,
    ),
}
"""Kind in the settings -> loss of each example, of the kinds that need nothing but its logits."""


def soft_cross_entropy(
    logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
) -> Float[Tensor, "n"]:
    """Cross-entropy in nats of each example with a distribution over the classes."""
    return cross_entropy(logits.float(), targets, reduction="none")
