"""ONNX's recurrent networks, step by step: RNN, GRU and LSTM in one and in both directions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_graph import Node

__all__ = ["OPERATORS"]

Activation = Callable[[Tensor], Tensor]
Step = Callable[..., tuple[Tensor, ...]]


def _activation(name: str, alpha: float | None, beta: float | None) -> Activation:
    """One of ONNX's eleven, with its parameters."""

    def value(given: float | None, default: float) -> float:
        return default if given is None else given

    known: dict[str, Activation] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softsign": functional.softsign,
        "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
        "affine": lambda x: value(alpha, 1.0) * x + value(beta, 0.0),
        "scaledtanh": lambda x: value(alpha, 1.0) * torch.tanh(value(beta, 1.0) * x),
        "hardsigmoid": lambda x: (value(alpha, 0.2) * x + value(beta, 0.5)).clamp(0, 1),
        "leakyrelu": lambda x: functional.leaky_relu(x, value(alpha, 0.01)),
        "thresholdedrelu": lambda x: torch.where(x > value(alpha, 1.0), x, torch.zeros_like(x)),
        "elu": lambda x: functional.elu(x, value(alpha, 1.0)),
    }
    if name.lower() not in known:
        raise DataError(
            "a recurrent layer of the ONNX model has an activation that ONNX does not know",
            expected=", ".join(sorted(known)),
            got=name,
        )
    return known[name.lower()]


def _activations(node: Node, default: Sequence[str]) -> list[list[Activation]]:
    """Those of each direction."""
    directions = 2 if node.option("direction", "forward") == "bidirectional" else 1
    names = list(node.option("activations") or list(default) * directions)
    alphas = list(node.option("activation_alpha") or [])
    betas = list(node.option("activation_beta") or [])
    made = [
        _activation(
            name,
            alphas[place] if place < len(alphas) else None,
            betas[place] if place < len(betas) else None,
        )
        for place, name in enumerate(names)
    ]
    return [made[: len(default)], made[len(default) :]]


@dataclass(frozen=True, kw_only=True)
class Direction:
    """What one direction of a layer computes with.

    Attributes:
        weight: [gates h, in] of the input.
        recurrent: [gates h, h] of the state.
        bias: [2 gates h] of both.
        peephole: [3 h] of the cell of an LSTM.
        activations: in the order of the standard.
        clip: bound of what goes into an activation.
    """

    weight: Tensor
    recurrent: Tensor
    bias: Tensor
    peephole: Tensor | None
    activations: list[Activation]
    clip: float | None

    def bounded(self, x: Tensor) -> Tensor:
        """x inside +-clip."""
        return x if self.clip is None else x.clamp(-self.clip, self.clip)


def _rnn_step(node: Node, way: Direction, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    _, inner = way.bias.chunk(2)
    return (way.activations[0](way.bounded(x + h @ way.recurrent.T + inner)),)


def _gru_step(node: Node, way: Direction, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    x_update, x_reset, x_new = x.chunk(3, -1)
    of_update, of_reset, of_new = way.recurrent.chunk(3)
    b_update, b_reset, b_new = way.bias.chunk(2)[1].chunk(3)
    f, g = way.activations
    update = f(way.bounded(x_update + h @ of_update.T + b_update))
    reset = f(way.bounded(x_reset + h @ of_reset.T + b_reset))
    if node.option("linear_before_reset", 0):
        new = g(way.bounded(x_new + reset * (h @ of_new.T + b_new)))
    else:
        new = g(way.bounded(x_new + (reset * h) @ of_new.T + b_new))
    return ((1 - update) * new + update * h,)


def _lstm_step(node: Node, way: Direction, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    gates = x + h @ way.recurrent.T + way.bias.chunk(2)[1]
    enter, leave, forget, new = gates.chunk(4, -1)
    f, g, last = way.activations
    of_enter, of_leave, of_forget = (
        (0.0, 0.0, 0.0) if way.peephole is None else way.peephole.chunk(3)
    )
    enter = f(way.bounded(enter + of_enter * c))
    keep = 1 - enter if node.option("input_forget", 0) else f(way.bounded(forget + of_forget * c))
    cell = keep * c + enter * g(way.bounded(new))
    out = f(way.bounded(leave + of_leave * cell))
    return out * last(cell), cell


def _run(
    node: Node, step: Step, way: Direction, x: Tensor, states: list[Tensor],
    lengths: Tensor | None, backwards: bool,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """All steps [s, b, h] of one direction, and the last states [b, h]."""
    projected = x @ way.weight.T + way.bias.chunk(2)[0]
    steps = range(x.shape[0])
    results: list[Tensor] = [x] * len(steps)
    for time in reversed(steps) if backwards else steps:
        new = step(node, way, projected[time], *states)
        if lengths is not None:
            lives = (time < lengths)[:, None]
            states = [torch.where(lives, n, old) for n, old in zip(new, states, strict=True)]
            results[time] = torch.where(lives, new[0], torch.zeros_like(new[0]))
        else:
            states, results[time] = list(new), new[0]
    return torch.stack(results), states


def _recurrent(step: Step, default: Sequence[str], gates: int) -> Callable[..., tuple[Tensor, ...]]:
    """The operator of one kind of step."""

    def operator(
        node: Node, x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor | None = None,
        lengths: Tensor | None = None, *rest: Tensor | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        batch_first = bool(node.option("layout", 0))
        x = x.transpose(0, 1) if batch_first else x
        hidden = recurrent.shape[-1]
        if bias is None:
            bias = x.new_zeros(weight.shape[0], 2 * gates * hidden)
        starts = _starts(x, weight.shape[0], hidden, rest, len(default), batch_first)
        peepholes = rest[2] if len(rest) > 2 else None
        backwards = node.option("direction", "forward") == "reverse"
        lengths = None if lengths is None else lengths.to(x.device)
        ways, finals = [], []
        for place in range(weight.shape[0]):
            way = Direction(
                weight=weight[place],
                recurrent=recurrent[place],
                bias=bias[place],
                peephole=None if peepholes is None else peepholes[place],
                activations=_activations(node, default)[place],
                clip=node.option("clip"),
            )
            states = [start[place] for start in starts]
            steps, last = _run(node, step, way, x, states, lengths, backwards or place == 1)
            ways.append(steps)
            finals.append(last)
        return _results(ways, finals, batch_first)

    return operator


def _starts(
    x: Tensor, directions: int, hidden: int, rest: Sequence[Tensor | None], activations: int,
    batch_first: bool,
) -> list[Tensor]:  # fmt: skip
    """First states [directions, b, h]: of an LSTM two, zero where they are not given."""
    starts = []
    for place in range(2 if activations == 3 else 1):
        given = rest[place] if place < len(rest) else None
        if given is None:
            given = x.new_zeros(directions, x.shape[1], hidden)
        elif batch_first:
            given = given.transpose(0, 1)
        starts.append(given)
    return starts


def _results(
    ways: list[Tensor], finals: list[list[Tensor]], batch_first: bool
) -> tuple[Tensor, ...]:
    every = torch.stack(ways, 1)  # [s, directions, b, h]
    last = [torch.stack(states) for states in zip(*finals, strict=True)]
    if batch_first:
        return every.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last)
    return every, *last


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "RNN": _recurrent(_rnn_step, ["Tanh"], 1),
    "GRU": _recurrent(_gru_step, ["Sigmoid", "Tanh"], 3),
    "LSTM": _recurrent(_lstm_step, ["Sigmoid", "Tanh", "Tanh"], 4),
}
