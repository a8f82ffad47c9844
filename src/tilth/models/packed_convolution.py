"""Convolutions for inference on the CPU: kernels laid out once as oneDNN wants them, activation
in the same pass.

An ordinary `torch.nn.Conv2d` brings its kernels into oneDNN's order anew at every call, and its
activation goes through the whole output once more. Without both, YOLOv4-tiny at 416 and batch 1
took a quarter less time in bfloat16 and a sixth less in float32. The operators are those that
torch's compiler uses; here no compiler has to be there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.models.cspdarknet import ConvUnit
from tilth.models.darknet import Convolution

__all__ = ["PackedConvolution", "can_pack", "pack_convolutions"]

# Activation -> oneDNN's name for it; what is missing here (Mish) stays a layer of its own.
FUSED: dict[type[nn.Module], str] = {
    nn.Identity: "none",
    nn.LeakyReLU: "leaky_relu",
    nn.ReLU: "relu",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "swish",
}


def can_pack(model: nn.Module) -> bool:
    """Whether this torch has the operators, and the model is where they work."""
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    has_onednn = torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled()
    names = ("_convolution_pointwise", "_reorder_convolution_weight")
    return on_cpu and has_onednn and all(hasattr(torch.ops.mkldnn, name) for name in names)


class PackedConvolution(nn.Module):
    """A convolution and its activation in one call, without gradient.

    Kernels are packed at the first call, for the size of input that comes then. Other sizes give
    the same numbers; where oneDNN would choose another order for them, they cost a conversion.

    Args:
        convolution: with or without bias, padded by zeros.
        activation: of a type in `FUSED`.
        dtype: to compute in; inputs are brought to it.
    """

    def __init__(
        self, convolution: nn.Conv2d, activation: nn.Module, *, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.kernels = nn.Parameter(convolution.weight.detach().to(dtype), requires_grad=False)
        self.bias = None
        if convolution.bias is not None:
            self.bias = nn.Parameter(convolution.bias.detach().to(dtype), requires_grad=False)
        self.placing = (
            list(convolution.padding),
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        self.activation = FUSED[type(activation)]
        slope = activation.negative_slope if isinstance(activation, nn.LeakyReLU) else None
        self.scalars = [] if slope is None else [slope]
        # Not a parameter: it has no order that a state dict could hold.
        self._packed: Tensor | None = None

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Channels last in memory, in the layer's precision."""
        features = features.to(self.dtype)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.kernels.contiguous(memory_format=torch.channels_last),
                *self.placing,
                list(features.shape),
            )
        return torch.ops.mkldnn._convolution_pointwise(
            features, self._packed, self.bias, *self.placing, self.activation, self.scalars, ""
        )


def pack_convolutions(
    model: nn.Module, *, dtype: torch.dtype, float32: frozenset[nn.Module] = frozenset()
) -> int:
    """Replace convolutions of a folded network in place; says how many.

    Args:
        dtype: to compute in.
        float32: convolutions to compute in float32 instead.
    """
    packed = 0
    for part in list(model.modules()):
        activation = _activation_of(part)
        for name, convolution in list(part.named_children()):
            if not isinstance(convolution, nn.Conv2d) or convolution.padding_mode != "zeros":
                continue
            chosen = torch.float32 if convolution in float32 else dtype
            fused = activation if type(activation) in FUSED else None
            made = PackedConvolution(convolution, fused or nn.Identity(), dtype=chosen)
            setattr(part, name, made)
            packed += 1
            if fused is not None:
                _drop_activation(part)
    return packed


def _activation_of(part: nn.Module) -> nn.Module | None:
    """The activation right after a module's convolution, where nothing lies between them."""
    if isinstance(part, ConvUnit) and isinstance(part[1], nn.Identity):
        return part[2]
    if isinstance(part, Convolution) and part.norm is None:
        return part.activation
    return None


def _drop_activation(part: nn.Module) -> None:
    if isinstance(part, ConvUnit):
        part[2] = nn.Identity()
    elif isinstance(part, Convolution):
        part.activation = nn.Identity()
