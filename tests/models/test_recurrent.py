"""The recurrent layer is its equations, by a NumPy twin and torch.nn, on whichever engine."""

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tilth.errors import DataError, SettingsError
from tilth.models.next_word import NextWordModel
from tilth.models.recurrent import CELLS, Recurrent, State

NAMES = tuple(CELLS)
MEMORY = ("lstm", "cifg")
KINDS = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "projected": (nn.LSTM, {"proj_size": 4}),
    "no-bias": (nn.GRU, {"bias": False}),
}
# oneDNN, which "auto" finds for an LSTM and a CIFG, has float32 only.
ENGINES = [("steps", torch.float64), ("scan", torch.float64), ("auto", torch.float32)]
CLOSE = {torch.float64: 1e-12, torch.float32: 5e-6}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_twin(name, layer, inputs, lengths):
    """One layer, one direction: a plain loop over sequences, steps and the textbook's equations."""
    weights = [None if w is None else w.detach().numpy() for w in layer.directions[0].weights]
    w, u, b, b_n, p = weights
    outputs = np.zeros((*inputs.shape[:2], u.shape[1]))
    last_h, last_c = [], []
    for row, length in enumerate(lengths):
        h, c = np.zeros(u.shape[1]), np.zeros(layer.num_hidden)
        for t in range(length):
            drive, back = w @ inputs[row, t] + b, u @ h
            if name == "elman":
                h = np.tanh(drive + back)
            elif name == "elman-relu":
                h = np.maximum(drive + back, 0)
            elif name == "gru":
                (d_r, d_z, d_n), (u_r, u_z, u_n) = np.split(drive, 3), np.split(back, 3)
                r, z = sigmoid(d_r + u_r), sigmoid(d_z + u_z)
                h = z * h + (1 - z) * np.tanh(d_n + r * (u_n + b_n))
            else:
                *i, f, g, o = np.split(drive + back, CELLS[name].blocks)
                f, g, o = sigmoid(f), np.tanh(g), sigmoid(o)
                c = f * c + (sigmoid(i[0]) if i else 1 - f) * g
                h = o * np.tanh(c)
                h = h if p is None else p @ h
            outputs[row, t] = h
        last_h.append(h)
        last_c.append(c)
    return outputs, np.array(last_h), np.array(last_c)


def random_biases(layer):
    """Zero biases would hide a bias in the wrong place."""
    for name, parameter in layer.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    return layer


def total(outputs, state, weights):
    """A number that depends on every output and on the last state."""
    return (outputs * weights).sum() + sum(
        part.square().sum() for part in state if part is not None
    )


def torch_gradients(module, suffix):
    """Gradients of a `torch.nn` layer under the names that ours has for the same weights."""
    names = {"input": "weight_ih", "hidden": "weight_hh"}
    if module.bias:
        names["bias"] = "bias_ih"
    if module.proj_size:
        names["projection"] = "weight_hr"
    found = {own: getattr(module, f"{name}{suffix}").grad for own, name in names.items()}
    if module.bias and module.mode == "GRU":
        found["candidate_bias"] = getattr(module, f"bias_hh{suffix}").grad[-module.hidden_size :]
    return found


@pytest.mark.parametrize(("engine", "dtype"), ENGINES)
@pytest.mark.parametrize(
    ("name", "projected"), [*((name, None) for name in NAMES), ("lstm", 3), ("cifg", 7)]
)
def test_equals_numpy_twin(name, projected, engine, dtype):
    torch.manual_seed(1)
    layer = random_biases(Recurrent(name, 5, 7, num_projected=projected, engine=engine)).to(dtype)
    inputs, lengths = torch.randn(4, 6, 5, dtype=dtype), torch.tensor([6, 0, 3, 1])
    outputs, state = layer(inputs, lengths)
    expected, hidden, memory = numpy_twin(name, layer, inputs.double().numpy(), lengths.tolist())
    tolerance = CLOSE[dtype]
    np.testing.assert_allclose(outputs.detach(), expected, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(state.hidden[0].detach(), hidden, atol=tolerance, rtol=tolerance)
    if name in MEMORY:
        np.testing.assert_allclose(state.memory[0].detach(), memory, atol=tolerance, rtol=tolerance)
    else:
        assert state.memory is None


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("engine", "dtype"), ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_torch_with_gradients(kind, engine, dtype):
    torch.manual_seed(2)
    make, options = KINDS[kind]
    peer = make(5, 7, num_layers=2, bidirectional=True, batch_first=True, dtype=dtype, **options)
    layer = Recurrent.from_torch(peer)
    layer.engine = engine
    inputs = torch.randn(3, 6, 5, dtype=dtype, requires_grad=True)
    start = torch.randn(4, 3, layer.num_outputs, dtype=dtype, requires_grad=True)
    memory = torch.randn(4, 3, 7, dtype=dtype, requires_grad=True) if make is nn.LSTM else None
    theirs, their_state = peer(inputs, start if memory is None else (start, memory))
    ours, our_state = layer(inputs, state=State(start, memory))
    torch.testing.assert_close(ours, theirs, atol=CLOSE[dtype], rtol=CLOSE[dtype])

    weights = torch.randn_like(ours)
    total(theirs, (their_state,) if memory is None else their_state, weights).backward()
    wanted = [tensor.grad.clone() for tensor in (inputs, start, memory) if tensor is not None]
    inputs.grad = start.grad = None
    if memory is not None:
        memory.grad = None
    total(ours, our_state, weights).backward()
    got = [tensor.grad for tensor in (inputs, start, memory) if tensor is not None]
    for number, suffix in enumerate(("_l0", "_l0_reverse", "_l1", "_l1_reverse")):
        for name, expected in torch_gradients(peer, suffix).items():
            wanted.append(expected)
            got.append(getattr(layer.directions[number], name).grad)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=20 * CLOSE[dtype], rtol=20 * CLOSE[dtype])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("engine", "dtype"), ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_equal_packed_sequences(kind, engine, dtype):
    torch.manual_seed(3)
    make, options = KINDS[kind]
    peer = make(4, 5, num_layers=2, bidirectional=True, batch_first=True, dtype=dtype, **options)
    layer = Recurrent.from_torch(peer)
    layer.engine = engine
    inputs = torch.randn(4, 6, 4, dtype=dtype, requires_grad=True)
    lengths = torch.tensor([2, 6, 1, 4])
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    theirs, their_state = peer(packed)
    theirs, _ = pad_packed_sequence(theirs, batch_first=True)
    ours, our_state = layer(inputs, lengths)
    torch.testing.assert_close(ours, theirs, atol=CLOSE[dtype], rtol=CLOSE[dtype])
    their_state = their_state if make is nn.LSTM else (their_state,)
    for one, other in zip([s for s in our_state if s is not None], their_state, strict=True):
        torch.testing.assert_close(one, other, atol=CLOSE[dtype], rtol=CLOSE[dtype])
    weights = torch.randn_like(ours)
    (expected,) = torch.autograd.grad(total(theirs, their_state, weights), inputs)
    (gradient,) = torch.autograd.grad(total(ours, our_state, weights), inputs)
    torch.testing.assert_close(gradient, expected, atol=CLOSE[dtype] * 20, rtol=CLOSE[dtype] * 20)


@pytest.mark.parametrize("name", NAMES)
def test_takes_and_gives_packed_sequences(name):
    layer = Recurrent(name, 4, 5, bidirectional=True)
    inputs, lengths = torch.randn(3, 6, 4), torch.tensor([2, 6, 4])
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, state = layer(packed)
    expected, expected_state = layer(inputs, lengths)
    assert torch.equal(outputs.batch_sizes, packed.batch_sizes)
    unpacked, _ = pad_packed_sequence(outputs, batch_first=True)
    assert torch.equal(unpacked, expected)
    assert torch.equal(state.hidden, expected_state.hidden)


@pytest.mark.parametrize("engine", ["steps", "scan"])
@pytest.mark.parametrize(
    ("name", "projected"), [*((name, None) for name in NAMES), ("lstm", 2), ("cifg", 2)]
)
def test_gradcheck(name, projected, engine):
    torch.manual_seed(4)
    layer = random_biases(
        Recurrent(name, 2, 3, num_projected=projected, bidirectional=True, engine=engine)
    ).double()
    inputs = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 1])
    names = [name for name, _ in layer.named_parameters()]

    def run(inputs, *weights):
        outputs, state = functional_call(
            layer, dict(zip(names, weights, strict=True)), (inputs, lengths)
        )
        return outputs, *(part for part in state if part is not None)

    weights = [parameter.detach().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(run, (inputs, *weights))


@pytest.mark.parametrize("name", NAMES)
def test_second_derivative_is_that_of_the_steps(name):
    torch.manual_seed(5)
    layer = Recurrent(name, 3, 4)  # float32: an LSTM and a CIFG run in oneDNN
    inputs, lengths = torch.randn(2, 5, 3, requires_grad=True), torch.tensor([5, 2])
    penalties = []
    for layer.engine in ("auto", "scan", "steps"):
        outputs, _ = layer(inputs, lengths)
        (slope,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
        penalties.append(torch.autograd.grad(slope.square().sum(), layer.parameters()))
    for fast in penalties[:2]:
        for one, other in zip(fast, penalties[2], strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@given(
    name=st.sampled_from(NAMES),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    filling=st.sampled_from([0.0, 1e6, float("nan"), float("inf")]),
    sides=st.booleans(),
    seed=st.integers(0, 99),
)
def test_padding_changes_nothing(name, lengths, filling, sides, seed):
    torch.manual_seed(seed)
    layer = Recurrent(name, 3, 4, num_layers=2, bidirectional=sides)
    lengths = torch.tensor(lengths)
    inputs = torch.randn(len(lengths), 6, 3)
    padding = torch.arange(6) >= lengths[:, None]
    filled = inputs.masked_fill(padding[..., None], filling).requires_grad_()
    outputs, state = layer(filled, lengths)
    assert not outputs[padding].any()
    (gradient,) = torch.autograd.grad(total(outputs, state, 1.0), filled)
    assert not gradient[padding].any()
    assert gradient.isfinite().all()
    for row, length in enumerate(lengths.tolist()):
        alone, last = layer(inputs[row : row + 1, :length])
        torch.testing.assert_close(outputs[row, :length], alone[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(state.hidden[:, row], last.hidden[:, 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("engine", ["steps", "scan"])
def test_a_growing_state_stops_at_its_length(engine):
    layer = Recurrent("elman-relu", 1, 1, engine=engine)
    with torch.no_grad():
        layer.directions[0].hidden.fill_(3.0)  # 3^300 is not a float32
        layer.directions[0].bias.fill_(1.0)
    outputs, state = layer(torch.ones(1, 300, 1), torch.tensor([2]))
    assert outputs.isfinite().all()
    state.hidden.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@given(name=st.sampled_from(NAMES), seed=st.integers(0, 99))
def test_backwards_is_forwards_over_the_reversed_input(name, seed):
    torch.manual_seed(seed)
    both = Recurrent(name, 3, 4, bidirectional=True)
    one = Recurrent(name, 3, 4)
    one.directions[0].load_state_dict(both.directions[1].state_dict())
    inputs = torch.randn(2, 5, 3)
    outputs, state = both(inputs)
    reversed_outputs, last = one(inputs.flip(1))
    torch.testing.assert_close(outputs[..., 4:], reversed_outputs.flip(1))
    torch.testing.assert_close(state.hidden[1], last.hidden[0])


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_from_a_state(name):
    layer = Recurrent(name, 3, 4, num_layers=2)
    inputs = torch.randn(2, 7, 3)
    whole, end = layer(inputs)
    first, state = layer(inputs[:, :4])
    second, last = layer(inputs[:, 4:], state=state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(last.hidden, end.hidden)


@pytest.mark.parametrize("name", NAMES)
def test_per_example_gradients_under_vmap(name):
    torch.manual_seed(6)
    layer = Recurrent(name, 3, 4, bidirectional=True)
    inputs, lengths = torch.randn(5, 6, 3), torch.tensor([6, 1, 4, 0, 3])

    def one_loss(weights, sequence, length):
        outputs, _ = functional_call(layer, weights, (sequence[None], length[None]))
        return outputs.square().sum()

    weights = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    each = vmap(grad(one_loss), in_dims=(None, 0, 0))(weights, inputs, lengths)
    for row in range(5):
        layer.zero_grad()
        outputs, _ = layer(inputs[row : row + 1], lengths[row : row + 1])
        outputs.square().sum().backward()
        for parameter_name, parameter in layer.named_parameters():
            torch.testing.assert_close(
                each[parameter_name][row], parameter.grad, atol=1e-5, rtol=1e-4
            )


def test_clients_with_weights_of_their_own_under_vmap():
    torch.manual_seed(7)
    models = [NextWordModel(20, num_embedded=4, num_hidden=6) for _ in range(3)]
    tokens = torch.randint(1, 20, (3, 2, 5))
    weights, buffers = torch.func.stack_module_state(models)
    scores = vmap(lambda w, t: functional_call(models[0], w, (t,))[0])(weights | buffers, tokens)
    for client, model in enumerate(models):
        torch.testing.assert_close(scores[client], model(tokens[client])[0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gru", {}),
        *(
            pytest.param(name, options, marks=pytest.mark.slow)
            for name, options in [
                *((name, {"bidirectional": True}) for name in NAMES),
                ("cifg", {"num_projected": 2}),
                ("lstm", {"num_layers": 2}),
            ]
        ),
    ],
)
def test_onnx_takes_any_batch_and_length(name, options, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(8)
    layer = Recurrent(name, 3, 4, **options).eval()
    monkeypatch.setattr(
        jaxtyping.config, "jaxtyping_disable", True
    )  # shape checks cannot be traced
    batch, steps = torch.export.Dim("batch"), torch.export.Dim("steps")
    program = torch.onnx.export(
        layer,
        (torch.randn(2, 5, 3), torch.tensor([5, 3])),
        dynamo=True,
        dynamic_shapes=({0: batch, 1: steps}, {0: batch}),
        verbose=False,
    )
    program.save(tmp_path / "layer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "layer.onnx")
    inputs, lengths = torch.randn(4, 9, 3), torch.tensor([9, 1, 0, 6])
    names = [entry.name for entry in session.get_inputs()]
    values = session.run(None, dict(zip(names, (inputs.numpy(), lengths.numpy()), strict=True)))
    outputs, state = layer(inputs, lengths)
    expected = [outputs, *(part for part in state if part is not None)]
    for value, tensor in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, tensor.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_starting_weights(name):
    torch.manual_seed(9)
    direction = Recurrent(name, 30, 40).directions[0]
    blocks = CELLS[name].blocks
    for block in direction.hidden.chunk(blocks):
        torch.testing.assert_close(block @ block.T, torch.eye(40), atol=1e-5, rtol=0)
    bound = (6 / (30 + 40)) ** 0.5  # Glorot and Bengio's, of one block
    assert 0.95 * bound < direction.input.abs().max() <= bound
    ones = [bool((block == 1).all()) for block in direction.bias.chunk(blocks)]
    assert ones == [number == CELLS[name].forget for number in range(blocks)]
    assert direction.bias.sum() == (0 if CELLS[name].forget is None else 40)


def test_dropout_is_between_layers_and_in_training_only():
    torch.manual_seed(10)
    layer = Recurrent("gru", 3, 4, num_layers=2, dropout=0.5)
    inputs = torch.randn(2, 5, 3)
    assert not torch.equal(layer(inputs)[0], layer(inputs)[0])
    first, again = layer(inputs)[1].hidden, layer(inputs)[1].hidden
    assert torch.equal(first[0], again[0])  # the first layer is before it
    layer.eval()
    assert torch.equal(layer(inputs)[0], layer(inputs)[0])


def test_computes_in_float32_under_autocast():
    torch.manual_seed(11)
    for name in ("elman", "lstm"):
        layer = Recurrent(name, 3, 4)
        inputs = torch.randn(2, 5, 3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs, _ = layer(inputs)
        assert torch.equal(outputs, layer(inputs)[0])


@pytest.mark.parametrize("engine", ["auto", "scan", "steps"])
@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_nothing_in_gives_nothing_out(shape, engine):
    outputs, state = Recurrent("lstm", 3, 4, bidirectional=True, engine=engine)(torch.ones(shape))
    assert outputs.shape == (*shape[:2], 8)
    assert not state.hidden.any()


def test_keyboard_model_has_the_published_size():
    with torch.device("meta"):
        model = NextWordModel()
    embedding, recurrent, projection = 10_000 * 96, 3 * 670 * (96 + 96 + 1), 670 * 96
    assert sum(p.numel() for p in model.parameters()) == embedding + recurrent + projection
    assert embedding + recurrent + projection == 1_412_250  # the paper's 1.4 million


def test_tied_embedding_is_one_tensor():
    model = NextWordModel(30, num_embedded=4, num_hidden=6)
    scores, _ = model(torch.tensor([[3, 9]]))
    assert scores[..., 0].eq(-torch.inf).all()
    scores[0, 1, 5].backward()
    touched = model.embedding.weight.grad.any(dim=1).nonzero().flatten().tolist()
    assert touched == [3, 5, 9]  # read at the input, read at the output


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("ltsm", 3, 4), {}, ("unknown cell", "ltsm", "lstm")),
        (("gru", 3, 4), {"num_projected": 2}, ("cannot be projected", "lstm, cifg")),
        (("gru", 3, 4), {"engine": "cudnn"}, ("unknown engine", "cudnn")),
    ],
)
def test_settings_that_make_no_layer_are_refused(arguments, options, words):
    with pytest.raises(SettingsError) as caught:
        Recurrent(*arguments, **options)
    assert all(word in str(caught.value) for word in words)


def test_onednn_is_refused_where_it_cannot_run():
    with pytest.raises(SettingsError, match="oneDNN cannot run"):
        Recurrent("gru", 3, 4, engine="onednn")(torch.randn(1, 2, 3))


@pytest.mark.parametrize("lengths", [[3, -1], [6, 1]])
def test_lengths_outside_the_sequence_are_refused(lengths):
    with pytest.raises(DataError, match="lengths do not fit"):
        Recurrent("gru", 3, 4)(torch.randn(2, 5, 3), torch.tensor(lengths))
