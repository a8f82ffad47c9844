"""A plain recurrent layer: several layers, both directions, lengths, over the cells of one table.

What a step computes stands in `tilth.models.recurrent_cells`; this file holds the weights, feeds
the sequences, and chooses what runs them.

Starting weights: Xavier for each block of W (Glorot, Bengio, 2010, Understanding the Difficulty of
Training Deep Feedforward Neural Networks), orthogonal for each block of U (Saxe et al., 2014, arXiv
1312.6120v3), biases 0, but 1 for the forget gate (Jozefowicz, Zaremba, Sutskever, 2015, An
Empirical Exploration of Recurrent Network Architectures): memory lasts before anything is learned.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tilth.errors import DataError, SettingsError
from tilth.models.recurrent_cells import CELLS, Cell, State, Weights, alive, run_steps
from tilth.models.recurrent_onednn import onednn_lstm, onednn_takes
from tilth.models.recurrent_scan import scan
from tilth.models.twice_differentiable import twice_differentiable

__all__ = ["CELLS", "Recurrent", "State"]

ENGINES = ("auto", "steps", "scan", "onednn")


class Recurrent(nn.Module):
    """Sequences in, one output a step and the last state out.

    Args:
        cell: a name in `CELLS`.
        num_inputs: channels of a step's input.
        num_hidden: units, of the state and of each output.
        num_projected: channels of a projected state and output (LSTM and CIFG).
        num_layers: each layer reads the outputs of the one before it.
        bidirectional: a second set of weights reads each sequence from its end; outputs and states
            of the two stand side by side.
        dropout: share of the outputs between layers that training sets to zero.
        engine: ``"auto"`` takes the fastest that can run: oneDNN's kernel, the fused ``"scan"``, or
            the plain ``"steps"``, which alone run under `torch.func`, export and compilation.

    The weights lie in ``directions``, first layer first, forwards before backwards: ``input``
    (blocks * h, c), ``hidden`` (blocks * h, h), ``bias`` (blocks * h), a GRU's ``candidate_bias``
    (h) and a ``projection`` (p, h).

    Raises:
        SettingsError: an unknown cell or engine, a projection of a cell that has none.

    >>> layer = Recurrent("gru", num_inputs=8, num_hidden=16)
    >>> outputs, state = layer(torch.randn(2, 5, 8), torch.tensor([5, 3]))
    >>> outputs.shape, state.hidden.shape, outputs[1, 3:].abs().sum().item()
    (torch.Size([2, 5, 16]), torch.Size([1, 2, 16]), 0.0)
    """

    def __init__(
        self,
        cell: str,
        num_inputs: int,
        num_hidden: int,
        *,
        num_projected: int | None = None,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        _check_settings(cell, num_projected, engine)
        self.cell, self.engine, self.dropout = cell, engine, dropout
        self.num_inputs, self.num_hidden, self.num_layers = num_inputs, num_hidden, num_layers
        self.num_outputs = num_projected or num_hidden
        self.num_directions = 2 if bidirectional else 1
        wider = self.num_directions * self.num_outputs
        self.directions = nn.ModuleList(
            Direction(CELLS[cell], num_inputs if layer == 0 else wider, num_hidden, num_projected)
            for layer in range(num_layers)
            for _ in range(self.num_directions)
        )

    @classmethod
    def from_torch(cls, module: nn.RNNBase) -> "Recurrent":
        """A layer with the weights of a `torch.nn.RNN`, `GRU` or `LSTM`; it gives the same numbers.

        It is batch-first whatever the module is.
        """
        names = {cell.torch_mode: name for name, cell in CELLS.items() if cell.torch_mode}
        layer = cls(
            names[module.mode],
            module.input_size,
            module.hidden_size,
            num_projected=module.proj_size or None,
            num_layers=module.num_layers,
            bidirectional=module.bidirectional,
            dropout=module.dropout,
        )
        first = next(module.parameters())
        layer.to(first.device, first.dtype)
        for number in range(len(layer.directions)):
            depth, backwards = divmod(number, layer.num_directions)
            layer.direction(number).load_torch(
                module, f"_l{depth}" + ("_reverse" if backwards else "")
            )
        return layer.train(module.training)

    def forward(
        self,
        inputs: Float[Tensor, "b t c"] | PackedSequence,
        lengths: Int64[Tensor, "b"] | None = None,
        state: State | None = None,
    ) -> tuple[Tensor | PackedSequence, State]:
        """Outputs (b, t, directions * h) and the state after each sequence's last step.

        Args:
            lengths: steps of each sequence; what lies beyond is padding: it changes nothing, and
                the outputs there are zero. All t where it is None.
            state: to start from, of an earlier call; zeros where it is None.

        Raises:
            DataError: lengths that do not fit the inputs.
        """
        if isinstance(inputs, PackedSequence):
            padded, lengths = pad_packed_sequence(inputs, batch_first=True)
            outputs, last = self(padded, lengths.to(padded.device), state)
            return _packed_like(inputs, outputs, lengths), last
        traced = _is_traced()
        if lengths is not None:
            if not traced:
                _check_lengths(lengths, inputs)
            inputs = torch.where(alive(lengths, inputs)[..., None], inputs, 0)
        with torch.autocast(inputs.device.type, enabled=False):  # a long sum needs float32
            return self._layers(inputs.to(self.direction(0).input.dtype), lengths, state, traced)

    def _layers(
        self, inputs: Tensor, lengths: Tensor | None, state: State | None, traced: bool
    ) -> tuple[Tensor, State]:
        run = self._runner(inputs, traced)
        last: list[State] = []
        for layer in range(self.num_layers):
            if layer:
                inputs = dropout(inputs, self.dropout, self.training)
            sides = []
            for backwards in range(self.num_directions):
                number = layer * self.num_directions + backwards
                direction = self.direction(number)
                start = direction.start(inputs) if state is None else _entry(state, number)
                facing = _reversed(inputs, lengths) if backwards else inputs
                outputs, end = run(facing, lengths, start, direction.weights)
                sides.append(_reversed(outputs, lengths) if backwards else outputs)
                last.append(end)
            inputs = torch.cat(sides, dim=-1)
        hidden = torch.stack([one.hidden for one in last])
        if not CELLS[self.cell].has_memory:
            return inputs, State(hidden)
        return inputs, State(hidden, torch.stack([one.memory for one in last]))

    def _runner(self, inputs: Tensor, traced: bool) -> Callable[..., tuple[Tensor, State]]:
        step, engine = CELLS[self.cell].step, self.engine
        if traced or engine == "steps" or not inputs.shape[0] * inputs.shape[1]:
            return functools.partial(run_steps, step)
        is_plain = self.direction(0).projection is None
        fits = is_plain and onednn_takes(self.cell, inputs)
        if engine == "onednn" and not fits:
            raise SettingsError(
                "oneDNN cannot run this layer",
                expected="an LSTM or CIFG without projection, float32 on the CPU",
                got=f"{self.cell}, {inputs.dtype} on {inputs.device}",
                fix='engine="auto"',
            )
        uses_onednn = fits and engine != "scan"
        return functools.partial(run_fast, self.cell, onednn_lstm if uses_onednn else scan)

    def direction(self, number: int) -> "Direction":
        """The weights of one layer in one direction, in the order of the states."""
        return cast(Direction, self.directions[number])

    def extra_repr(self) -> str:
        layers = f", {self.num_layers} layers" if self.num_layers > 1 else ""
        sides = ", both directions" if self.num_directions == 2 else ""
        return f"{self.cell}, {self.num_inputs} -> {self.num_outputs}{layers}{sides}"


class Direction(nn.Module):
    """The weights of one layer in one direction, and their starting values."""

    def __init__(
        self, cell: Cell, num_inputs: int, num_hidden: int, num_projected: int | None
    ) -> None:
        super().__init__()
        self.cell, rows = cell, cell.blocks * num_hidden
        self.input = nn.Parameter(torch.empty(rows, num_inputs))
        self.hidden = nn.Parameter(torch.empty(rows, num_projected or num_hidden))
        self.bias = nn.Parameter(torch.zeros(rows))
        self.candidate_bias = None
        if cell.has_candidate_bias:
            self.candidate_bias = nn.Parameter(torch.zeros(num_hidden))
        self.projection = None
        if num_projected:
            self.projection = nn.Parameter(torch.empty(num_projected, num_hidden))
            nn.init.xavier_uniform_(self.projection)
        for block in self.input.chunk(cell.blocks):
            nn.init.xavier_uniform_(block)
        for block in self.hidden.chunk(cell.blocks):
            nn.init.orthogonal_(block)
        if cell.forget is not None:
            nn.init.ones_(self.bias.chunk(cell.blocks)[cell.forget])

    @property
    def weights(self) -> Weights:
        """The parameters, as the steps take them."""
        return Weights(self.input, self.hidden, self.bias, self.candidate_bias, self.projection)

    def start(self, inputs: Tensor) -> State:
        """A state of zeros."""
        units = self.hidden.shape[0] // self.cell.blocks
        hidden = inputs.new_zeros(inputs.shape[0], self.hidden.shape[1])
        return State(
            hidden, inputs.new_zeros(inputs.shape[0], units) if self.cell.has_memory else None
        )

    @torch.no_grad()
    def load_torch(self, module: nn.RNNBase, suffix: str) -> None:
        """Copy what ``module`` calls weight_ih, weight_hh, bias_ih, bias_hh and weight_hr."""
        self.input.copy_(getattr(module, f"weight_ih{suffix}"))
        self.hidden.copy_(getattr(module, f"weight_hh{suffix}"))
        self.bias.zero_()
        if self.projection is not None:
            self.projection.copy_(getattr(module, f"weight_hr{suffix}"))
        if module.bias:
            second = getattr(module, f"bias_hh{suffix}").clone()
            if self.candidate_bias is not None:
                candidate = second.chunk(self.cell.blocks)[-1]
                self.candidate_bias.copy_(candidate)
                candidate.zero_()
            self.bias.copy_(getattr(module, f"bias_ih{suffix}") + second)


def run_fast(
    cell: str,
    engine: Callable[..., tuple[Tensor, Tensor, Tensor | None]],
    inputs: Float[Tensor, "b t c"],
    lengths: Int64[Tensor, "b"] | None,
    state: State,
    weights: Weights,
) -> tuple[Float[Tensor, "b t p"], State]:
    """The same by ``engine``; its derivative's derivative, where one is asked for, by the steps."""

    def by_steps(x: Tensor, h: Tensor, c: Any, *w: Any) -> tuple[Tensor | None, ...]:
        outputs, last = run_steps(CELLS[cell].step, x, lengths, State(h, c), Weights(*w))
        return outputs, *last

    outputs, hidden, memory = twice_differentiable(
        functools.partial(engine, cell, lengths), by_steps, inputs, *state, *weights
    )
    return outputs, State(hidden, memory)


def _reversed(
    values: Float[Tensor, "b t c"], lengths: Int64[Tensor, "b"] | None
) -> Float[Tensor, "b t c"]:
    """Each sequence from its own last step to its first; its padding stays where it is."""
    if lengths is None:
        return values.flip(1)
    step = torch.arange(values.shape[1], device=values.device)
    from_end = lengths[:, None] - 1 - step
    source = torch.where(from_end >= 0, from_end, step)
    return values.gather(1, source[..., None].expand_as(values))


def _entry(state: State, number: int) -> State:
    memory = None if state.memory is None else state.memory[number]
    return State(state.hidden[number], memory)


def _packed_like(packed: PackedSequence, outputs: Tensor, lengths: Tensor) -> PackedSequence:
    order = packed.sorted_indices
    if order is not None:
        outputs, lengths = outputs[order], lengths[order.cpu()]
    data = pack_padded_sequence(outputs, lengths, batch_first=True).data
    return PackedSequence(data, packed.batch_sizes, order, packed.unsorted_indices)


def _is_traced() -> bool:
    """Whether a functional transform, an export or a compiler follows: these see only the steps."""
    is_transformed = torch._C._are_functorch_transforms_active()
    return is_transformed or torch.compiler.is_compiling() or torch.jit.is_tracing()


def _check_settings(cell: str, num_projected: int | None, engine: str) -> None:
    for name, got, known in (("cell", cell, tuple(CELLS)), ("engine", engine, ENGINES)):
        if got not in known:
            raise SettingsError(
                f"unknown {name} of a recurrent layer", expected=", ".join(known), got=got
            )
    if num_projected and not CELLS[cell].has_memory:
        raise SettingsError(
            f"the state of a cell '{cell}' cannot be projected",
            expected=", ".join(name for name, kind in CELLS.items() if kind.has_memory),
        )


def _check_lengths(lengths: Tensor, inputs: Tensor) -> None:
    steps = inputs.shape[1]
    if len(lengths) and (int(lengths.min()) < 0 or int(lengths.max()) > steps):
        raise DataError(
            "lengths do not fit the sequences",
            expected=f"0 to {steps}, the steps of the padded inputs",
            got=f"{int(lengths.min())} to {int(lengths.max())}",
        )
