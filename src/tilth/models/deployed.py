"""A detector made fast for use: normalisation folded, channels last, the precision that pays.

What pays depends on the machine, so `deployed` says what it chose. In float32 the numbers are those
of the network to rounding; in bfloat16, eight bits of mantissa, scores move by some thousandths.
Evaluations that are to be compared between machines therefore use float32.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tilth.models.detection_network import AnchorGridNetwork
from tilth.models.fold import fold_batch_norm
from tilth.models.packed_convolution import can_pack, pack_convolutions

__all__ = ["DeployedNetwork", "Deployment", "InferencePrecision", "deployed", "has_fast_bfloat16"]

InferencePrecision = Literal["auto", "float32", "bfloat16"]

COMPILERS = ("g++", "clang++")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What was chosen for a network on this machine.

    Attributes:
        precision: of the layers; heads give float32 in any case.
        packed: convolutions whose kernels lie in oneDNN's own order.
        compiled: whether torch's compiler made it.
        note: what was asked for and could not be had, "" for nothing.
    """

    precision: Literal["float32", "bfloat16"]
    packed: int = 0
    compiled: bool = False
    note: str = ""


class DeployedNetwork(nn.Module):
    """A `DetectionNetwork` for inference; made by `deployed`.

    Attributes:
        network: the folded copy.
        deployment: what was chosen.
    """

    def __init__(self, network: nn.Module, deployment: Deployment) -> None:
        super().__init__()
        self.network = network
        self.deployment = deployment
        self.num_classes: int = network.num_classes  # type: ignore[assignment]
        self.suppresses: bool = network.suppresses  # type: ignore[assignment]
        self._compiled: Any = _compiled(network) if deployment.compiled else None

    def forward(self, images: Tensor) -> Any:
        """From pictures [b, 3, h, w], RGB in 0..1, to what `decode` reads."""
        images = images.contiguous(memory_format=torch.channels_last)
        if not isinstance(self.network, AnchorGridNetwork):
            bfloat16 = self.deployment.precision == "bfloat16"
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
                return self.network(images)
        images = images.to(getattr(torch, self.deployment.precision))
        if self._compiled is None:
            return self.network(images)
        return self._run_compiled(images)

    def decode(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Boxes [b, n, 4] in pixels of the network's input, and scores [b, n, c], float32."""
        return self.network.decode(outputs)  # type: ignore[operator]

    def _run_compiled(self, images: Tensor) -> Any:
        try:
            return self._compiled(images)
        except Exception as error:  # the compiler's own errors share no class
            outputs = self.network(images)  # what is wrong with the pictures is raised here
            self._compiled = None
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.deployment = replace(
                self.deployment, compiled=False, note=f"not compiled: {reason}"
            )
            return outputs


def deployed(
    model: nn.Module, *, precision: InferencePrecision = "float32", compiled: bool = False
) -> DeployedNetwork:
    """A copy of a `DetectionNetwork` for inference on the device where it is.

    Args:
        precision: "auto" takes bfloat16 where the machine computes in it, and the network is one of
            ours; networks of transformers stay in float32, unless "bfloat16" asks for autocast.
        compiled: by torch's compiler, at the first call for each size of batch. On a CPU it needs
            a C++ compiler and a minute or two; beside what is done here anyway it gained 3 % of
            the time of YOLOv4-tiny and 7 % of YOLOv4's (416 px, bfloat16), no more than the noise.

    >>> from tilth.models.yolov4 import YoloV4
    >>> fast = deployed(YoloV4(1, variant="yolov4-tiny", width=0.25))
    >>> fast.deployment.precision, fast.num_classes
    ('float32', 1)
    """
    network = fold_batch_norm(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = next(network.parameters()).device
    if not isinstance(model, AnchorGridNetwork):
        chosen: Literal["float32", "bfloat16"] = "float32" if precision == "auto" else precision
        note = "this kind of network is not compiled" if compiled else ""
        return DeployedNetwork(network, Deployment(precision=chosen, note=note))
    if precision == "auto":
        precision = "bfloat16" if has_fast_bfloat16(device) else "float32"
    note = _why_not_compiled(device) if compiled else ""
    is_compiled = compiled and not note
    dtype = getattr(torch, precision)
    heads: frozenset[nn.Module] = frozenset(network.head_convolutions())
    packed = 0
    if can_pack(network) and not is_compiled:  # the compiler packs by itself
        packed = pack_convolutions(network, dtype=dtype, float32=heads)
    else:
        _keep_in_float32(network.to(dtype), heads)
    deployment = Deployment(precision=precision, packed=packed, compiled=is_compiled, note=note)
    return DeployedNetwork(network, deployment)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself, rather than by way of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


class _Float32(nn.Module):
    """A layer that computes in float32 whatever comes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, features: Tensor) -> Tensor:
        return self.layer(features.float())


def _keep_in_float32(network: nn.Module, layers: frozenset[nn.Module]) -> None:
    """Heads in bfloat16 would give many boxes one and the same score, and lose their order."""
    for part in list(network.modules()):
        for name, child in list(part.named_children()):
            if child in layers:
                setattr(part, name, _Float32(child))


def _compiled(network: nn.Module) -> Any:
    on_cpu = next(network.parameters()).device.type == "cpu"
    options: dict[str, Any] = {"freezing": True} if on_cpu else {}
    return torch.compile(network, dynamic=False, options=options)


def _why_not_compiled(device: torch.device) -> str:
    if device.type != "cpu":
        return ""
    named = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([named] if named else COMPILERS)):
        return "not compiled: there is no C++ compiler"
    return ""
