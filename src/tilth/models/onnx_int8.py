"""Static quantisation of an exported detector: 8-bit integers where the work is.

The convolutions and what lies between them are quantised, with ranges measured on pictures. The
last convolution of every head and the decoding stay in floats: a box's size is an exponential, and
256 steps over the range of all outputs would be pixels.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float32
from numpy import ndarray

from tilth import lazy

__all__ = ["Calibration", "float_nodes", "quantised_graph"]

Calibration = Literal["mean", "minmax", "percentile"]

PERCENTILE = 99.99


def quantised_graph(
    graph: Any, pictures: Iterable[Float32[ndarray, "b 3 h w"]], *, calibration: Calibration
) -> Any:
    """A graph of `detector_graph` with quantise and dequantise nodes, weights by channel.

    Args:
        pictures: batches of what the detector will see; their activations give the ranges.
        calibration: the mean of the pictures' ranges, of which one odd picture does not stretch
            the steps for all; the whole range that was seen; or all of it but its rarest ends.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    onnx = lazy.require("onnx", extra="onnx")
    quantization = lazy.require("onnxruntime.quantization", extra="onnx")
    methods = quantization.CalibrationMethod
    chosen: dict[Calibration, tuple[Any, dict[str, Any]]] = {
        "mean": (methods.MinMax, {"CalibMovingAverage": True}),
        "minmax": (methods.MinMax, {}),
        "percentile": (methods.Percentile, {"CalibPercentile": PERCENTILE}),
    }
    method, options = chosen[calibration]
    with tempfile.TemporaryDirectory(prefix="tilth-int8-") as folder, _quiet():
        # A file, because onnxruntime moves the weights of a graph that it is given elsewhere.
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(graph, str(source))
        quantization.quantize_static(
            str(source),
            str(target),
            _reader(quantization.CalibrationDataReader, pictures),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            calibrate_method=method,
            extra_options=options,
            nodes_to_exclude=float_nodes(graph),
        )
        smaller = onnx.load(str(target))
    onnx.helper.set_model_props(smaller, {p.key: p.value for p in graph.metadata_props})
    return smaller


def float_nodes(graph: Any) -> list[str]:
    """Nodes that stay in floats: all that no convolution comes after."""
    readers: dict[str, list[Any]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    leads_on: set[str] = set()
    for node in reversed(graph.graph.node):  # in an order in which inputs come before readers
        after = [reader for name in node.output for reader in readers.get(name, ())]
        if any(each.op_type == "Conv" or each.name in leads_on for each in after):
            leads_on.add(node.name)
    return [node.name for node in graph.graph.node if node.name not in leads_on]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what onnxruntime prints, and the advice to fold normalisation: it is folded."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _reader(base: Any, pictures: Iterable[Float32[ndarray, "b 3 h w"]]) -> Any:
    """What onnxruntime asks for pictures; its base class is known only once it is imported."""
    batches = iter(pictures)

    class Reader(base):
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {"images": batch}

    return Reader()
