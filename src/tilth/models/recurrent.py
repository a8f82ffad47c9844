"""A plain recurrent layer: Elman network, GRU, LSTM, and the CIFG-LSTM of keyboards.

A recurrent layer reads a sequence from its first step to its last and carries a state along. What
one step does is one function here, `elman_step` to `cifg_step`, written as its equation; the rest
of the file feeds these functions. `tilth.models.recurrent_scan` and `recurrent_onednn` compute the
same faster and are tested against them.

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
    reset gate scales, as in cuDNN). Starting weights: Xavier for each block of W (Glorot, Bengio,
    2010), orthogonal for each block of U (Saxe et al., 2014, arXiv 1312.6120v3), biases 0 but 1 for
    the forget gate (Jozefowicz, Zaremba, Sutskever, 2015): memory lasts before anything is learned.
Checked by: `test_equals_numpy_twin`, `test_equals_torch_with_gradients`,
    `test_lengths_equal_packed_sequences`, `test_gradcheck`, `test_padding_changes_nothing`,
    `test_starting_weights`
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import dropout, linear
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tilth.errors import DataError, SettingsError
from tilth.models.recurrent_onednn import onednn_lstm, onednn_takes
from tilth.models.recurrent_scan import scan
from tilth.models.twice_differentiable import twice_differentiable

__all__ = ["CELLS", "Cell", "Recurrent", "State"]

ENGINES = ("auto", "steps", "scan", "onednn")


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
        torch_mode: what `torch.nn` calls the same cell, where it has it.
    """

    step: Callable[[Tensor, State, Weights], State]
    blocks: int
    forget: int | None = None
    has_memory: bool = False
    torch_mode: str | None = None


relu_step = functools.partial(elman_step, activation=torch.relu)
CELLS: dict[str, Cell] = {
    "elman": Cell(elman_step, 1, torch_mode="RNN_TANH"),
    "elman-relu": Cell(relu_step, 1, torch_mode="RNN_RELU"),
    "gru": Cell(gru_step, 3, torch_mode="GRU"),
    "lstm": Cell(lstm_step, 4, forget=1, has_memory=True, torch_mode="LSTM"),
    "cifg": Cell(cifg_step, 3, forget=0, has_memory=True),
}


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
            the ``"steps"`` above, which alone run under `torch.func`, export and compilation.

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
        plain = not _can_leave_python(inputs)
        if lengths is not None:
            if not plain:
                _check_lengths(lengths, inputs)
            inputs = torch.where(_alive(lengths, inputs)[..., None], inputs, 0)
        with torch.autocast(inputs.device.type, enabled=False):  # a long sum needs float32
            return self._layers(inputs.to(self.direction(0).input.dtype), lengths, state, plain)

    def _layers(
        self, inputs: Tensor, lengths: Tensor | None, state: State | None, plain: bool
    ) -> tuple[Tensor, State]:
        run = self._runner(inputs, plain)
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

    def _runner(self, inputs: Tensor, plain: bool) -> Callable[..., tuple[Tensor, State]]:
        step, engine = CELLS[self.cell].step, self.engine
        if plain or engine == "steps" or not inputs.shape[0] * inputs.shape[1]:
            return functools.partial(run_steps, step)
        projects = self.num_outputs != self.num_hidden
        fits = not projects and onednn_takes(self.cell, inputs)
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
        sides = ", bidirectional" if self.num_directions == 2 else ""
        return f"{self.cell}, {self.num_inputs} -> {self.num_outputs}, {self.num_layers=}{sides}"


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
        is_gru = cell.step is gru_step
        self.candidate_bias = nn.Parameter(torch.zeros(num_hidden)) if is_gru else None
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


def run_steps(
    step: Callable[[Tensor, State, Weights], State],
    inputs: Float[Tensor, "b t c"],
    lengths: Int64[Tensor, "b"] | None,
    state: State,
    weights: Weights,
) -> tuple[Float[Tensor, "b t p"], State]:
    """Step after step, as it reads; a sequence that has ended keeps its state and outputs zeros."""
    drives = linear(inputs, weights.input, weights.bias).transpose(0, 1)  # one product for all t
    alive = _alive(lengths, inputs).T[..., None]

    def one(before: State, now: tuple[Tensor, Tensor]) -> tuple[State, Tensor]:
        drive, is_alive = now
        after = step(drive, before, weights)
        kept: list[Any] = [
            None if new is None else torch.where(is_alive, new, old)
            for new, old in zip(after, before, strict=True)
        ]
        return State(*kept), torch.where(is_alive, after.hidden, 0)

    if torch.compiler.is_exporting():
        return _exported_loop(one, state, drives, alive)
    outputs = []
    for now in zip(drives, alive, strict=True):
        state, output = one(state, now)
        outputs.append(output)
    if not outputs:
        return inputs.new_zeros(len(inputs), 0, state.hidden.shape[-1]), state
    return torch.stack(outputs, dim=1), state


def _exported_loop(
    one: Callable, state: State, drives: Tensor, alive: Tensor
) -> tuple[Tensor, State]:
    """The loop as one node, ONNX's Scan, so that the exported model takes any number of steps."""
    from torch._higher_order_ops.scan import scan as scan_node

    def body(before: list[Tensor], now: tuple[Tensor, Tensor]) -> tuple[list[Tensor], Tensor]:
        after, output = one(State(*before, *[None] * (2 - len(before))), now)
        return [value for value in after if value is not None], output

    carried = [value for value in state if value is not None]
    last, outputs = scan_node(body, carried, (drives, alive))
    return outputs.transpose(0, 1), State(*last)


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


def _alive(lengths: Tensor | None, inputs: Tensor) -> Bool[Tensor, "b t"]:
    batch, steps = inputs.shape[:2]
    if lengths is None:
        return torch.ones(batch, steps, dtype=torch.bool, device=inputs.device)
    return torch.arange(steps, device=inputs.device) < lengths[:, None]


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


def _can_leave_python(inputs: Tensor) -> bool:
    """Whether nothing follows the steps: functional transforms, export and compilation do."""
    is_transformed = torch._C._are_functorch_transforms_active()
    return not (is_transformed or torch.compiler.is_compiling() or torch.jit.is_tracing())


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
