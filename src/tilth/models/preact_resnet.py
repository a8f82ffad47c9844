"""A residual network that normalises before it convolves: PreAct ResNet-18 for small pictures.

Source: He, Zhang, Ren, Sun, 2016, Identity Mappings in Deep Residual Networks,
    arXiv 1603.05027v3.
Follows: Eq. 1 with Figure 4(e), "full pre-activation" -> `PreactBlock`; Table 1's stages for small
    pictures, and the appendix's first and last activations -> `PreactResNet`.
Symbols: width = channels of the first stage, doubled in each later one; blocks = residual units of
    each stage; a unit's F = what it adds to its input.
Differs: the stem keeps the size and the stages are those of ResNet-18, as everyone has it who
    reports CIFAR-10 under wrong labels; where a unit changes the size or the number of channels,
    its shortcut is a 1x1 convolution of the activated input. The often quoted 11,171,146 weights
    are a variant without the last normalisation, which the paper has.
Checked by: `test_eighteen_layers_by_hand`, `test_a_unit_adds_to_its_input`,
    `test_stages_halve_and_double`
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["PreactResNet"]


class PreactBlock(nn.Module):
    """y = x + F(x), where F is twice normalisation, relu, convolution: nothing follows the sum."""

    def __init__(self, num_inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(num_inputs)
        self.first = convolution(num_inputs, channels, stride=stride)
        self.second_norm = nn.BatchNorm2d(channels)
        self.second = convolution(channels, channels)
        self.shortcut: nn.Module | None = None
        if stride != 1 or num_inputs != channels:
            self.shortcut = convolution(num_inputs, channels, kernel=1)
        self.stride = stride

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c h w"]:
        """``channels`` channels, height and width divided by the stride."""
        active = torch.relu(self.first_norm(features))
        if self.shortcut is not None:
            # Every s-th cell taken before the 1x1 convolution, for the reason in `SmallCnn`'s.
            features = self.shortcut(active[:, :, :: self.stride, :: self.stride])
        return features + self.second(torch.relu(self.second_norm(self.first(active))))  # Eq. 1


class PreactResNet(nn.Module):
    """Scores of classes from pictures of about 32 pixels.

    Args:
        width: channels of the first stage; 64 is the network of the literature.
        blocks: residual units of each stage; every stage but the first halves the size. The
            default has eighteen layers, ``(3, 4, 6, 3)`` thirty-four.

    >>> PreactResNet(10, width=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, num_classes: int, *, width: int = 64, blocks: Sequence[int] = (2, 2, 2, 2)
    ) -> None:
        super().__init__()
        self.stem = convolution(3, width)
        stages = []
        channels = width
        for stage, repeats in enumerate(blocks):
            units = []
            for number in range(repeats):
                before, channels = channels, width * 2**stage
                units.append(PreactBlock(before, channels, 2 if stage and not number else 1))
            stages.append(nn.Sequential(*units))
        self.stages = nn.Sequential(*stages)
        self.last_norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Logits of pictures with values in 0..1."""
        features = self.stages(self.stem(2 * images - 1))
        return self.head(torch.relu(self.last_norm(features)).mean(dim=(2, 3)))


def convolution(num_inputs: int, channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size but for the stride; a normalisation brings the shift."""
    made = nn.Conv2d(num_inputs, channels, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_in", nonlinearity="relu")
    return made
