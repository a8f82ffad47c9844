"""A Darknet network as an ONNX graph, layer by layer, with batch normalisation folded.

Nodes are called after the layers of the network file (``layer_17/conv``), nothing is traced, and
the number of pictures is open by construction. Inputs and outputs are those of
`tilth.models.onnx_export.detector_graph`, which calls this for the networks that can be written so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tilth import lazy
from tilth.models.darknet import LEAKY_SLOPE, Convolution, Darknet, MaxPool
from tilth.models.fold import folded_convolution
from tilth.models.network_size import layer_shapes
from tilth.ops.anchor_grid import MAX_LOG_SCALE

__all__ = ["IR_VERSION", "OPSET", "darknet_graph"]

# The first with Mish, and what torch's exporter writes without converting between versions.
OPSET = 18
IR_VERSION = 10

# Those of one operator; swish and gelu are written out.
OPERATORS: dict[type[nn.Module], tuple[str, dict[str, float]]] = {
    nn.LeakyReLU: ("LeakyRelu", {"alpha": LEAKY_SLOPE}),
    nn.Mish: ("Mish", {}),
    nn.ReLU: ("Relu", {}),
    nn.Sigmoid: ("Sigmoid", {}),
    nn.Tanh: ("Tanh", {}),
    nn.ELU: ("Elu", {}),
    nn.SELU: ("Selu", {}),
}


def darknet_graph(
    model: Darknet, *, size: tuple[int, int], metadata: Mapping[str, str] | None = None
) -> Any:
    """The graph, an ``onnx.ModelProto``; see `tilth.models.onnx_export.detector_graph`.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = lazy.require("onnx", extra="onnx")
    writer = _Writer(onnx.helper)
    names, shapes = {-1: "images"}, layer_shapes(model, size)
    for index in range(len(model.layers)):
        names[index] = _layer(writer, model, index, names, shapes)
    decoded = [
        _decoded(writer, model, head, names[index], shapes[index])
        for head, index in enumerate(model.cfg.heads)
    ]
    for position, output in enumerate(("boxes", "scores")):
        parts = [pair[position] for pair in decoded]
        writer.add("Concat", parts, "decode", name=output, axis=1)
    count = sum(
        len(anchors) * shapes[index][1] * shapes[index][2]
        for anchors, index in zip(model.anchors, model.cfg.heads, strict=True)
    )
    dims = {
        "images": ["batch", model.cfg.net.integer("channels", 3), *size],
        "boxes": ["batch", count, 4],
        "scores": ["batch", count, model.num_classes],
    }
    values = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in dims.items()
    }
    body = onnx.helper.make_graph(
        writer.nodes,
        "detector",
        [values["images"]],
        [values["boxes"], values["scores"]],
        [onnx.numpy_helper.from_array(value, name) for name, value in writer.constants.items()],
    )
    graph = onnx.helper.make_model(
        body,
        producer_name="tilth",
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.helper.set_model_props(graph, dict(metadata or {}))
    onnx.checker.check_model(graph)
    return graph


class _Writer:
    """Nodes and constants in the order in which they are asked for."""

    def __init__(self, helper: Any) -> None:
        self._helper = helper
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def add(
        self, operator: str, inputs: Sequence[str], place: str, *, name: str = "", **options: Any
    ) -> str:
        """A node in ``place`` (a layer or head); the name of its output."""
        output = name or f"{place}/{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(
            self._helper.make_node(operator, list(inputs), [output], name=output, **options)
        )
        return output

    def constant(self, value: Any, place: str) -> str:
        """A constant; floats are kept as float32."""
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = f"{place}/constant_{len(self.constants)}"
        self.constants[name] = array
        return name


def _layer(
    writer: _Writer,
    model: Darknet,
    index: int,
    names: Mapping[int, str],
    shapes: Sequence[tuple[int, int, int]],
) -> str:
    """Write one layer; the name of its output."""
    section, layer, place = model.cfg.layers[index], model.layers[index], f"layer_{index}"
    read = [names[source] for source in model.sources[index]]
    given = [shapes[source] if source >= 0 else (0, 0, 0) for source in model.sources[index]]
    match section.kind:
        case "convolutional":
            assert isinstance(layer, Convolution)
            return _convolution(writer, layer, read[0], place)
        case "maxpool":
            assert isinstance(layer, MaxPool)
            before = layer.padding // 2
            after = layer.padding - before
            return writer.add(
                "MaxPool",
                read,
                place,
                kernel_shape=[layer.size] * 2,
                strides=[layer.stride] * 2,
                pads=[before, before, after, after],
            )
        case "avgpool":
            return writer.add("GlobalAveragePool", read, place)
        case "upsample":
            stride = float(section.integer("stride", 2))
            scales = writer.constant([1.0, 1.0, stride, stride], place)
            return writer.add(
                "Resize",
                [read[0], "", scales],
                place,
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )
        case "reorg":
            return _reorg(writer, read[0], section.integer("stride", 1), given[0], place)
        case "route":
            groups, group = section.integer("groups", 1), section.integer("group_id", 0)
            parts = [
                _slice(writer, name, shape[0] // groups * group, shape[0] // groups, place)
                if groups > 1
                else name
                for name, shape in zip(read, given, strict=True)
            ]
            return parts[0] if len(parts) == 1 else writer.add("Concat", parts, place, axis=1)
        case "shortcut":
            channels = [shape[0] for shape in given]
            total = _sum(writer, read, channels, place)
            return _activated(writer, layer.get_submodule("activation"), total, place)
        case "scale_channels" | "sam":
            product = writer.add("Mul", read, place)
            return _activated(writer, layer.get_submodule("activation"), product, place)
    return read[0]  # dropout, softmax and the heads, whose maps are decoded at the end


def _convolution(writer: _Writer, layer: Convolution, read: str, place: str) -> str:
    folded = layer.conv if layer.norm is None else folded_convolution(layer.conv, layer.norm)
    assert folded.bias is not None  # one without batch normalisation has a bias
    kernels, bias = (part.detach().cpu().float().numpy() for part in (folded.weight, folded.bias))
    padding = [int(side) for side in layer.conv.padding]
    output = writer.add(
        "Conv",
        [read, writer.constant(kernels, place), writer.constant(bias, place)],
        place,
        name=f"{place}/conv",
        kernel_shape=list(layer.conv.kernel_size),
        strides=list(layer.conv.stride),
        pads=padding * 2,
        dilations=list(layer.conv.dilation),
        group=layer.conv.groups,
    )
    return _activated(writer, layer.activation, output, place)


def _activated(writer: _Writer, activation: nn.Module, name: str, place: str) -> str:
    for kind, (operator, options) in OPERATORS.items():
        if isinstance(activation, kind):
            return writer.add(operator, [name], place, name="", **options)
    if isinstance(activation, nn.ReLU6):
        limits = [writer.constant(0.0, place), writer.constant(6.0, place)]
        return writer.add("Clip", [name, *limits], place)
    if isinstance(activation, nn.SiLU):
        return writer.add("Mul", [name, writer.add("Sigmoid", [name], place)], place)
    if isinstance(activation, nn.GELU):
        root, one, half = (writer.constant(value, place) for value in (2**-0.5, 1.0, 0.5))
        error = writer.add("Erf", [writer.add("Mul", [name, root], place)], place)
        share = writer.add("Mul", [writer.add("Add", [error, one], place), half], place)
        return writer.add("Mul", [name, share], place)
    assert isinstance(activation, nn.Identity)
    return name


def _slice(writer: _Writer, name: str, first: int, count: int, place: str) -> str:
    """Some channels of a layer."""
    limits = [writer.constant([value], place) for value in (first, first + count, 1)]
    return writer.add("Slice", [name, *limits], place)


def _sum(writer: _Writer, read: Sequence[str], channels: Sequence[int], place: str) -> str:
    """As `tilth.models.darknet.Shortcut`: where one has more channels, the others end earlier."""
    total, width = read[0], channels[0]
    for other, count in zip(read[1:], channels[1:], strict=True):
        if count > width:
            other = _slice(writer, other, 0, width, place)
        if count >= width:
            total = writer.add("Add", [total, other], place)
            continue
        shared = writer.add("Add", [_slice(writer, total, 0, count, place), other], place)
        rest = _slice(writer, total, count, width - count, place)
        total = writer.add("Concat", [shared, rest], place, axis=1)
    return total


def _reorg(writer: _Writer, name: str, stride: int, shape: tuple[int, int, int], place: str) -> str:
    channels, height, width = shape
    finer = [0, channels // stride**2, height, stride, width, stride]  # 0: as many as there are
    coarser = [0, channels * stride**2, height // stride, width // stride]
    blocks = writer.add("Reshape", [name, writer.constant(finer, place)], place)
    turned = writer.add("Transpose", [blocks], place, perm=[0, 3, 5, 1, 2, 4])
    return writer.add("Reshape", [turned, writer.constant(coarser, place)], place)


def _decoded(
    writer: _Writer, model: Darknet, head: int, name: str, shape: tuple[int, int, int]
) -> tuple[str, str]:
    """Boxes [b, n, 4] and scores [b, n, c] of one head, as `Darknet.decode` gives them."""
    place, stride, (_, height, width) = f"head_{head}", model.strides[head], shape
    anchors = np.array(model.anchors[head], dtype=np.float64)
    count = len(anchors)
    apart = writer.constant([0, count, 5 + model.num_classes, height, width], place)
    last = writer.constant([0, count * height * width, 5 + model.num_classes], place)
    cells = writer.add("Reshape", [name, apart], place)
    cells = writer.add("Transpose", [cells], place, perm=[0, 1, 3, 4, 2])
    rows = writer.add("Reshape", [cells, last], place)
    centres, sizes, objectness, classes = (
        _columns(writer, rows, first, end, place)
        for first, end in ((0, 2), (2, 4), (4, 5), (5, 5 + model.num_classes))
    )
    is_activated, scale = model.is_activated[head], model.grid_scales[head]
    if not is_activated:
        centres, objectness = (
            writer.add("Sigmoid", [part], place) for part in (centres, objectness)
        )
        limits = ["", writer.constant(MAX_LOG_SCALE, place)]
        sizes = writer.add("Exp", [writer.add("Clip", [sizes, *limits], place)], place)
        is_softmax = model.cfg.layers[model.cfg.heads[head]].integer("softmax", 0)
        classes = writer.add("Softmax" if is_softmax else "Sigmoid", [classes], place)
    else:
        sizes = writer.add("Mul", [sizes, sizes], place)
    y, x = np.mgrid[0:height, 0:width].reshape(2, -1)
    corner = np.tile(np.stack([x, y], axis=1), (count, 1)) - (scale - 1) / 2
    half = np.repeat(anchors, height * width, axis=0) * (2.0 if is_activated else 0.5)
    moved = writer.add("Mul", [centres, writer.constant(float(scale * stride), place)], place)
    centres = writer.add("Add", [moved, writer.constant(corner[None] * stride, place)], place)
    sizes = writer.add("Mul", [sizes, writer.constant(half[None], place)], place)
    corners = [writer.add(operator, [centres, sizes], place) for operator in ("Sub", "Add")]
    boxes = writer.add("Concat", corners, place, axis=2)
    return boxes, writer.add("Mul", [objectness, classes], place)


def _columns(writer: _Writer, name: str, first: int, end: int, place: str) -> str:
    limits = [writer.constant([value], place) for value in (first, end, 2)]
    return writer.add("Slice", [name, *limits], place)
