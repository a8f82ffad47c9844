"""A residual network for pictures of 32 to 224 pixels, from a few thousand weights to ResNet-18.

Source: He, Zhang, Ren, Sun, 2016, Deep Residual Learning for Image Recognition, arXiv 1512.03385v1.
Follows: Eq. 1 and 2 -> `ResidualBlock`; Table 1, and section 4.2 for small pictures -> `SmallCnn`.
Symbols: width = channels of the first stage, doubled in each later one; blocks = pairs of
    convolutions a stage; stem = what comes before the stages.
Differs: the last normalisation of a block starts at zero, so that the block starts as the identity
    (Goyal et al., 2017, arXiv 1706.02677v2, section 5.1).
Checked by: `test_full_size_is_resnet_18`, `test_a_new_block_is_its_shortcut`
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["SmallCnn"]


class ResidualBlock(nn.Module):
    """y = relu(F(x) + x): two convolutions, and a way around them."""

    def __init__(self, num_inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(num_inputs, channels, stride=stride)
        self.second = convolution(channels, channels)
        nn.init.zeros_(cast(nn.BatchNorm2d, self.second[1]).weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or num_inputs != channels:
            self.shortcut = convolution(num_inputs, channels, kernel=1)
        self.stride = stride

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c h w"]:
        """``channels`` channels, height and width divided by the stride."""
        changed = self.second(torch.relu(self.first(features)))
        # A 1x1 convolution of stride s looks at every s-th cell. Taken first, because oneDNN's own
        # strided one (torch 2.13, channels last, few channels) writes beyond its memory.
        seen = features[:, :, :: self.stride, :: self.stride]
        return torch.relu(changed + self.shortcut(seen))  # Eq. 1, 2


class SmallCnn(nn.Module):
    """Scores of classes from pictures.

    Args:
        width: channels of the first stage; 64 is ResNet-18's.
        blocks: residual blocks of each stage; every stage but the first halves the size.
        stem: ``"small"`` keeps the size, for pictures up to some 96 pixels; ``"large"`` begins with
            a quarter of it, as for ImageNet.

    >>> SmallCnn(10, width=16)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        width: int = 32,
        blocks: Sequence[int] = (1, 1, 1, 1),
        stem: Literal["small", "large"] = "small",
    ) -> None:
        super().__init__()
        if stem == "large":
            first = convolution(3, width, kernel=7, stride=2)
            shrink: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            first, shrink = convolution(3, width), nn.Identity()
        self.stem = nn.Sequential(first, nn.ReLU(inplace=True), shrink)
        channels = [width * 2**stage for stage in range(len(blocks))]
        stages: list[nn.Module] = []
        for stage, repeats in enumerate(blocks):
            for number in range(repeats):
                before = channels[stage] if number else channels[max(stage - 1, 0)]
                stride = 2 if stage and not number else 1
                stages.append(ResidualBlock(before, channels[stage], stride))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Logits of pictures with values in 0..1."""
        features = self.stages(self.stem(2 * images - 1))
        return self.head(features.mean(dim=(2, 3)))


def convolution(
    num_inputs: int, channels: int, *, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size but for the stride, and its normalisation."""
    conv = nn.Conv2d(num_inputs, channels, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels))
