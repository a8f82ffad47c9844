"""Images as torch has them, given to networks that have the channels last."""

from typing import Any

from torch import Tensor, nn

__all__ = ["ChannelsFirst"]


class ChannelsFirst(nn.Module):
    """A network whose pictures are [b, h, w, c], called with pictures [b, c, h, w].

    Inputs of fewer than three axes, which are no pictures or sequences, stay as they are; so do the
    outputs.

    Attributes:
        network: the network itself.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        super().train(False)

    def train(self, mode: bool = True) -> "ChannelsFirst":
        """The network stays in evaluation."""
        return super().train(False)

    def forward(self, *inputs: Tensor) -> Any:
        """The outputs of the network."""
        return self.network(*(x.movedim(1, -1) if x.ndim > 2 else x for x in inputs))
