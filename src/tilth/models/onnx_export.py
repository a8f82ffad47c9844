"""A detector as an ONNX graph: from pictures to boxes and scores, for any number of pictures.

The graph has the input ``images`` [batch, 3, height, width], RGB in 0..1, and the outputs ``boxes``
[batch, n, 4], x0 y0 x1 y1 in pixels of the input, and ``scores`` [batch, n, classes], what
`DetectionNetwork.decode` gives. `tilth.models.onnx_suppression` adds the choice of the best boxes.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jaxtyping
import torch
from torch import Tensor, nn

from tilth import lazy
from tilth.models.darknet import Darknet
from tilth.models.darknet_conversion import as_darknet
from tilth.models.darknet_onnx import OPSET, darknet_graph
from tilth.models.yolov4 import YoloV4

__all__ = ["detector_graph"]


def detector_graph(
    model: nn.Module, *, size: tuple[int, int], metadata: Mapping[str, str] | None = None
) -> Any:
    """The graph of a `DetectionNetwork`, an ``onnx.ModelProto`` with its weights inside.

    Args:
        size: height and width of the pictures; the number of pictures is left open.
        metadata: names and texts that are kept in the file.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    if isinstance(model, YoloV4):
        model = as_darknet(model, size=max(size))
    if isinstance(model, Darknet):
        return darknet_graph(model, size=size, metadata=metadata)
    return traced_graph(model, size=size, metadata=metadata)


def traced_graph(
    model: nn.Module, *, size: tuple[int, int], metadata: Mapping[str, str] | None = None
) -> Any:
    """As `detector_graph` for any network, by torch's exporter.

    That is the one that traces: the one through `torch.export` does not know all operators of the
    set predictors, and takes half a minute for what this does in one second.
    """
    onnx = lazy.require("onnx", extra="onnx")
    was_training = model.training
    model.eval()
    # Two: what is computed from a dimension of one would be kept as a constant.
    pictures = torch.zeros(2, 3, *size, device=next(model.parameters()).device)
    stream = io.BytesIO()
    try:
        with _quiet_export(), torch.no_grad():
            shapes = [output.shape[1:] for output in _Decoded(model)(pictures)]
            torch.onnx.export(
                _Decoded(model),
                (pictures,),
                stream,  # type: ignore[arg-type]  # the traced export takes a stream
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["boxes", "scores"],
                dynamic_axes={name: {0: "batch"} for name in ("images", "boxes", "scores")},
            )
    finally:
        model.train(was_training)
    graph = onnx.load_model_from_string(stream.getvalue())
    for output, shape in zip(graph.graph.output, shapes, strict=True):
        for dimension, count in zip(output.type.tensor_type.shape.dim[1:], shape, strict=True):
            dimension.dim_value = count
    graph.producer_name = "tilth"
    onnx.helper.set_model_props(graph, dict(metadata or {}))
    onnx.checker.check_model(graph)
    return graph


class _Decoded(nn.Module):
    """What is exported: the network with its decoding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.model.decode(self.model(images))  # type: ignore[operator]
        return boxes, scores


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Without shape checks, which cannot be traced, and without torch's remarks on itself."""
    checked = jaxtyping.config.jaxtyping_disable
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    jaxtyping.config.update("jaxtyping_disable", True)
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        jaxtyping.config.update("jaxtyping_disable", checked)
