"""Operators of ONNX are what the standard's examples and onnxruntime say, and have gradients."""

import re
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx_graphs import (
    assert_as_runtime,
    one_node,
    random_of,
    read_all,
)

from tilth.losses.differentiable.onnx_network import OnnxNetwork
from tilth.losses.differentiable.onnx_operators import KNOWN
from tilth.losses.differentiable.onnx_types import tensor_of

# The operators for which there is no differentiable version, by reason.
UNSUPPORTED = {
    "texts": "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer "
    "LabelEncoder",
    "sequences": "SequenceAt SequenceConstruct SequenceEmpty SequenceInsert SequenceLength "
    "SplitToSequence SequenceMap OptionalGetElement OptionalHasElement",
    "random numbers": "RandomUniformLike Bernoulli",
    "training": "Adagrad Adam Momentum",
    "pictures in files": "ImageDecoder",
    "rarely exported": "BitCast DeformConv MaxUnpool MelWeightMatrix NonMaxSuppression RoiAlign "
    "TensorScatter Unique",
}
# Single examples of operators that are there, by reason; patterns of names.
LEFT_OUT = {
    "statistics of the batch (training)": ("batchnorm_example_training", "batchnorm_epsilon_train"),
    "random numbers (training)": (r"training_dropout(_default|_mask|$)",),
    "floats of four bits": (
        "FLOAT_to_FLOAT4E2M1",
        "FLOAT16_to_FLOAT4E2M1",
        "test_quantizelinear_float4e2m1",
    ),
    "floats that are an exponent alone": ("e8m0",),
    "unsigned numbers that wrap around": ("bitwise_not_3d",),
    "texts": ("equal_string",),
    "sequences": ("identity_sequence", "identity_opt", "if_opt"),
    "opset before 7": ("test_not_",),
    "Scan before opset 9": ("test_scan_sum",),
    "three axes": ("col2im_5d",),
    "membership in a set": ("tree_ensemble_set_membership",),
    # The example divides by the size before it is made whole; torch and onnxruntime do not.
    "runtimes differ from the example": (
        "downsample_scales_linear_align_corners",
        "downsample_scales_cubic_align_corners",
    ),
}
# Of the types that are computed in single precision here.
TOLERANCES = {onnx.TensorProto.FLOAT16: 4e-3, onnx.TensorProto.BFLOAT16: 3e-2}


def _example_tensor(item):
    proto = item if isinstance(item, onnx.TensorProto) else numpy_helper.from_array(item)
    return tensor_of(proto)


def _run_example(case):
    network = read_all(case.model)
    names = [item.name for item in case.model.graph.input]
    kinds = [item.type.tensor_type.elem_type for item in case.model.graph.output]
    for arrays, expected in case.data_sets:
        fed = dict(zip(names, arrays, strict=True))
        with torch.no_grad():
            found = network(*(_example_tensor(fed[name]) for name in network.input_names))
        found = found if isinstance(found, tuple) else (found,)
        for ours, theirs, kind in zip(found, expected, kinds, strict=True):
            wanted = _example_tensor(theirs)
            assert ours.shape == wanted.shape
            tolerance = max(case.rtol, TOLERANCES.get(kind, 0))
            np.testing.assert_allclose(
                ours.double().numpy(),
                wanted.double().numpy(),
                rtol=tolerance,
                atol=1e-6 + tolerance / 100,
            )


def _reason_to_leave_out(case):
    for reason, parts in LEFT_OUT.items():
        if any(re.search(part, case.name) for part in parts):
            return reason
    unsupported = {name: why for why, names in UNSUPPORTED.items() for name in names.split()}
    found = {node.op_type for node in _nodes(case.model.graph)} & set(unsupported)
    return unsupported[sorted(found)[0]] if found else None


def _fails(case):
    try:
        _run_example(case)
    except Exception:  # whatever it is, the example does not hold
        return True
    return False


def _nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


@pytest.mark.slow
def test_examples_of_the_standard_hold():
    """Every example of every operator passes, or is left out for a reason that is listed."""
    cases = pytest.importorskip("onnx.backend.test.case.node").collect_testcases(None)
    left_out, needless, failed, passed = Counter(), [], {}, 0
    for case in cases:
        reason = _reason_to_leave_out(case)
        if reason:
            left_out[reason] += 1
            if not _fails(case):
                needless.append(case.name)
            continue
        try:
            _run_example(case)
            passed += 1
        except Exception as error:
            failed[case.name] = f"{type(error).__name__}: {error}"
    print(f"{passed} passed, {sum(left_out.values())} left out: {dict(left_out)}")
    assert not failed
    assert not needless, "these pass: their reason is out of date"
    assert passed > 1700


def test_every_operator_of_the_table_is_one_of_the_standard():
    names = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    assert names >= KNOWN


X = random_of(2, 4, 5)
PICTURE = random_of(2, 4, 6, 7)


def whole(*numbers):
    return np.array(numbers, np.int64)


OLD_VERSIONS = {
    "squeeze by attribute": one_node("Squeeze", {"x": X[:, None]}, opset=11, axes=[1]),
    "unsqueeze by attribute": one_node("Unsqueeze", {"x": X}, opset=11, axes=[0, 2]),
    "sum by attribute": one_node("ReduceSum", {"x": X}, opset=11, axes=[-1], keepdims=0),
    "largest by attribute": one_node("ReduceMax", {"x": X}, opset=13, axes=[0, 2]),
    "clip by attribute": one_node("Clip", {"x": X}, opset=10, min=-0.3, max=0.4),
    "clip without bounds": one_node("Clip", {"x": X}, opset=10),
    "softmax of all that follows": one_node("Softmax", {"x": X}, opset=11),
    "log softmax of all that follows": one_node("LogSoftmax", {"x": X}, opset=11, axis=0),
    "hardmax of all that follows": one_node("Hardmax", {"x": X}, opset=11),
    "slice by attribute": one_node(
        "Slice", {"x": X}, opset=9, starts=[1, -3], ends=[9, -1], axes=[1, 2]
    ),
    "pad by attribute": one_node("Pad", {"x": X}, opset=10, pads=[0, 1, 2, 0, 0, 1], value=0.5),
    "reflected pad by attribute": one_node(
        "Pad", {"x": X}, opset=10, pads=[0, 1, 2, 0, 0, 1], mode="reflect"
    ),
    "top k by attribute": one_node("TopK", {"x": X}, ("y", "i"), opset=9, k=3, axis=1),
    "split by attribute": one_node("Split", {"x": X}, ("y", "z"), opset=11, axis=1, split=[1, 3]),
    "upsample by attribute": one_node(
        "Upsample", {"x": PICTURE}, opset=7, scales=[1.0, 1.0, 2.0, 3.0]
    ),
    "upsample linearly": one_node(
        "Upsample", {"x": PICTURE, "s": np.float32([1, 1, 2, 2])}, opset=9, mode="linear"
    ),
    "resize of version 10": one_node(
        "Resize", {"x": PICTURE, "s": np.float32([1, 1, 2, 0.5])}, opset=10
    ),
    "dropout": one_node("Dropout", {"x": X}, opset=7, ratio=0.5),
    "scatter": one_node(
        "Scatter",
        {"x": X, "i": whole(0, 1, 1).reshape(1, 1, 3), "u": random_of(1, 1, 3)},
        opset=9,
        axis=1,
    ),
    "product and sum": one_node(
        "Gemm", {"a": X[0], "b": X[1], "c": random_of(4)}, opset=7, transB=1, alpha=0.5, beta=2.0
    ),
    "slope a channel": one_node("PRelu", {"x": X, "s": random_of(4, 1)}, opset=7),
    "mean pool": one_node(
        "AveragePool", {"x": PICTURE}, opset=7, kernel_shape=[3, 2], pads=[1, 0, 1, 1]
    ),
    "normalised batch": one_node(
        "BatchNormalization",
        {"x": X, **{k: abs(random_of(4, seed=i)) for i, k in enumerate("sbmv")}},
        opset=9,
    ),
}


@pytest.mark.parametrize("name", OLD_VERSIONS)
def test_old_versions_are_those_of_onnxruntime(name):
    model, arrays = OLD_VERSIONS[name]
    assert_as_runtime(model, *arrays)


@st.composite
def windows(draw):
    """Attributes of a window over one or two axes, and a picture that it fits in."""
    axes = draw(st.integers(1, 2))
    several = lambda low, high: draw(  # noqa: E731
        st.lists(st.integers(low, high), min_size=axes, max_size=axes)
    )
    kernel, size = several(1, 3), several(7, 10)
    attributes = {"kernel_shape": kernel, "strides": several(1, 3), "dilations": several(1, 2)}
    mode = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode == "NOTSET":
        pads = [draw(st.integers(0, k - 1)) for k in kernel * 2]
        attributes["pads"] = pads
    else:
        attributes["auto_pad"] = mode
        attributes["dilations"] = [1] * axes
        # Of a window that jumps over numbers, onnxruntime cuts some off, TensorFlow none.
        attributes["strides"] = [
            min(s, k) for s, k in zip(attributes["strides"], kernel, strict=True)
        ]
    return attributes, random_of(2, 4, *size, seed=draw(st.integers(0, 9)))


@given(windows(), st.sampled_from([1, 2]))
def test_convolutions_are_those_of_onnxruntime(window, group):
    attributes, x = window
    weight = random_of(6, 4 // group, *attributes["kernel_shape"], seed=1)
    model, arrays = one_node(
        "Conv", {"x": x, "w": weight, "b": random_of(6)}, group=group, **attributes
    )
    assert_as_runtime(model, *arrays)


@given(windows(), st.booleans(), st.integers(0, 1))
def test_transposed_convolutions_are_those_of_onnxruntime(window, by_shape, extra):
    attributes, x = window
    if attributes.get("auto_pad") == "VALID" or by_shape:
        attributes.pop("auto_pad", None)
    strides, axes = attributes["strides"], len(attributes["strides"])
    if by_shape:
        attributes.pop("pads", None)
        attributes["output_shape"] = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    elif "pads" in attributes:
        attributes["output_padding"] = [min(extra, s - 1) for s in strides]
    reach = [
        (k - 1) * d + 1
        for k, d in zip(attributes["kernel_shape"], attributes["dilations"], strict=True)
    ]
    if "pads" not in attributes and any(reach[a] < strides[a] for a in range(axes)):
        return  # what would be cut off is less than nothing: runtimes differ
    weight = random_of(4, 3, *attributes["kernel_shape"], seed=1)
    model, arrays = one_node(
        "ConvTranspose", {"x": x, "w": weight, "b": random_of(3)}, **attributes
    )
    assert_as_runtime(model, *arrays)


@given(windows(), st.booleans())
def test_max_pools_are_those_of_onnxruntime(window, ceil):
    attributes, x = window
    model, arrays = one_node(
        "MaxPool", {"x": x}, ("y", "i"), ceil_mode=int(ceil), opset=12, **attributes
    )
    assert_as_runtime(model, *arrays)


@given(windows(), st.booleans(), st.booleans())
def test_mean_pools_are_those_of_onnxruntime(window, ceil, counts):
    attributes, x = window
    options = {"ceil_mode": int(ceil), "count_include_pad": int(counts)}
    model, arrays = one_node("AveragePool", {"x": x}, opset=19, **options, **attributes)
    assert_as_runtime(model, *arrays)


@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    place=st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]),
    nearest=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    size=st.tuples(st.integers(2, 12), st.integers(2, 12)),
)
def test_resizing_is_that_of_onnxruntime(mode, place, nearest, size):
    model, arrays = one_node(
        "Resize",
        {"x": PICTURE, "n": whole(2, 4, *size)},
        mode=mode,
        coordinate_transformation_mode=place,
        nearest_mode=nearest,
    )
    node = model.graph.node[0]
    del node.input[:]
    node.input.extend(["x", "", "", "n"])
    assert_as_runtime(model, *arrays)


def lstm_inputs(gates, directions=2, hidden=3):
    return {
        "x": random_of(5, 2, 4),
        "w": random_of(directions, gates * hidden, 4, seed=1),
        "r": random_of(directions, gates * hidden, hidden, seed=2),
        "b": random_of(directions, 2 * gates * hidden, seed=3),
        "n": np.array([5, 3], np.int32),
        "h": random_of(directions, 2, hidden, seed=4),
    }


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("operator", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_networks_are_those_of_onnxruntime(operator, gates, direction):
    inputs = lstm_inputs(gates, 2 if direction == "bidirectional" else 1)
    options = {"linear_before_reset": 1} if operator == "GRU" else {}
    if operator == "LSTM":
        inputs["c"] = inputs["h"] / 2
        inputs["p"] = random_of(len(inputs["w"]), 9, seed=5)
    outputs = ("y", "yh", "yc") if operator == "LSTM" else ("y", "yh")
    model, arrays = one_node(
        operator, inputs, outputs, hidden_size=3, direction=direction, **options
    )
    assert_as_runtime(model, *arrays)


SMOOTH = {
    "cubic": (
        "Resize",
        {"x": PICTURE, "": None, "s": np.float32([1, 1, 1.7, 0.6])},
        {"mode": "cubic"},
    ),
    "linear, antialiased": (
        "Resize",
        {"x": PICTURE, "": None, "s": np.float32([1, 1, 0.4, 0.6])},
        {"mode": "linear", "antialias": 1},
    ),
    "long short-term memory": ("LSTM", lstm_inputs(4, 1), {"hidden_size": 3}),
    "gated recurrent unit": (
        "GRU",
        lstm_inputs(3, 2),
        {"hidden_size": 3, "direction": "bidirectional"},
    ),
    "layer normalisation": (
        "LayerNormalization",
        {"x": X, "s": random_of(5), "b": random_of(5, seed=2)},
        {},
    ),
    "instance normalisation": (
        "InstanceNormalization",
        {"x": X, "s": random_of(4), "b": random_of(4)},
        {},
    ),
    "group normalisation": (
        "GroupNormalization",
        {"x": PICTURE, "s": random_of(4), "b": random_of(4)},
        {"num_groups": 2},
    ),
    "transposed convolution": (
        "ConvTranspose",
        {"x": PICTURE, "w": random_of(4, 2, 3, 3)},
        {"strides": [2, 2], "pads": [1, 0, 0, 1]},
    ),
    "mean pool": (
        "AveragePool",
        {"x": PICTURE},
        {"kernel_shape": [3, 3], "dilations": [1, 2], "pads": [1, 1, 1, 1]},
    ),
    "norm pool": ("LpPool", {"x": PICTURE}, {"kernel_shape": [2, 2], "p": 3}),
    "scattered slices": (
        "ScatterND",
        {"x": X, "i": whole(0, 1, 0, 1).reshape(2, 2), "u": random_of(2, 5)},
        {"reduction": "add"},
    ),
    "gathered slices": ("GatherND", {"x": X, "i": whole(0, 1, 1, -1).reshape(2, 2)}, {}),
    "fourier transform": ("DFT", {"x": X[..., None]}, {"onesided": 1}),
    "norm": ("ReduceL2", {"x": X}, {}),
    "log of sums": ("ReduceLogSumExp", {"x": X, "a": whole(1)}, {}),
    "sorted": ("TopK", {"x": X, "k": whole(3)}, {}),
    "padded by reflection": ("Pad", {"x": X, "p": whole(0, 2, 1, 0, 1, 3)}, {"mode": "reflect"}),
    "attention": ("Attention", {k: random_of(1, 2, 3, 4, seed=i) for i, k in enumerate("qkv")}, {}),
    "neighbouring channels": ("LRN", {"x": PICTURE}, {"size": 3}),
    "kernel machine": (
        "SVMRegressor",
        {"x": X[0]},
        {
            "domain": "ai.onnx.ml",
            "kernel_type": "RBF",
            "n_supports": 2,
            "kernel_params": [0.5, 0.0, 3.0],
            "support_vectors": list(random_of(10)),
            "coefficients": [1.0, -2.0],
            "rho": [0.1],
        },
    ),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_finite_differences(name):
    operator, inputs, attributes = SMOOTH[name]
    outputs = ("y", "z") if operator == "TopK" else ("y",)
    opset = 23 if operator == "Attention" else 20 if operator == "DFT" else 21
    model, arrays = one_node(operator, inputs, outputs, opset=opset, **attributes)
    network = OnnxNetwork.read(model, outputs=["y"], needs_gradient=False).double()
    tensors = [torch.from_numpy(array) for array in arrays]
    tensors = [
        t.double().requires_grad_(place == 0 or operator == "Attention")
        if t.is_floating_point()
        else t
        for place, t in enumerate(tensors)
    ]
    assert torch.autograd.gradcheck(network, tensors, eps=1e-6, atol=1e-5)


def test_rounding_passes_the_gradient_inside_the_range():
    model, _ = one_node("QuantizeLinear", {"x": X, "s": np.float32(0.1), "z": np.int8(3)})
    network = OnnxNetwork.read(model, outputs=["y"], needs_gradient=False)
    x = torch.tensor([-100.0, -1.04, 0.0, 0.33, 100.0], requires_grad=True)
    y = network(x, torch.tensor(0.1), torch.tensor(3, dtype=torch.int8))
    assert y.tolist() == [-128.0, -7.0, 3.0, 6.0, 127.0]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 10.0, 10.0, 10.0, 0.0]))
