"""Running a graph of nodes as torch operations, one after the other."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from tilth.errors import DataError, TilthError
from tilth.losses.differentiable.onnx_graph import Graph, Node
from tilth.losses.differentiable.onnx_operators import OPERATORS, SHAPE_READERS
from tilth.losses.differentiable.onnx_operators_control import CONTROL

__all__ = ["run_graph", "run_node"]


def run_graph(graph: Graph, values: Mapping[str, Tensor]) -> list[Tensor]:
    """The outputs of a graph.

    Args:
        values: inputs and constants, and what an inner graph sees of the outer one.

    Raises:
        DataError: an operator could not be computed; the node and the shapes are named.
    """
    known = dict(values)
    for node in graph.nodes:
        for name, result in zip(node.outputs, run_node(node, known), strict=False):
            known[name] = result
    return [known[value.name] for value in graph.outputs]


def run_node(node: Node, known: Mapping[str, Tensor]) -> Sequence[Tensor]:
    """Results of one node."""
    inputs = _together(node, [_value(node, known, name) for name in node.inputs])
    try:
        if node.graphs:

            def inner(graph: Graph, given: Sequence[Tensor]) -> list[Tensor]:
                names = [value.name for value in graph.inputs]
                return run_graph(graph, {**known, **dict(zip(names, given, strict=True))})

            return CONTROL[node.operator](node, inner, *inputs)
        result = OPERATORS[node.domain, node.operator](node, *inputs)
    except TilthError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError) as error:
        raise _failed(node, inputs, error) from error
    return [result] if isinstance(result, Tensor) else result  # type: ignore[return-value]


def _value(node: Node, known: Mapping[str, Tensor], name: str) -> Tensor | None:
    if name and name not in known:
        raise DataError(
            f"value '{name}' of the ONNX model is used before it is made",
            where=f"node '{node.name}' ({node.operator})",
            expected="nodes in an order in which each one's inputs are known",
            fix="export the model again; onnx.checker.check_model says what is wrong with it",
        )
    return known[name] if name else None


def _together(node: Node, inputs: list[Tensor | None]) -> list[Tensor | None]:
    """Inputs on one device; whole numbers that only say a shape stay where they are."""
    given = [x for x in inputs if x is not None]
    devices = {x.device for x in given}
    if len(devices) < 2 or (node.operator in SHAPE_READERS and not node.domain):
        return inputs
    device = next(device for device in devices if device.type != "cpu")
    return [None if x is None else x.to(device) for x in inputs]


def _failed(node: Node, inputs: Sequence[Tensor | None], error: Exception) -> DataError:
    shapes = ", ".join("none" if x is None else _description(x) for x in inputs)
    return DataError(
        f"operator {node.operator} of the ONNX model could not be computed",
        where=f"node '{node.name}' (opset {node.opset})",
        expected="inputs that the operator accepts",
        got=f"{shapes}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        fix="compare the shapes with those that the model was exported for",
    )


def _description(x: Tensor) -> str:
    kind = str(x.dtype).removeprefix("torch.")
    return f"{kind} {list(x.shape)}"
