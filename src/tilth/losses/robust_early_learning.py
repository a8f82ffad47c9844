"""Early-learning regularisation: what a network answered early holds it back from wrong labels.

Source: Liu, Niles-Weed, Razavian, Fernandez-Granda, 2020, Early-Learning Regularization Prevents
    Memorization of Noisy Labels, arXiv 2007.00151v2.
Follows: the regulariser, log(1 - <p, t>) -> `EarlyTargets`; the targets by temporal ensembling ->
    `EarlyTargets`.
Symbols: targets = t, one distribution a training row; beta = beta, what stays of the old target;
    lam = lambda, the weight of the term, which the caller applies.
Differs: chances are kept between 1e-4 and 1 - 1e-4, as in the authors' program. Under several
    processes every one of them sees the answers of all, so that all hold the same targets.
Checked by: `test_early_targets_match_a_plain_loop`, `test_early_term_pulls_towards_the_target`
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tilth.losses.gathered_rows import gathered_rows

__all__ = ["EarlyTargets"]

SMALLEST_CHANCE = 1e-4


class EarlyTargets(nn.Module):
    """A running mean of what the network answered, for every training row.

    Args:
        num_examples: rows; the targets take ``4 * num_examples * num_classes`` bytes.
    """

    def __init__(self, num_examples: int, num_classes: int) -> None:
        super().__init__()
        self.targets: Tensor
        self.register_buffer("targets", torch.zeros(num_examples, num_classes))

    def forward(
        self, logits: Float[Tensor, "n k"], rows: Int64[Tensor, "n"], *, beta: float
    ) -> Float[Tensor, "n"]:
        """Move the targets of ``rows`` towards these answers; log(1 - <p, t>) of each.

        To minimise: it is lower where the answer agrees with the target.

        >>> early = EarlyTargets(3, 2)
        >>> early(torch.zeros(1, 2), torch.tensor([1]), beta=0.5)
        tensor([-0.2877])
        """
        chances = torch.softmax(logits.float(), dim=1)
        chances = chances.clamp(SMALLEST_CHANCE, 1 - SMALLEST_CHANCE)
        with torch.no_grad():
            answers = chances / chances.sum(dim=1, keepdim=True)
            moved = beta * self.targets[rows] + (1 - beta) * answers
            self.targets.index_copy_(0, *gathered_rows(rows, moved))
        return torch.log1p(-(moved * chances).sum(dim=1))
