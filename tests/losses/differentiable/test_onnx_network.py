"""An ONNX file as a module says what its origin says, with the origin's gradients."""

import contextlib
import copy
import io
import os
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_graphs import answers, graph_of, one_node, read_all, runtime
from torch import nn
from torch.nn import functional

from tilth.errors import DataError, PathEscapeError, TilthError
from tilth.losses.differentiable.onnx_network import OnnxNetwork


class SmallUNet(nn.Module):
    """Convolutions down and up, with every way of resizing that exporters write."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU())
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        fine = self.first(x)
        coarse = self.norm(functional.gelu(self.down(fine)))
        smooth = functional.interpolate(coarse, scale_factor=2, mode="bilinear")[:, :8]
        blocky = functional.interpolate(coarse, size=x.shape[-2:], mode="nearest")[:, :8]
        both = torch.cat([fine + self.up(coarse), smooth * blocky], 1)
        return torch.sigmoid(self.last(both)).mean((1, 2, 3))


class Recurrent(nn.Module):
    """Two layers in both directions."""

    def __init__(self, kind):
        super().__init__()
        self.layers = kind(5, 7, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(14, 1)

    def forward(self, x):
        return self.head(self.layers(x)[0].mean(1))[:, 0]


def classifier():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3), nn.ELU(), nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 2), nn.Softmax(1)),
    )


def transformer():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
    return nn.Sequential(layer, nn.Linear(16, 1))


ORIGINS = {
    "classifier": (classifier, (2, 3, 16, 16)),
    "u-net": (SmallUNet, (2, 1, 16, 16)),
    "transformer": (transformer, (2, 6, 16)),
    "lstm": (lambda: Recurrent(nn.LSTM), (2, 6, 5)),
    "gru": (lambda: Recurrent(nn.GRU), (2, 6, 5)),
}


def origin(name):
    torch.manual_seed(0)
    make, shape = ORIGINS[name]
    return make().eval(), torch.randn(shape)


def exported(module, x, *, dynamo=False):
    """As torch writes it."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            return torch.onnx.export(module, (x,), dynamo=True, verbose=False).model_proto
        axes = {"x": {0: "n"}}
        torch.onnx.export(
            module, (x,), stream, dynamo=False, opset_version=17, input_names=["x"],
            dynamic_axes=axes,
        )  # fmt: skip
    return onnx.load_from_string(stream.getvalue())


def gradient(module, x):
    x = x.clone().requires_grad_()
    result = module(x)
    weights = torch.linspace(1, 2, result.numel()).reshape(result.shape)
    return result.detach(), torch.autograd.grad((result * weights).sum(), x)[0]


@pytest.mark.parametrize("name", ORIGINS)
def test_network_of_torch_has_its_values_and_gradients(name):
    module, x = origin(name)
    model = exported(module, x)
    network = OnnxNetwork.read(model)
    values, slopes = gradient(network, x)
    np.testing.assert_allclose(values.numpy(), runtime(model, x.numpy())[0], atol=1e-5)
    expected, expected_slopes = gradient(module, x)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slopes, expected_slopes, rtol=1e-4, atol=1e-6)
    assert network.stops == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ORIGINS)
def test_network_of_the_newer_exporter_has_its_values_and_gradients(name):
    module, x = origin(name)
    network = OnnxNetwork.read(exported(module, x, dynamo=True))
    for ours, theirs in zip(gradient(network, x), gradient(module, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_batch_may_be_of_any_size():
    module, x = origin("u-net")
    network = OnnxNetwork.read(exported(module, x))
    more = torch.randn(5, 1, 16, 16)
    torch.testing.assert_close(network(more), module(more), rtol=1e-5, atol=1e-5)


def test_network_is_frozen_and_stays_in_evaluation():
    module, x = origin("classifier")
    network = OnnxNetwork.read(exported(module, x)).train()
    assert not network.training
    assert not list(network.parameters())
    assert not any(buffer.requires_grad for buffer in network.buffers())
    first = network(x)
    assert torch.equal(first, network(x))


def test_copy_and_saved_weights_say_the_same(tmp_path):
    module, x = origin("classifier")
    network = OnnxNetwork.read(exported(module, x))
    twin = copy.deepcopy(network)
    assert torch.equal(twin(x), network(x))
    for buffer in twin.buffers():
        buffer.zero_()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin(x), network(x))


def test_double_precision_is_that_of_the_module():
    module, x = origin("lstm")
    network = OnnxNetwork.read(exported(module, x)).double()
    values = network(x)
    assert values.dtype == torch.float64
    torch.testing.assert_close(values, module.double()(x.double()), rtol=1e-9, atol=1e-9)
    assert network.float()(x.double()).dtype == torch.float32


@pytest.mark.parametrize("name", ORIGINS)
def test_nothing_is_read_back_from_the_device(name):
    """A device without numbers stands for any: shapes are known, and devices are not mixed."""
    module, x = origin(name)
    network = OnnxNetwork.read(exported(module, x)).to("meta")
    found = network(x.to("meta").requires_grad_())
    assert found.device.type == "meta"
    assert found.shape == module(x).shape


def test_shapes_are_worked_out_once():
    nodes = [
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Mul", ["x", "c"], ["y"]),
    ]
    constants = {"a": np.float32([1, 2]), "b": np.float32([3, 4])}
    network = OnnxNetwork.read(graph_of(nodes, ["x"], ["y"], constants, shapes={"x": [2]}))
    assert [node.operator for node in network.graph.nodes] == ["Mul"]
    assert [buffer.tolist() for buffer in network.state_dict().values()] == [[4.0, 6.0]]


def test_weights_that_are_listed_as_inputs_are_none():
    """As older exporters wrote them."""
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    network = OnnxNetwork.read(graph_of(nodes, ["x", "w"], ["y"], {"w": np.float32([2.0])}))
    assert network.input_names == ("x",)
    assert network(torch.tensor([4.0])).tolist() == [8.0]


def test_comparison_that_only_chooses_is_no_stop():
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["up"]),
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("Where", ["up", "square", "x"], ["y"]),
    ]
    network = OnnxNetwork.read(graph_of(nodes, ["x"], ["y"], {"zero": np.float32(0)}))
    assert network.stops == ()
    x = torch.tensor([3.0, -3.0], requires_grad=True)
    assert torch.autograd.grad(network(x).sum(), x)[0].tolist() == [6.0, 1.0]


def test_stops_are_named():
    nodes = [
        helper.make_node("Round", ["x"], ["r"], name="rounded"),
        helper.make_node("ReduceSum", ["x"], ["s"]),
        helper.make_node("Add", ["r", "s"], ["y"]),
    ]
    network = OnnxNetwork.read(graph_of(nodes, ["x"], ["y"], shapes={"x": [4]}))
    assert network.stops == ("rounded",)


@pytest.mark.parametrize("operator", ["Round", "Sign", "Floor"])
def test_network_without_any_gradient_is_refused(operator):
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["a"]),
        helper.make_node(operator, ["a"], ["b"], name="the_end"),
        helper.make_node("Exp", ["b"], ["y"]),
    ]
    with pytest.raises(DataError, match="no gradient passes") as caught:
        OnnxNetwork.read(graph_of(nodes, ["x"], ["y"], shapes={"x": [4]}))
    assert "the_end" in str(caught.value)


def test_labels_are_left_out_and_scores_returned():
    model, _ = one_node(
        "LinearClassifier",
        {"x": np.zeros((2, 2), np.float32)},
        ("label", "scores"),
        domain="ai.onnx.ml",
        coefficients=[1.0, -1.0, 0.5, 2.0],
        intercepts=[0.0, 0.1],
        classlabels_strings=["no", "yes"],
    )
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    network = OnnxNetwork.read(model)
    assert network.output_names == ("scores",)
    assert network(torch.ones(3, 2)).shape == (3, 2)


def test_outputs_can_be_chosen():
    nodes = [helper.make_node("Exp", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    model = graph_of(nodes, ["x"], ["y", "z"])
    network = OnnxNetwork.read(model, outputs=["y"])
    assert [node.operator for node in network.graph.nodes] == ["Exp"]
    both = OnnxNetwork.read(model)(torch.zeros(1))
    assert [value.item() for value in both] == [1.0, -1.0]
    with pytest.raises(DataError, match="no such output"):
        OnnxNetwork.read(model, outputs=["w"])


def test_unknown_operators_are_all_named():
    nodes = [
        helper.make_node("Unique", ["x"], ["u"], name="first"),
        helper.make_node("Magic", ["u"], ["v"], name="second", domain="shop"),
        helper.make_node("Magic", ["v"], ["y"], name="third", domain="shop"),
    ]
    model = graph_of(nodes, ["x"], ["y"])
    model.opset_import.append(helper.make_opsetid("shop", 3))
    with pytest.raises(DataError) as caught:
        OnnxNetwork.read(model)
    assert "ai.onnx.Unique (opset 21) at first" in str(caught.value)
    assert "shop.Magic (opset 3) at second, third" in str(caught.value)


def test_unknown_operators_that_no_output_needs_do_not_matter():
    nodes = [
        helper.make_node("Unique", ["x"], ["u"]),
        helper.make_node("Exp", ["x"], ["y"]),
    ]
    assert OnnxNetwork.read(graph_of(nodes, ["x"], ["y", "u"]), outputs=["y"])


def test_functions_of_the_file_are_written_out():
    body = [helper.make_node("Mul", ["a", "a"], ["b"]), helper.make_node("Exp", ["b"], ["c"])]
    function = helper.make_function(
        "own", "Bell", ["a"], ["c"], body, [helper.make_opsetid("", 21)]
    )
    model = graph_of([helper.make_node("Bell", ["x"], ["y"], domain="own")], ["x"], ["y"])
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(function)
    x = torch.tensor([0.5], requires_grad=True)
    y = OnnxNetwork.read(model)(x)
    torch.testing.assert_close(torch.autograd.grad(y, x)[0], x.detach() * 2 * y.detach())


def branches(value):
    """A graph without inputs that multiplies the outer x by a constant of its own, called k."""
    return helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["r"])],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(value), "k")],
    )


def test_branches_keep_their_own_constants_apart():
    node = helper.make_node(
        "If", ["up"], ["y"], then_branch=branches(2.0), else_branch=branches(-3.0)
    )
    total = helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)
    up = helper.make_node("Greater", ["s", "zero"], ["up"])
    model = graph_of([total, up, node], ["x"], ["y"], {"zero": np.float32(0)}, shapes={"x": [2]})
    network = OnnxNetwork.read(model)
    for x, factor in (([1.0, 2.0], 2.0), ([-1.0, -2.0], -3.0)):
        point = torch.tensor(x, requires_grad=True)
        result = network(point)
        assert result.tolist() == [value * factor for value in x]
        assert torch.autograd.grad(result.sum(), point)[0].tolist() == [factor, factor]
    assert network.double()(torch.ones(2)).dtype == torch.float64


def test_loop_hands_its_gradient_on():
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Mul", ["state", "x"], ["next"]),
        ],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("going", TensorProto.BOOL, []),
            info("state", TensorProto.FLOAT, None),
        ],
        [info("still", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)
    model = graph_of([node], ["x"], ["y"], {"count": np.int64(2)}, shapes={"x": [1]})
    x = torch.tensor([3.0], requires_grad=True)
    y = OnnxNetwork.read(model)(x)
    assert y.item() == 27.0
    assert torch.autograd.grad(y, x)[0].item() == 27.0


def test_wrong_shapes_name_the_node():
    model = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="head")], ["x"], ["y"],
                     {"w": np.ones((3, 1), np.float32)}, shapes={"x": [None, 3]})  # fmt: skip
    network = OnnxNetwork.read(model)
    with pytest.raises(DataError, match="MatMul") as caught:
        network(torch.ones(2, 4))
    assert "'head'" in str(caught.value)
    assert "float32 [2, 4], float32 [3, 1]" in str(caught.value)
    with pytest.raises(DataError, match="number of inputs"):
        network(torch.ones(2, 3), torch.ones(1))


def with_outside_weight(folder, location):
    """A model whose weight is in another file."""
    weight = numpy_helper.from_array(np.full((300, 1), 2, np.float32), "w")
    model = graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], ["x"], ["y"], shapes={"x": [2, 300]}
    )
    data = weight.raw_data
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    model.graph.initializer.append(weight)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return data


def test_data_beside_the_file_is_read(tmp_path):
    data = with_outside_weight(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").write_bytes(data)
    network = OnnxNetwork.read(tmp_path / "model.onnx")
    assert network(torch.ones(2, 300))[:, 0].tolist() == [600.0, 600.0]


@pytest.mark.parametrize("kind", ["above", "absolute", "link"])
def test_data_outside_the_folder_is_refused(tmp_path, kind):
    folder = tmp_path / "models"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    location = {"above": "../secret.bin", "absolute": str(secret), "link": "link.bin"}[kind]
    secret.write_bytes(with_outside_weight(folder, location))
    if kind == "link":
        os.symlink(secret, folder / "link.bin")
    with pytest.raises(PathEscapeError, match="outside the model's folder"):
        OnnxNetwork.read(folder / "model.onnx")


def test_data_of_a_model_in_memory_is_asked_for(tmp_path):
    with_outside_weight(tmp_path, "weights.bin")
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    with pytest.raises(DataError, match="in another file"):
        OnnxNetwork.read(model)
    with pytest.raises(DataError, match="is missing"):
        OnnxNetwork.read(tmp_path / "model.onnx")


def test_files_that_are_no_model_are_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    with pytest.raises(DataError, match="no ONNX file"):
        OnnxNetwork.read(path)
    for content in (b"", b"not a model", b"\x08\x07\x12"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no ONNX model"):
            OnnxNetwork.read(path)


def test_damaged_files_raise_errors_that_teach(tmp_path):
    module, x = origin("transformer")
    content = exported(module, x).SerializeToString()
    path, chance = tmp_path / "damaged.onnx", np.random.default_rng(0)
    for _ in range(80):
        damaged = bytearray(content[: chance.integers(1, 2 * len(content))])
        for place in chance.integers(min(len(damaged), 4000), size=5):
            damaged[place] = chance.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(TilthError):
            OnnxNetwork.read(path)(x)


@pytest.mark.parametrize("opset", [6, 99])
def test_versions_that_are_not_known_are_refused(opset):
    model, _ = one_node("Exp", {"x": np.zeros(2, np.float32)})
    model.opset_import[0].version = opset
    with pytest.raises(DataError, match="version of the operators") as caught:
        OnnxNetwork.read(model)
    assert f"opset {opset}" in str(caught.value)


def test_values_that_nobody_makes_are_named():
    model = graph_of([helper.make_node("Add", ["x", "nothing"], ["y"])], ["x"], ["y"])
    with pytest.raises(DataError, match="value 'nothing' of the ONNX model is used before"):
        OnnxNetwork.read(model)(torch.ones(1))


def test_texts_are_refused_by_name():
    words = np.array(["a"], dtype=object)
    model, _ = one_node("Exp", {"x": np.zeros(2, np.float32)})
    model.graph.node.append(helper.make_node("Equal", ["t", "t"], ["z"]))
    model.graph.initializer.append(numpy_helper.from_array(words, "t"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.BOOL, [1]))
    assert answers(OnnxNetwork.read(model), np.zeros(2, np.float32))[0].tolist() == [1.0, 1.0]
    with pytest.raises(DataError, match="cannot be computed with") as caught:
        read_all(model)
    assert "STRING" in str(caught.value)
