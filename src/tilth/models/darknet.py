"""Darknet's family of detectors, v2 to v4, built from its own network files.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection,
    arXiv 2004.10934v1; Wang, Bochkovskiy, Liao, 2021, Scaled-YOLOv4, arXiv 2011.08036v2; the layers
    as the authors' program computes them, `src/*_layer.c` of AlexeyAB/darknet.
Follows: convolutional_layer.c -> `Convolution`; maxpool_layer.c -> `MaxPool`; route_layer.c ->
    `Route`; shortcut_layer.c -> `Shortcut`; reorg_layer.c -> `Reorg`; the whole -> `Darknet`.
Symbols: layers are counted from 0 as in Darknet's print-out; scale_x_y = grid_scales; new_coords =
    Scaled-YOLOv4's boxes, whose activation is in the last convolution.
Differs: heads give the raw maps; boxes are decoded in `Darknet.decode`, so that a loss can be put
    between; batch normalisation adds 1e-5 to the variance (Darknet) by default, 1e-6 (OpenCV's
    reader) by choice.
Checked by: `test_random_networks_equal_opencv`, `test_real_weights_equal_opencv`,
    `test_parameter_counts_of_the_published_files`, `test_reorg_equals_darknets_loop`
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tilth.errors import LabelError, SettingsError
from tilth.models.darknet_cfg import CfgSection, DarknetCfg, head_channels, parse_cfg
from tilth.ops.anchor_grid import decode_map

__all__ = ["Darknet", "read_cfg"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "linear": nn.Identity,
    "leaky": nn.LeakyReLU,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "logistic": nn.Sigmoid,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "selu": nn.SELU,
}
LEAKY_SLOPE = 0.1


def read_cfg(path: Path) -> DarknetCfg:
    """A network file from disk.

    Raises:
        LabelError: it cannot be read, or a line of it.
        SettingsError: an unknown section.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise LabelError(
            "the network file cannot be read", where=str(path), got=error.strerror
        ) from error
    except UnicodeDecodeError as error:
        raise LabelError("the network file is not text", where=str(path), got=str(error)) from error
    return parse_cfg(text, where=str(path))


class Convolution(nn.Module):
    """Convolution, batch normalisation or bias, activation."""

    def __init__(self, section: CfgSection, channels_in: int, *, batch_norm_eps: float) -> None:
        super().__init__()
        self.channels = section.integer("filters", 1)
        size = section.integer("size", 1)
        stride = section.integer("stride", 1)
        groups, dilation = section.integer("groups", 1), section.integer("dilation", 1)
        padding = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
        if groups < 1 or channels_in % groups or self.channels % groups:
            raise section.unusable("groups", f"a divisor of {channels_in} and {self.channels}")
        is_normed = bool(section.integer("batch_normalize", 0))
        self.conv = nn.Conv2d(
            channels_in,
            self.channels,
            size,
            (section.integer("stride_y", stride), section.integer("stride_x", stride)),
            padding * dilation,
            dilation,
            groups,
            bias=not is_normed,
        )
        self.norm = nn.BatchNorm2d(self.channels, eps=batch_norm_eps) if is_normed else None
        self.activation = _activation(section)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """As the section says."""
        features = self.conv(features)
        if self.norm is not None:
            features = self.norm(features)
        return self.activation(features)


class MaxPool(nn.Module):
    """A maximum over windows, padded by ``size - 1`` in all, the smaller part at the top left."""

    def __init__(self, section: CfgSection) -> None:
        super().__init__()
        self.stride = section.integer("stride", 1)
        self.size = section.integer("size", self.stride)
        self.padding = section.integer("padding", self.size - 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Windows that reach outside see nothing there."""
        before = self.padding // 2
        after = self.padding - before
        # Where torch pads by itself (with ceil_mode it adds the one cell after the last) there is
        # no copy of the features, and no huge number in an exported graph.
        if after <= self.size // 2 and (after == before or self.stride == 2):
            return functional.max_pool2d(
                features, self.size, self.stride, before, ceil_mode=after != before
            )
        padded = functional.pad(
            features, (before, after, before, after), value=torch.finfo(features.dtype).min
        )
        return functional.max_pool2d(padded, self.size, self.stride)


class Upsample(nn.Module):
    """Every cell repeated ``stride`` times along both axes."""

    def __init__(self, section: CfgSection) -> None:
        super().__init__()
        self.stride = section.integer("stride", 2)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Nearest neighbour."""
        return functional.interpolate(features, scale_factor=self.stride, mode="nearest")


class Reorg(nn.Module):
    """YOLOv2's passthrough: cells of a ``stride`` x ``stride`` square become channels.

    Darknet reads its input as if it had 1 / stride² of the channels and a grid stride times as
    fine, and writes it back under the input's own shape; weights were trained with exactly that.
    """

    def __init__(self, section: CfgSection) -> None:
        super().__init__()
        self.stride = section.integer("stride", 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Channels times stride², grid divided by stride."""
        batch, channels, height, width = features.shape
        s = self.stride
        finer = features.reshape(batch, channels // s**2, height, s, width, s)
        # [b, k, j, dy, i, dx] -> channel (dy * s + dx) * (c / s²) + k, row j, column i
        blocks = finer.permute(0, 3, 5, 1, 2, 4)
        return blocks.reshape(batch, channels * s**2, height // s, width // s)


class Darknet(nn.Module):
    """A network built from a parsed network file.

    Args:
        cfg: as `read_cfg` or `tilth.models.darknet_specs` give it.
        batch_norm_eps: added to the variance: 1e-5 in Darknet, 1e-6 in OpenCV's reader.

    Attributes:
        strides, anchors, grid_scales, is_activated: one entry a head, in the order of the heads in
            the file; anchors are pixels of the network's input.
        num_classes: of the first head; all heads must agree.
        size: height and width of the input that the file names.

    Raises:
        SettingsError: a layer that cannot be built, with its line in the file.
    """

    suppresses = True

    def __init__(self, cfg: DarknetCfg, *, batch_norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.cfg = cfg
        self.size = (cfg.net.integer("height", 416), cfg.net.integer("width", 416))
        builder = _Builder(cfg, batch_norm_eps)
        self.layers = nn.ModuleList(builder.build())
        self.sources = builder.sources
        self.strides = tuple(builder.scales[index] for index in cfg.heads)
        heads = [cfg.layers[index] for index in cfg.heads]
        self.num_classes = _same_classes(heads)
        self.anchors = tuple(
            _anchors(head, stride) for head, stride in zip(heads, self.strides, strict=True)
        )
        self.grid_scales = tuple(head.number("scale_x_y", 1.0) for head in heads)
        self.is_activated = tuple(bool(head.integer("new_coords", 0)) for head in heads)
        # The output of a layer is kept only as long as a later one asks for it.
        self._last_use = _last_uses(self.sources)

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Raw maps [b, a * (5 + classes), h / stride, w / stride], one a head.

        Args:
            images: RGB in 0..1; height and width are multiples of the coarsest stride.
        """
        coarsest = max(self.strides, default=1)
        height, width = images.shape[-2:]
        if height % coarsest or width % coarsest:
            raise SettingsError(
                "the picture does not fit the detector's grids",
                expected=f"height and width that are multiples of {coarsest}",
                got=f"{height} x {width}",
                fix="letterbox the pictures to such a size",
            )
        outputs: dict[int, Tensor] = {-1: images}
        heads = []
        for index, layer in enumerate(self.layers):
            outputs[index] = self._run(index, layer, outputs)
            if index in self.cfg.heads:
                heads.append(outputs[index])
            for source in self._last_use.get(index, ()):
                outputs.pop(source, None)
        return heads or [outputs[len(self.layers) - 1]]

    def _run(self, index: int, layer: nn.Module, outputs: dict[int, Tensor]) -> Tensor:
        inputs = [outputs[source] for source in self.sources[index]]
        return layer(*inputs)

    def decode(
        self, raw_maps: list[Tensor]
    ) -> tuple[Float[Tensor, "b n 4"], Float[Tensor, "b n c"]]:
        """Boxes in pixels of the network's input, and scores = objectness times class, float32.

        Rows run over heads, then anchors, then cells line by line.
        """
        boxes, scores = [], []
        for head, raw_map in enumerate(raw_maps):
            decoded = decode_map(
                raw_map,
                self.anchors[head],
                stride=self.strides[head],
                grid_scale=self.grid_scales[head],
                is_activated=self.is_activated[head],
            )
            objectness = decoded.objectness_logits[..., None].sigmoid()
            class_scores = self._class_scores(head, decoded.class_logits)
            boxes.append(decoded.boxes_xyxy.flatten(1, 3))
            scores.append((objectness * class_scores).flatten(1, 3))
        return torch.cat(boxes, dim=1), torch.cat(scores, dim=1)

    def _class_scores(self, head: int, logits: Tensor) -> Tensor:
        # YOLOv2's [region] shares one probability among the classes.
        is_softmax = self.cfg.layers[self.cfg.heads[head]].integer("softmax", 0)
        return logits.softmax(dim=-1) if is_softmax else logits.sigmoid()

    def head_convolutions(self) -> list[nn.Conv2d]:
        """The convolution that gives each head's map.

        Raises:
            SettingsError: a head that reads another kind of layer.
        """
        found = []
        for index in self.cfg.heads:
            before = self.layers[self.sources[index][0]]
            if not isinstance(before, Convolution):
                raise self.cfg.layers[index].unusable("classes", "a head behind a convolution")
            found.append(before.conv)
        return found

    def weighted_layers(self) -> Iterator[tuple[int, Convolution]]:
        """Layers with weights, by their number, in the order of a weights file."""
        for index, layer in enumerate(self.layers):
            if isinstance(layer, Convolution):
                yield index, layer


class Route(nn.Module):
    """Route: channels of several layers one after the other, or a group of them."""

    def __init__(self, groups: int, group: int) -> None:
        super().__init__()
        self.groups, self.group = groups, group

    def forward(self, *features: Tensor) -> Tensor:
        parts = [part.chunk(self.groups, dim=1)[self.group] for part in features]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class Shortcut(nn.Module):
    """Shortcut: the sum of layers; where one has more channels, the others end earlier."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        total = first
        for other in others:
            channels = min(first.shape[1], other.shape[1])
            if channels == first.shape[1]:
                total = total + other[:, :channels]
            else:
                total = torch.cat([total[:, :channels] + other, total[:, channels:]], dim=1)
        return self.activation(total)


class _Multiply(nn.Module):
    """Squeeze and excitation, spatial attention: one layer's values as factors of another's."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, factors: Tensor, features: Tensor) -> Tensor:
        return self.activation(features * factors)


class _Mean(nn.Module):
    """The mean over the grid, as one cell."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3), keepdim=True)


class _Builder:
    """Goes through the sections with the channels, and the scale, of every layer so far."""

    def __init__(self, cfg: DarknetCfg, batch_norm_eps: float) -> None:
        self.cfg = cfg
        self.eps = batch_norm_eps
        self.channels: dict[int, int] = {-1: cfg.net.integer("channels", 3)}
        self.scales: dict[int, int] = {-1: 1}  # pixels of the input a cell
        self.sources: list[tuple[int, ...]] = []

    def build(self) -> list[nn.Module]:
        """A module for every section."""
        return [self._layer(index, section) for index, section in enumerate(self.cfg.layers)]

    def _layer(self, index: int, section: CfgSection) -> nn.Module:
        sources = self._sources(index, section)
        self.sources.append(sources)
        channels, scale = self.channels[sources[0]], self.scales[sources[0]]
        module: nn.Module
        match section.kind:
            case "convolutional":
                module = Convolution(section, channels, batch_norm_eps=self.eps)
                channels, scale = module.channels, scale * module.conv.stride[0]
            case "maxpool":
                module = MaxPool(section)
                scale *= module.stride
            case "avgpool":
                module = _Mean()
            case "upsample":
                module = Upsample(section)
                scale //= module.stride
            case "reorg":
                module = Reorg(section)
                channels, scale = channels * module.stride**2, scale * module.stride
            case "route":
                module, channels = self._route(section, sources)
            case "shortcut":
                module = self._shortcut(section)
            case "scale_channels" | "sam":
                module = _Multiply(_activation(section))
                channels, scale = self.channels[sources[1]], self.scales[sources[1]]
            case _:  # dropout, and heads, which give the raw map
                module = nn.Dropout(section.number("probability", 0.5))
                if section.kind != "dropout":
                    module = nn.Identity()
                    self._check_head(section, channels)
        self.channels[index], self.scales[index] = channels, scale
        return module

    def _sources(self, index: int, section: CfgSection) -> tuple[int, ...]:
        """The layers that a section reads, by their numbers; -1 is the picture."""
        option = "layers" if section.kind == "route" else "from"
        numbers = section.integers(option)
        absolute = [index + number if number < 0 else number for number in numbers]
        if any(not 0 <= number < index for number in absolute):
            raise section.unusable(option, f"layers before this one, 0 to {index - 1}")
        if section.kind == "route":
            if not absolute:
                raise section.unusable("layers", "the numbers of layers")
            return tuple(absolute)
        if section.kind in ("shortcut", "scale_channels", "sam"):
            return (index - 1, *absolute)
        return (index - 1,)

    def _route(self, section: CfgSection, sources: tuple[int, ...]) -> tuple[nn.Module, int]:
        groups, group = section.integer("groups", 1), section.integer("group_id", 0)
        channels = [self.channels[source] for source in sources]
        if not 0 <= group < groups or any(count % groups for count in channels):
            raise section.unusable("groups", f"a divisor of {channels} channels, above group_id")
        return Route(groups, group), sum(channels) // groups

    def _shortcut(self, section: CfgSection) -> nn.Module:
        if section.options.get("weights_type", "none") != "none":
            raise section.unusable("weights_type", "none: weighted shortcuts are not built")
        return Shortcut(_activation(section))

    def _check_head(self, section: CfgSection, channels: int) -> None:
        if section.kind not in ("yolo", "region"):
            return
        wanted = head_channels(section, section.integer("classes", 20))
        if channels != wanted:
            raise SettingsError(
                "a head does not fit the convolution before it",
                where=f"{section.where}:{section.line}",
                expected=f"filters={wanted}: anchors times 5 + classes",
                got=f"filters={channels}",
                fix="make filters and classes agree",
            )


def _activation(section: CfgSection) -> nn.Module:
    default = "logistic" if section.kind == "convolutional" else "linear"  # as Darknet has it
    name = section.options.get("activation", default)
    if name not in ACTIVATIONS:
        raise section.unusable("activation", ", ".join(ACTIVATIONS))
    kind = ACTIVATIONS[name]
    return nn.LeakyReLU(LEAKY_SLOPE) if kind is nn.LeakyReLU else kind()


def _anchors(head: CfgSection, stride: int) -> tuple[tuple[float, float], ...]:
    """A head's anchors in pixels; [region] names them in cells."""
    numbers = head.numbers("anchors")
    pairs = list(zip(numbers[0::2], numbers[1::2], strict=False))
    if head.kind == "region":
        return tuple((width * stride, height * stride) for width, height in pairs)
    mask = head.integers("mask")
    if not mask or max(mask) >= len(pairs) or min(mask) < 0:
        raise head.unusable("mask", f"numbers of the {len(pairs)} anchors, from 0")
    return tuple(pairs[number] for number in mask)


def _same_classes(heads: list[CfgSection]) -> int:
    counts = {head.integer("classes", 20) for head in heads}
    if len(counts) > 1:
        raise SettingsError(
            "heads with different numbers of classes",
            where=heads[0].where,
            expected="one number",
            got=", ".join(map(str, sorted(counts))),
        )
    return counts.pop() if counts else 0


def _last_uses(sources: list[tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """For every layer the outputs that nothing after it reads."""
    last = {source: index for index, names in enumerate(sources) for source in names}
    freed: dict[int, list[int]] = {}
    for source, index in last.items():
        freed.setdefault(index, []).append(source)
    return {index: tuple(names) for index, names in freed.items()}
