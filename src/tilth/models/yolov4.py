"""YOLOv4 and YOLOv4-tiny: one-stage detectors with anchors on grids of several strides.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection,
    arXiv 2004.10934v1; the layers are those of the authors' files yolov4.cfg and yolov4-tiny.cfg.
Follows: section 3.4 (architecture) -> `YoloV4`; SPP -> `SpatialPyramidPooling`; PAN with
    concatenation -> `PathAggregationNeck`; yolov4-tiny.cfg layers 27 to 37 -> `TinyNeck`.
Symbols: strides = pixels per cell of each head's grid; anchors = width and height in pixels of the
    network's input; grid_scales = scale_x_y of the files.
Differs: width and depth multiples, which the files lack; heads start from a low prior of finding
    an object, so that the first steps are not spent on unlearning; DropBlock, CmBN and the paper's
    other options that the published files leave off are left off here too.
Checked by: `test_parameter_counts`, `test_float_count_equals_the_published_file`,
    `test_convolution_counts`, `test_pyramid_order_is_13_9_5_input`, `test_tiny_heads_and_masks`,
    `test_overfits_eight_pictures`
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from tilth.errors import SettingsError
from tilth.models.cspdarknet import (
    Activation,
    ConvUnit,
    CspDarknet53,
    TinyBackbone,
    stem_channels,
)
from tilth.models.detection_network import start_head
from tilth.ops.anchor_grid import Anchors, decode_map

__all__ = ["ANCHORS", "YoloV4"]


# In the order of the heads. The tiny file's smallest anchor (10, 14) belongs to no head and
# (81, 82) to both: its masks are 3,4,5 and 1,2,3.
ANCHORS: dict[str, Sequence[Anchors]] = {
    "yolov4": (
        ((12, 16), (19, 36), (40, 28)),
        ((36, 75), (76, 55), (72, 146)),
        ((142, 110), (192, 243), (459, 401)),
    ),
    "yolov4-tiny": (((81, 82), (135, 169), (344, 319)), ((23, 27), (37, 58), (81, 82))),
}
STRIDES = {"yolov4": (8, 16, 32), "yolov4-tiny": (32, 16)}
GRID_SCALES = {"yolov4": (1.2, 1.1, 1.05), "yolov4-tiny": (1.05, 1.05)}


class SpatialPyramidPooling(nn.Module):
    """Maxima over windows of 13, 9 and 5 cells beside the input: four times the channels."""

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c4 h w"]:
        """Same grid; channels in the order 13, 9, 5, input."""
        # A maximum of maxima: 5 after 5 sees 9 cells, 5 after that 13, at a fraction of the work.
        five = max_pool2d(features, 5, stride=1, padding=2)
        nine = max_pool2d(five, 5, stride=1, padding=2)
        thirteen = max_pool2d(nine, 5, stride=1, padding=2)
        return torch.cat([thirteen, nine, five, features], dim=1)


class PathAggregationNeck(nn.Module):
    """SPP on the coarsest features, then coarse to fine and back, joining by concatenation."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.before_pyramid = _alternating(2 * coarse, coarse, 3)
        self.pyramid = SpatialPyramidPooling()
        self.after_pyramid = _alternating(4 * coarse, coarse, 3)
        self.coarse_to_middle = ConvUnit(coarse, middle, 1)
        self.middle_lateral = ConvUnit(2 * middle, middle, 1)
        self.middle_up = _alternating(2 * middle, middle, 5)
        self.middle_to_fine = ConvUnit(middle, fine, 1)
        self.fine_lateral = ConvUnit(2 * fine, fine, 1)
        self.fine_out = _alternating(2 * fine, fine, 5)
        self.fine_to_middle = ConvUnit(fine, middle, 3, stride=2)
        self.middle_out = _alternating(2 * middle, middle, 5)
        self.middle_to_coarse = ConvUnit(middle, coarse, 3, stride=2)
        self.coarse_out = _alternating(2 * coarse, coarse, 5)

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        """Features of three strides, finest first, in and out."""
        fine, middle, coarse = taps
        coarse = self.after_pyramid(self.pyramid(self.before_pyramid(coarse)))
        from_coarse = _twice_as_fine(self.coarse_to_middle(coarse))
        middle = self.middle_up(torch.cat([self.middle_lateral(middle), from_coarse], dim=1))
        from_middle = _twice_as_fine(self.middle_to_fine(middle))
        fine = self.fine_out(torch.cat([self.fine_lateral(fine), from_middle], dim=1))
        middle = self.middle_out(torch.cat([self.fine_to_middle(fine), middle], dim=1))
        coarse = self.coarse_out(torch.cat([self.middle_to_coarse(middle), coarse], dim=1))
        return [fine, middle, coarse]


class TinyNeck(nn.Module):
    """The coarse features, narrowed; and those of half the stride beside an enlarged copy."""

    def __init__(self, coarse: int, lateral: int) -> None:
        super().__init__()
        self.narrow = ConvUnit(2 * coarse, coarse, 1)
        self.lateral = ConvUnit(coarse, lateral, 1)

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        """Features of strides 32 and 16, in the order of the tiny file's heads."""
        fine, coarse = taps
        coarse = self.narrow(coarse)
        return [coarse, torch.cat([_twice_as_fine(self.lateral(coarse)), fine], dim=1)]


class YoloV4(nn.Module):
    """A detector of ``num_classes`` classes.

    Args:
        num_classes: 1 or more.
        variant: ``"yolov4"`` (64 M parameters at 80 classes) or ``"yolov4-tiny"`` (6 M).
        width: factor on all channel counts, in steps of 1/8.
        depth: factor on the residual blocks of a stage; the tiny network has none to repeat.
        anchors: for each head, (width, height) in pixels of the network's input; by default those
            of the published file, which were fitted to COCO at 608 (tiny: 416) pixels.
        act: activation of the backbone; by default Mish, and leaky ReLU in the tiny network. The
            neck is leaky in both.

    Attributes:
        strides, anchors, grid_scales, is_activated: one entry a head; a detection loss takes them
            from here.

    Raises:
        SettingsError: a size, variant or list of anchors that makes no network.

    >>> model = YoloV4(3, variant="yolov4-tiny", width=0.25)
    >>> [tuple(raw.shape) for raw in model(torch.zeros(1, 3, 64, 64))]
    [(1, 24, 2, 2), (1, 24, 4, 4)]
    """

    suppresses = True

    def __init__(
        self,
        num_classes: int,
        *,
        variant: str = "yolov4",
        width: float = 1.0,
        depth: float = 1.0,
        anchors: Sequence[Anchors] | None = None,
        act: Activation | None = None,
    ) -> None:
        super().__init__()
        _refuse_unusable(num_classes, variant, width, depth, anchors)
        self.num_classes = num_classes
        self.variant = variant
        self.strides = STRIDES[variant]
        self.grid_scales = GRID_SCALES[variant]
        self.is_activated = (False,) * len(self.strides)
        self.anchors = ANCHORS[variant] if anchors is None else anchors
        fine, middle, coarse, large = (stem_channels(width) * factor for factor in (4, 8, 16, 32))
        self.backbone: nn.Module
        self.neck: nn.Module
        if variant == "yolov4":
            self.backbone = CspDarknet53(width=width, depth=depth, act=act or "mish")
            self.neck = PathAggregationNeck((fine, middle, coarse))
            head_channels = [(fine, middle), (middle, coarse), (coarse, large)]
        else:
            self.backbone = TinyBackbone(width=width, act=act or "leaky")
            self.neck = TinyNeck(middle, fine)
            head_channels = [(middle, coarse), (fine + middle, middle)]
        self.heads = nn.ModuleList(
            _head(channels_in, hidden, len(head_anchors), num_classes)
            for (channels_in, hidden), head_anchors in zip(head_channels, self.anchors, strict=True)
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Raw maps [b, a * (5 + c), h / stride, w / stride], one a head.

        Args:
            images: RGB in 0..1; height and width are multiples of 32.
        """
        height, width = images.shape[-2:]
        if height % 32 or width % 32:
            raise SettingsError(
                "the picture does not fit the detector's grids",
                expected="height and width that are multiples of 32",
                got=f"{height} x {width}",
                fix="letterbox the pictures to such a size",
            )
        features = self.neck(self.backbone(images))
        return [head(part) for head, part in zip(self.heads, features, strict=True)]

    def head_convolutions(self) -> list[nn.Conv2d]:
        """The convolution that gives each head's map."""
        return [head[-1] for head in self.heads]  # type: ignore[index]

    def decode(
        self, raw_maps: list[Tensor]
    ) -> tuple[Float[Tensor, "b n 4"], Float[Tensor, "b n c"]]:
        """Boxes in pixels of the network's input, and scores = objectness times class, float32.

        Rows run over heads, then anchors, then cells line by line.
        """
        boxes, scores = [], []
        per_head = zip(raw_maps, self.anchors, self.strides, self.grid_scales, strict=True)
        for raw_map, anchors, stride, grid_scale in per_head:
            decoded = decode_map(raw_map, anchors, stride=stride, grid_scale=grid_scale)
            objectness = decoded.objectness_logits[..., None].sigmoid()
            boxes.append(decoded.boxes_xyxy.flatten(1, 3))
            scores.append((objectness * decoded.class_logits.sigmoid()).flatten(1, 3))
        return torch.cat(boxes, dim=1), torch.cat(scores, dim=1)


def _alternating(channels_in: int, channels: int, count: int) -> nn.Sequential:
    """1x1 to ``channels``, 3x3 to twice as many, 1x1 back, and so on."""
    units, current = [], channels_in
    for number in range(count):
        kernel, following = (1, channels) if number % 2 == 0 else (3, 2 * channels)
        units.append(ConvUnit(current, following, kernel))
        current = following
    return nn.Sequential(*units)


def _twice_as_fine(features: Tensor) -> Tensor:
    return interpolate(features, scale_factor=2, mode="nearest")


def _head(channels_in: int, hidden: int, num_anchors: int, num_classes: int) -> nn.Sequential:
    """3x3 convolution, then one that gives x, y, w, h, objectness and classes for each anchor."""
    last = nn.Conv2d(hidden, num_anchors * (5 + num_classes), 1)
    start_head(last, num_anchors=num_anchors, num_classes=num_classes)
    return nn.Sequential(ConvUnit(channels_in, hidden, 3), last)


def _refuse_unusable(
    num_classes: int, variant: str, width: float, depth: float, anchors: Sequence[Anchors] | None
) -> None:
    if variant not in ANCHORS:
        raise SettingsError(
            "unknown variant of YOLOv4", expected=" or ".join(ANCHORS), got=repr(variant)
        )
    if num_classes < 1:
        raise SettingsError("a detector needs a class", expected="1 or more", got=str(num_classes))
    if not (width > 0 and depth > 0):
        raise SettingsError(
            "width and depth scale the network", expected="above 0", got=f"{width} and {depth}"
        )
    if variant == "yolov4-tiny" and depth != 1:
        raise SettingsError(
            "YOLOv4-tiny has no repeated blocks that depth could scale",
            expected="depth 1",
            got=str(depth),
            fix="set width alone",
        )
    heads = len(STRIDES[variant])
    if anchors is not None and (len(anchors) != heads or not all(anchors)):
        raise SettingsError(
            "the anchors do not fit the heads",
            expected=f"{heads} lists of (width, height), for strides {STRIDES[variant]}",
            got=f"{len(anchors)} lists of {[len(head) for head in anchors]} anchors",
        )
