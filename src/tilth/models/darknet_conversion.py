"""Turn the readable YOLOv4 into the same network as Darknet's files describe it.

What works on network files (pruning, Darknet's own programs, OpenCV) then works on it too. The
result computes exactly the same: widths, depths, anchors and activations are carried over.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from tilth.models.cspdarknet import ConvUnit, CspDarknet53, CspStage, TinyBackbone
from tilth.models.darknet import Convolution, Darknet
from tilth.models.darknet_cfg import DarknetCfg, with_options
from tilth.models.darknet_specs import yolov4_cfg, yolov4_tiny_cfg
from tilth.models.darknet_weights import load_weights
from tilth.models.yolov4 import PathAggregationNeck, TinyNeck, YoloV4

__all__ = ["as_darknet", "load_darknet_weights"]


@torch.no_grad()
def as_darknet(model: YoloV4, *, size: int) -> Darknet:
    """The same network with the same weights, in evaluation mode.

    Args:
        size: side of the square network input that the file names.
    """
    units = list(_in_file_order(model))
    twin = Darknet(_cfg(model, units, size))
    for unit, (_, layer) in zip(units, twin.weighted_layers(), strict=True):
        _copy(unit, layer)
    return twin.eval()


@torch.no_grad()
def load_darknet_weights(model: YoloV4, path: Path) -> tuple[str, ...]:
    """Fill a network from a Darknet file, whole or partial.

    Returns:
        The names of the modules that the file does not reach; they are as they were.

    Raises:
        LabelError: see `tilth.models.darknet_weights.load_weights`.
    """
    units = list(_in_file_order(model))
    twin = Darknet(_cfg(model, units, size=max(model.strides)))
    missing = load_weights(twin, path).missing
    names = {id(module): name for name, module in model.named_modules()}
    left = []
    for unit, (index, layer) in zip(units, twin.weighted_layers(), strict=True):
        if index in missing:
            left.append(names[id(unit)])
        elif isinstance(unit, ConvUnit):
            unit[0].load_state_dict(layer.conv.state_dict())
            assert layer.norm is not None
            unit[1].load_state_dict(layer.norm.state_dict())
        else:
            unit.load_state_dict(layer.conv.state_dict())
    return tuple(left)


def _in_file_order(model: YoloV4) -> Iterator[nn.Module]:
    """Its convolutions, with what belongs to each, in the order of the published files."""
    heads, backbone, neck = model.heads, model.backbone, model.neck
    if isinstance(backbone, CspDarknet53):
        assert isinstance(neck, PathAggregationNeck)
        yield backbone.stem
        for stage in backbone.stages:
            yield from _units(stage)
        yield from _units(neck.before_pyramid, neck.after_pyramid, neck.coarse_to_middle)
        yield from _units(neck.middle_lateral, neck.middle_up, neck.middle_to_fine)
        yield from _units(neck.fine_lateral, neck.fine_out, heads[0])
        yield from _units(neck.fine_to_middle, neck.middle_out, heads[1])
        yield from _units(neck.middle_to_coarse, neck.coarse_out, heads[2])
    else:
        assert isinstance(backbone, TinyBackbone)
        assert isinstance(neck, TinyNeck)
        yield from _units(backbone.stem, backbone.blocks, backbone.last)
        yield from _units(neck.narrow, heads[0], neck.lateral, heads[1])


def _units(*modules: nn.Module) -> Iterator[nn.Module]:
    """Convolution units and single convolutions inside, in the order in which they are declared."""
    for module in modules:
        if isinstance(module, ConvUnit | nn.Conv2d):
            yield module
        else:
            yield from _units(*module.children())


def _cfg(model: YoloV4, units: list[nn.Module], size: int) -> DarknetCfg:
    if isinstance(model.backbone, CspDarknet53):
        stages = [stage for stage in model.backbone.stages if isinstance(stage, CspStage)]
        blocks = [len(stage.blocks) for stage in stages]
        cfg = yolov4_cfg(model.num_classes, size=size, blocks=blocks)
    else:
        cfg = yolov4_tiny_cfg(model.num_classes, size=size)
    changes: dict[tuple[int, str], object] = {}
    layers = [i for i, layer in enumerate(cfg.layers) if layer.kind == "convolutional"]
    for index, unit in zip(layers, units, strict=True):
        convolution = unit[0] if isinstance(unit, ConvUnit) else unit
        changes[index, "filters"] = convolution.out_channels
        if isinstance(unit, ConvUnit):
            changes[index, "activation"] = "mish" if isinstance(unit[2], nn.Mish) else "leaky"
    return with_options(cfg, changes | _anchors(model, cfg))


def _anchors(model: YoloV4, cfg: DarknetCfg) -> dict[tuple[int, str], object]:
    """All heads' anchors one after the other, the same list in each head, its own in the mask."""
    pairs = [pair for head in model.anchors for pair in head]
    text = ", ".join(f"{float(width)!r},{float(height)!r}" for width, height in pairs)
    changes: dict[tuple[int, str], object] = {}
    first = 0
    for index, head in zip(cfg.heads, model.anchors, strict=True):
        own = range(first, first + len(head))
        first += len(head)
        changes |= {(index, "mask"): ",".join(map(str, own)), (index, "anchors"): text}
        changes[index, "num"] = len(pairs)
    return changes


def _copy(unit: nn.Module, layer: Convolution) -> None:
    if isinstance(unit, ConvUnit):
        convolution, norm = unit[0], unit[1]
        assert layer.norm is not None
        assert isinstance(norm, nn.BatchNorm2d)
        layer.norm.load_state_dict(norm.state_dict())
        layer.norm.eps = norm.eps
    else:
        convolution = unit
    layer.conv.load_state_dict(convolution.state_dict())
