"""The backbones of YOLOv4: CSPDarknet53 and the small one of YOLOv4-tiny.

Source: Wang et al., 2019, CSPNet: A New Backbone that can Enhance Learning Capability of CNN,
    arXiv 1911.11929v1; the layers are those of yolov4.cfg and yolov4-tiny.cfg of the authors of
    Bochkovskiy, Wang, Liao, 2020, YOLOv4, arXiv 2004.10934v1.
Follows: CSPNet section 3.1 (cross stage partial network) -> `CspStage`; yolov4.cfg layers 0 to 104
    -> `CspDarknet53`; yolov4-tiny.cfg layers 0 to 26 -> `TinyBackbone` and `TinyCspBlock`.
Symbols: width = factor on every channel count; depth = factor on the residual blocks of a stage;
    act = activation of every convolution.
Differs: width and depth multiples, which the files lack; all channel counts are the stem's
    times a power of two.
Checked by: `test_parameter_counts`, `test_backbone_taps_have_strides_8_16_32`,
    `test_residual_blocks_follow_depth`
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Activation", "ConvUnit", "CspDarknet53", "TinyBackbone", "stem_channels"]

Activation = Literal["mish", "leaky"]

STAGE_BLOCKS = (1, 2, 8, 8, 4)


def stem_channels(width: float) -> int:
    """Channels of the first convolution, 32 times ``width``, to the nearest multiple of 4.

    Every other count is this one times a power of two, so ``width`` acts in steps of 1/8.

    >>> stem_channels(1.0), stem_channels(0.3)
    (32, 8)
    """
    return max(4, 4 * round(32 * width / 4))


class ConvUnit(nn.Sequential):
    """Convolution without bias, batch normalisation, activation."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        act: Activation = "leaky",
    ) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.Mish(inplace=True) if act == "mish" else nn.LeakyReLU(0.1, inplace=True),
        )


class ResidualBlock(nn.Module):
    """1x1 to ``hidden`` channels, 3x3 back, and the input added."""

    def __init__(self, channels: int, hidden: int, act: Activation) -> None:
        super().__init__()
        self.squeeze = ConvUnit(channels, hidden, 1, act=act)
        self.expand = ConvUnit(hidden, channels, 3, act=act)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Same shape out as in."""
        return features + self.expand(self.squeeze(features))


class CspStage(nn.Module):
    """Halve the grid, then run residual blocks on one of two branches and join both."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        branch: int,
        hidden: int,
        blocks: int,
        act: Activation,
    ) -> None:
        super().__init__()
        self.downsample = ConvUnit(channels_in, channels, 3, stride=2, act=act)
        self.bypass = ConvUnit(channels, branch, 1, act=act)
        self.enter = ConvUnit(channels, branch, 1, act=act)
        self.blocks = nn.Sequential(*(ResidualBlock(branch, hidden, act) for _ in range(blocks)))
        self.leave = ConvUnit(branch, branch, 1, act=act)
        self.merge = ConvUnit(2 * branch, channels, 1, act=act)

    def forward(self, features: Float[Tensor, "b c_in h_in w_in"]) -> Float[Tensor, "b c h w"]:
        """Half the height and width, ``channels`` channels."""
        features = self.downsample(features)
        main = self.leave(self.blocks(self.enter(features)))
        return self.merge(torch.cat([main, self.bypass(features)], dim=1))


class CspDarknet53(nn.Module):
    """Features at strides 8, 16 and 32, of 256, 512 and 1024 channels times ``width``."""

    strides = (8, 16, 32)

    def __init__(self, *, width: float = 1.0, depth: float = 1.0, act: Activation = "mish") -> None:
        super().__init__()
        channels = stem_channels(width)
        self.stem = ConvUnit(3, channels, 3, act=act)
        self.stages = nn.ModuleList()
        for number, blocks in enumerate(STAGE_BLOCKS):
            half, channels = channels, 2 * channels
            # The first stage keeps all channels in both branches and narrows inside its block.
            branch = channels if number == 0 else half
            repeats = max(1, round(blocks * depth))
            self.stages.append(CspStage(half, channels, branch, half, repeats, act))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The last three stages' features, finest first."""
        features, taps = self.stem(images), []
        for stage in self.stages:
            features = stage(features)
            taps.append(features)
        return taps[-3:]


class TinyCspBlock(nn.Module):
    """Two convolutions over half of the channels; returns (tap, output of twice the channels)."""

    def __init__(self, channels: int, act: Activation) -> None:
        super().__init__()
        half = channels // 2
        self.enter = ConvUnit(channels, channels, 3, act=act)
        self.first = ConvUnit(half, half, 3, act=act)
        self.second = ConvUnit(half, half, 3, act=act)
        self.merge = ConvUnit(channels, channels, 1, act=act)
        self.pool = nn.MaxPool2d(2)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The merged features before pooling, and what the next block takes."""
        entered = self.enter(features)
        first = self.first(entered.chunk(2, dim=1)[1])  # the file's groups=2, group_id=1
        merged = self.merge(torch.cat([self.second(first), first], dim=1))
        return merged, self.pool(torch.cat([entered, merged], dim=1))


class TinyBackbone(nn.Module):
    """Features at strides 16 and 32, of 256 and 512 channels times ``width``."""

    strides = (16, 32)

    def __init__(self, *, width: float = 1.0, act: Activation = "leaky") -> None:
        super().__init__()
        stem = stem_channels(width)
        channels = 2 * stem
        self.stem = nn.Sequential(
            ConvUnit(3, stem, 3, stride=2, act=act), ConvUnit(stem, channels, 3, stride=2, act=act)
        )
        self.blocks = nn.ModuleList(TinyCspBlock(channels * factor, act) for factor in (1, 2, 4))
        self.last = ConvUnit(8 * channels, 8 * channels, 3, act=act)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The third block's merged features and the last convolution's, finest first."""
        features = self.stem(images)
        for block in self.blocks:
            merged, features = block(features)
        return [merged, self.last(features)]
