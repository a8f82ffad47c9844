"""What has been seen of the weights that a robust loss gives: by class, and by training row."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tilth.losses.gathered_rows import gathered_rows

__all__ = ["WeightMemory"]

# Of the sums by class, a step: they tell of the last few hundred steps.
CLASS_DECAY = 0.99


class WeightMemory(nn.Module):
    """Sums of weights, as buffers, so that checkpoints hold them.

    A weight of 1 is the even one. The mean weight of a class says whether a run has given the class
    up; that of a row, over the run, how far its label was believed.

    Args:
        num_examples: rows to remember one by one; 0 remembers classes alone.
    """

    def __init__(self, num_classes: int, num_examples: int = 0) -> None:
        super().__init__()
        self.class_mass: Tensor
        self.class_seen: Tensor
        self.row_mass: Tensor
        self.row_seen: Tensor
        self.register_buffer("class_mass", torch.zeros(num_classes))
        self.register_buffer("class_seen", torch.zeros(num_classes))
        self.keeps_rows = num_examples > 0
        if self.keeps_rows:
            self.register_buffer("row_mass", torch.zeros(num_examples))
            self.register_buffer("row_seen", torch.zeros(num_examples))

    @torch.no_grad()
    def observe(
        self,
        labels: Int64[Tensor, "n"],
        weights: Float[Tensor, "n"],
        rows: Int64[Tensor, "n"] | None = None,
    ) -> None:
        """Add the weights of one batch, of all processes; their mean is to be 1."""
        weights = weights.detach().float()
        labels_of_all, of_all = gathered_rows(labels, weights)
        self.class_mass.mul_(CLASS_DECAY).index_add_(0, labels_of_all, of_all)
        self.class_seen.mul_(CLASS_DECAY).index_add_(0, labels_of_all, torch.ones_like(of_all))
        if self.keeps_rows and rows is not None:
            rows_of_all, of_all = gathered_rows(rows, weights)
            self.row_mass.index_add_(0, rows_of_all, of_all)
            self.row_seen.index_add_(0, rows_of_all, torch.ones_like(of_all))

    @property
    def class_weights(self) -> Float[Tensor, "k"]:
        """The lately mean weight of each class; 1 of those that were not seen."""
        seen = self.class_seen > 0
        mean = self.class_mass / torch.where(seen, self.class_seen, 1.0)
        return torch.where(seen, mean, 1.0)

    @property
    def row_weights(self) -> Float[Tensor, "m"]:
        """The mean weight of each row over the run; not a number of those that were not seen."""
        return self.row_mass / self.row_seen
