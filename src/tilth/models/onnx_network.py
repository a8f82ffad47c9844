"""An exported detector, run by onnxruntime, in the place of the network that it was made from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from tilth import lazy

__all__ = ["OnnxNetwork", "open_session"]


def open_session(source: Path | bytes | Any, *, num_threads: int | None = None) -> Any:
    """An ``onnxruntime.InferenceSession`` of a file or a graph, on the processor.

    Args:
        num_threads: by default as many as torch has.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    onnxruntime = lazy.require("onnxruntime", extra="onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or torch.get_num_threads()
    # Threads that wait in a loop would be counted as time of the processor.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if isinstance(source, Path):
        source = str(source)
    elif not isinstance(source, bytes):
        source = source.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class OnnxNetwork(nn.Module):
    """A `DetectionNetwork` whose boxes and scores come from a graph of `detector_graph`.

    Args:
        source: a file, its bytes, or an ``onnx.ModelProto``.
        suppresses: as of the network that was exported.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, source: Path | bytes | Any, *, suppresses: bool = True) -> None:
        super().__init__()
        self.session = open_session(source)
        self.suppresses = suppresses
        self.num_classes: int = self.session.get_outputs()[1].shape[-1]
        # Who asks a network for its device looks at its parameters.
        self.nothing = nn.Parameter(torch.empty(0), requires_grad=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxNetwork":
        return self  # a session cannot be copied, nor does anything change it

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor]:
        """Boxes [b, n, 4] and scores [b, n, c]."""
        pictures: Float32[np.ndarray, "b 3 h w"] = images.float().cpu().numpy()
        boxes, scores = self.session.run(["boxes", "scores"], {"images": pictures})
        return torch.from_numpy(boxes), torch.from_numpy(scores)

    def decode(self, outputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The outputs as they are: the graph decodes."""
        return outputs
