"""Small ONNX models for tests, and what onnxruntime says of them."""

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from tilth.losses.differentiable.onnx_network import OnnxNetwork

# The newest versions that the pinned onnxruntime runs.
OPSET, ML_OPSET = 21, 3


def value(name, dtype=np.float32, shape=None):
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )


def graph_of(nodes, inputs, outputs, constants=None, *, opset=OPSET, ml=ML_OPSET, shapes=None):
    """A model; inputs and outputs are names or (name, type)."""
    shapes = shapes or {}

    def info(item):
        name, dtype = item if isinstance(item, tuple) else (item, np.float32)
        return value(name, dtype, shapes.get(name))

    graph = helper.make_graph(
        nodes,
        "test",
        [info(item) for item in inputs],
        [info(item) for item in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ml)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10 if opset > 8 else 4)


def one_node(operator, inputs, outputs=("y",), *, opset=OPSET, domain="", **attributes):
    """A model of one node, and the arrays that it is fed, by name."""
    node = helper.make_node(operator, list(inputs), list(outputs), domain=domain, **attributes)
    fed = {name: np.asarray(array) for name, array in inputs.items() if name}
    kinds = [(name, array.dtype) for name, array in fed.items()]
    return graph_of([node], kinds, list(outputs), opset=opset), list(fed.values())


def runtime(model, *arrays):
    """Outputs of onnxruntime, which finds out the types of the outputs itself."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for output in model.graph.output:
        output.ClearField("type")
    onnx.shape_inference.infer_shapes(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    names = [item.name for item in model.graph.input]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, dict(zip(names, arrays, strict=True)))


def read_all(model, **options):
    """The network with every output, whether a gradient reaches it or not."""
    names = [item.name for item in model.graph.output]
    return OnnxNetwork.read(model, outputs=names, needs_gradient=False, **options)


def answers(network, *arrays) -> list[Tensor]:
    with torch.no_grad():
        found = network(*(torch.from_numpy(np.asarray(array)) for array in arrays))
    return list(found) if isinstance(found, tuple) else [found]


def assert_as_runtime(model, *arrays, tolerance=1e-5, **options):
    """Our outputs are onnxruntime's."""
    for ours, theirs in zip(
        answers(read_all(model, **options), *arrays), runtime(model, *arrays), strict=True
    ):
        assert tuple(ours.shape) == theirs.shape
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=tolerance, atol=tolerance)


def random_of(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
