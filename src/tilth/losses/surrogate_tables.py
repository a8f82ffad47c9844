"""What a metric of numbers in a row is predicted from, and the network that does it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import DataError
from tilth.losses.surrogate_layers import Build, dense, one_hot

__all__ = ["RowPairs", "row_channels"]


def row_channels(prediction: Tensor, target: Tensor) -> Float[Tensor, "n c"]:
    """Prediction and target in a row, and where they are alike in shape their squared difference
    and their product.

    Args:
        prediction: [n] or [n, ...]: numbers, or the chances of k classes.
        target: the same, or whole numbers [n] that name one of the k classes.

    Raises:
        DataError: they differ in number, or a class is outside of the k.
    """
    if len(prediction) != len(target):
        raise DataError(
            "predictions and targets differ in number",
            expected=f"{len(prediction)} targets",
            got=str(len(target)),
        )
    rows = prediction.reshape(len(prediction), -1)
    is_class = not target.is_floating_point() and prediction.ndim == 2 and target.ndim == 1
    if is_class:
        num_classes = rows.shape[1]
        if len(target) and not 0 <= int(target.min()) <= int(target.max()) < num_classes:
            raise DataError(
                "a target names a class that the predictions do not have",
                expected=f"0 to {num_classes - 1}",
                got=f"{int(target.min())} to {int(target.max())}",
            )
        others = one_hot(target, num_classes).to(rows.dtype)
    else:
        others = target.reshape(len(target), -1).to(rows.dtype)
    if rows.shape != others.shape:
        return torch.cat([rows, others], dim=1)
    return torch.cat([rows, others, (rows - others).square(), rows * others], dim=1)


class RowPairs(nn.Module):
    """Features of rows from two fully connected layers, beside the rows themselves.

    Args:
        channels: numbers in a row, see `row_channels`.
    """

    def __init__(self, channels: int, build: Build) -> None:
        super().__init__()
        width = 4 * build.channels
        self.layers = dense((channels, width, width), build)
        self.num_features = channels + width

    def forward(self, channels: Float[Tensor, "n c"]) -> Float[Tensor, "n d"]:
        """Features [n, d]."""
        return torch.cat([channels, self.layers(channels)], dim=1)
