"""A network, and what its robust loss has to remember beside it, as one module.

Whatever is in the module is in its checkpoints, so a run that goes on after a kill finds it again;
`RobustNetwork.network` is what is left when training is over.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tilth.losses.robust_early_learning import EarlyTargets
from tilth.losses.robust_memory import WeightMemory

__all__ = ["RobustNetwork"]


class RobustNetwork(nn.Module):
    """Answers as ``network`` does; in training, with a twin, as both do.

    Args:
        twin: a second network of the same kind with other starting weights.
        weights: sums of the weights of classes and rows.
        early: the targets of early-learning regularisation.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        twin: nn.Module | None = None,
        weights: WeightMemory | None = None,
        early: EarlyTargets | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.twin = twin
        self.weights = weights
        self.early = early

    def forward(self, *inputs: Any, **options: Any) -> Tensor:
        """Logits [b, k]; of both networks, [2, b, k], while a twin is trained."""
        logits = self.network(*inputs, **options)
        if self.twin is None or not self.training:
            return logits
        return torch.stack([logits, self.twin(*inputs, **options)])
