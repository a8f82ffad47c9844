"""LSTM and CIFG by oneDNN's kernel, which `torch.nn.LSTM` runs on the CPU: a sequence in one call.

The kernel knows neither the coupled gate nor lengths. Both can be said in weights:

- sigmoid(-x) = 1 - sigmoid(x), so a CIFG is an LSTM whose input gate has the forget gate's weights
  with the sign turned;
- one more input channel, 1 in the padding and 0 elsewhere, pulls the forget gate to 1 and the input
  gate to 0 there, so that the memory stays what it was at the sequence's end.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tilth.models.recurrent_scan import at_lengths

__all__ = ["onednn_lstm", "onednn_takes"]

SHUT = 1e4  # the sigmoid of it is 1 in float32, of its negative 0, whatever a gate adds to it


def onednn_takes(cell: str, inputs: Tensor) -> bool:
    """Whether the kernel is there and takes this cell, type and device."""
    fits = inputs.dtype == torch.float32 and inputs.device.type == "cpu"
    has_kernel = torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled()
    return cell in ("lstm", "cifg") and fits and has_kernel


def onednn_lstm(
    cell: str,
    lengths: Int64[Tensor, "b"] | None,
    inputs: Float[Tensor, "b t c"],
    hidden: Float[Tensor, "b h"],
    memory: Float[Tensor, "b h"],
    input_weights: Float[Tensor, "rows c"],
    hidden_weights: Float[Tensor, "rows h"],
    bias: Float[Tensor, "rows"],
    *_: Any,
) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b h"], Float[Tensor, "b h"]]:
    """Outputs, zero beyond each length, and the state at it."""
    weights = [input_weights, hidden_weights, bias]
    if cell == "cifg":  # its blocks f g o become i f g o
        weights = [torch.cat([-one[: hidden.shape[1]], one]) for one in weights]
    if lengths is not None:
        ended = torch.arange(inputs.shape[1]) >= lengths[:, None]
        inputs = torch.cat([inputs, ended[..., None].to(inputs.dtype)], dim=-1)
        pull = inputs.new_tensor([-SHUT, SHUT, 0.0, 0.0]).repeat_interleave(hidden.shape[1])
        weights[0] = torch.cat([weights[0], pull[:, None]], dim=1)
    outputs, _last, memories = torch.lstm(
        inputs.transpose(0, 1),
        (hidden[None], memory[None]),
        [*weights, torch.zeros_like(weights[2])],
        True,  # has biases, two of them
        1,  # layer
        0.0,  # dropout
        torch.is_grad_enabled(),  # keeps what the backward pass needs
        False,  # bidirectional
        False,  # batch first
    )
    return *at_lengths(outputs, hidden, lengths), memories[0]
