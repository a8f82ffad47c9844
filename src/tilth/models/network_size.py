"""What a Darknet network costs: parameters, operations and bytes, layer by layer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tilth.models.darknet import Darknet
from tilth.models.darknet_weights import WeightsHeader, convolution_arrays

__all__ = ["LayerSize", "grid_cells", "layer_shapes", "layer_sizes", "weights_bytes"]


@dataclass(frozen=True, kw_only=True)
class LayerSize:
    """What one convolution costs.

    Attributes:
        index: of the layer in the network file.
        parameters: kernels, and the arrays of normalisation or the bias.
        flops: of one picture, two a multiplication with its addition.
    """

    index: int
    filters: int
    parameters: int
    flops: int


def layer_sizes(model: Darknet) -> tuple[LayerSize, ...]:
    """What every convolution costs at the input size that the network file names."""
    cells = grid_cells(model)
    return tuple(
        LayerSize(
            index=index,
            filters=layer.channels,
            parameters=sum(parameter.numel() for parameter in layer.parameters()),
            flops=2 * layer.conv.weight.numel() * cells[index],
        )
        for index, layer in model.weighted_layers()
    )


def weights_bytes(model: Darknet) -> int:
    """Size of the network's Darknet weights file."""
    arrays = (array for _, layer in model.weighted_layers() for array in convolution_arrays(layer))
    return WeightsHeader().num_bytes + 4 * sum(array.numel() for array in arrays)


def grid_cells(model: Darknet) -> dict[int, int]:
    """Places at which every convolution is computed, at the size that the network file names."""
    shapes = layer_shapes(model, model.size)
    return {index: shapes[index][1] * shapes[index][2] for index, _ in model.weighted_layers()}


def layer_shapes(model: Darknet, size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Channels, height and width of every layer's output, by a run without numbers.

    Args:
        size: height and width of the picture.
    """
    with torch.device("meta"):
        twin = Darknet(model.cfg).eval()
        pictures = torch.empty(1, model.cfg.net.integer("channels", 3), *size)
    shapes: list[tuple[int, int, int]] = []

    def note(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        shapes.append((output.shape[1], output.shape[2], output.shape[3]))

    for layer in twin.layers:
        layer.register_forward_hook(note)
    twin(pictures)
    return shapes
