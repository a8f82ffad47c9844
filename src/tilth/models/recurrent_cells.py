"""What a recurrent layer does at each step: Elman network, GRU, LSTM, and the keyboards' CIFG-LSTM.

A sequence is read from its first step to its last, and a state is carried along. One step is one
function, `elman_step` to `cifg_step`, written as its equation, and `run_steps` is the loop over
them. `tilth.models.recurrent_scan` and `recurrent_onednn` compute the same faster and are tested
against this.

Source: Elman, 1990, Finding Structure in Time, doi 10.1207/s15516709cog1402_1; Cho et al., 2014,
    arXiv 1406.1078v3 (GRU); Hochreiter, Schmidhuber, 1997, doi 10.1162/neco.1997.9.8.1735, and
    Gers, Schmidhuber, Cummins, 2000, doi 10.1162/089976600300015015 (LSTM, forget gate); Greff et
    al., 2017, LSTM: A Search Space Odyssey, arXiv 1503.04069v2 (CIFG: coupled input and forget
    gate); Sak, Senior, Beaufays, 2014, arXiv 1402.1128v1 (projection).
Follows: Elman's simple network -> `elman_step`; Cho's reset and update gates -> `gru_step`; Greff's
    LSTM without peepholes -> `lstm_step`; the same with i = 1 - f -> `cifg_step`; Sak's recurrent
    projection -> `projected`.
Symbols: drive = W x + b, (b, blocks * h); hidden = h, or r after the projection P; memory = c;
    weights.hidden = U (Greff: R); blocks lie in the order r z n, i f g o, f g o, where g is
    Greff's block input z.
Differs: one bias where `torch.nn` adds up two (the GRU's candidate keeps the second, which its
    reset gate scales, as in cuDNN).
Checked by: `test_equals_numpy_twin`, `test_equals_torch_with_gradients`,
    `test_lengths_equal_packed_sequences`, `test_gradcheck`, `test_padding_changes_nothing`
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import linear

__all__ = ["CELLS", "Cell", "State", "Weights", "alive", "run_steps"]


class State(NamedTuple):
    """What a layer carries from step to step: ``hidden``, and ``memory`` in an LSTM or CIFG.

    One step's is (b, h); a layer takes and gives (layers * directions, b, h), as `torch.nn` does.
    """

    hidden: Tensor
    memory: Any = None  # a Tensor where the cell has it


class Weights(NamedTuple):
    """The weights of one layer in one direction; `Recurrent` says what each is."""

    input: Tensor
    hidden: Tensor
    bias: Tensor
    candidate_bias: Any = None  # a Tensor in a GRU
    projection: Any = None  # a Tensor where the state is projected


def elman_step(
    drive: Float[Tensor, "b h"],
    before: State,
    weights: Weights,
    activation: Callable[[Tensor], Tensor] = torch.tanh,
) -> State:
    """h = tanh(W x + b + U h)."""
    return State(activation(drive + linear(before.hidden, weights.hidden)))


def gru_step(drive: Float[Tensor, "b three_h"], before: State, weights: Weights) -> State:
    """h = z h + (1 - z) n: the update gate z mixes the old state and a candidate n."""
    drive_r, drive_z, drive_n = drive.chunk(3, dim=-1)
    from_r, from_z, from_n = linear(before.hidden, weights.hidden).chunk(3, dim=-1)
    r = torch.sigmoid(drive_r + from_r)
    z = torch.sigmoid(drive_z + from_z)
    n = torch.tanh(drive_n + r * (from_n + weights.candidate_bias))
    return State(z * before.hidden + (1 - z) * n)


def lstm_step(drive: Float[Tensor, "b four_h"], before: State, weights: Weights) -> State:
    """c = f c + i g, h = o tanh(c): gates decide what is forgotten, written and shown."""
    i, f, g, o = (drive + linear(before.hidden, weights.hidden)).chunk(4, dim=-1)
    memory = torch.sigmoid(f) * before.memory + torch.sigmoid(i) * torch.tanh(g)
    return State(projected(torch.sigmoid(o) * torch.tanh(memory), weights), memory)


def cifg_step(drive: Float[Tensor, "b three_h"], before: State, weights: Weights) -> State:
    """c = f c + (1 - f) g, h = o tanh(c): what is forgotten makes room for what is written."""
    f, g, o = (drive + linear(before.hidden, weights.hidden)).chunk(3, dim=-1)
    f = torch.sigmoid(f)
    memory = f * before.memory + (1 - f) * torch.tanh(g)
    return State(projected(torch.sigmoid(o) * torch.tanh(memory), weights), memory)


def projected(hidden: Float[Tensor, "b h"], weights: Weights) -> Float[Tensor, "b p"]:
    """r = P h: a smaller state for the next step and the next layer; h itself where P is None."""
    return hidden if weights.projection is None else linear(hidden, weights.projection)


class Cell(NamedTuple):
    """A kind of step.

    Attributes:
        blocks: rows of W and U for each hidden unit.
        forget: which of the blocks is the forget gate.
        has_memory: whether the state is (h, c); only such cells can be projected.
        has_candidate_bias: whether the candidate has a bias behind its reset gate.
        torch_mode: what `torch.nn` calls the same cell, where it has it.
    """

    step: Callable[[Tensor, State, Weights], State]
    blocks: int
    forget: int | None = None
    has_memory: bool = False
    has_candidate_bias: bool = False
    torch_mode: str | None = None


relu_step = functools.partial(elman_step, activation=torch.relu)
CELLS: dict[str, Cell] = {
    "elman": Cell(elman_step, 1, torch_mode="RNN_TANH"),
    "elman-relu": Cell(relu_step, 1, torch_mode="RNN_RELU"),
    "gru": Cell(gru_step, 3, has_candidate_bias=True, torch_mode="GRU"),
    "lstm": Cell(lstm_step, 4, forget=1, has_memory=True, torch_mode="LSTM"),
    "cifg": Cell(cifg_step, 3, forget=0, has_memory=True),
}


def run_steps(
    step: Callable[[Tensor, State, Weights], State],
    inputs: Float[Tensor, "b t c"],
    lengths: Int64[Tensor, "b"] | None,
    state: State,
    weights: Weights,
) -> tuple[Float[Tensor, "b t p"], State]:
    """Step after step, as it reads; a sequence that has ended keeps its state and outputs zeros."""
    drives = linear(inputs, weights.input, weights.bias).transpose(0, 1)  # one product for all t
    within = alive(lengths, inputs).T[..., None]

    def one(before: State, now: tuple[Tensor, Tensor]) -> tuple[State, Tensor]:
        drive, is_alive = now
        after = step(drive, before, weights)
        kept: list[Any] = [
            None if new is None else torch.where(is_alive, new, old)
            for new, old in zip(after, before, strict=True)
        ]
        return State(*kept), torch.where(is_alive, after.hidden, 0)

    if torch.compiler.is_exporting():
        return _exported_loop(one, state, drives, within)
    outputs = []
    for now in zip(drives, within, strict=True):
        state, output = one(state, now)
        outputs.append(output)
    if not outputs:
        return inputs.new_zeros(len(inputs), 0, state.hidden.shape[-1]), state
    return torch.stack(outputs, dim=1), state


def _exported_loop(
    one: Callable, state: State, drives: Tensor, within: Tensor
) -> tuple[Tensor, State]:
    """The loop as one node, ONNX's Scan, so that the exported model takes any number of steps."""
    from torch._higher_order_ops.scan import scan as scan_node

    def body(before: list[Tensor], now: tuple[Tensor, Tensor]) -> tuple[list[Tensor], Tensor]:
        after, output = one(State(*before, *[None] * (2 - len(before))), now)
        return [value for value in after if value is not None], output

    carried = [value for value in state if value is not None]
    last, outputs = scan_node(body, carried, (drives, within))
    return outputs.transpose(0, 1), State(*last)


def alive(lengths: Tensor | None, inputs: Tensor) -> Bool[Tensor, "b t"]:
    """Which steps of ``inputs`` (b, t, c) lie within each sequence's length."""
    batch, steps = inputs.shape[:2]
    if lengths is None:
        return torch.ones(batch, steps, dtype=torch.bool, device=inputs.device)
    return torch.arange(steps, device=inputs.device) < lengths[:, None]
