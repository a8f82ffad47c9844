"""Where in a graph the gradient ends, found from the nodes alone."""

from dataclasses import dataclass

from tilth.losses.differentiable.onnx_graph import Graph, Node
from tilth.losses.differentiable.onnx_operators import is_flat, value_inputs

__all__ = ["GradientPaths", "gradient_paths"]


@dataclass(frozen=True, kw_only=True)
class GradientPaths:
    """What becomes of the gradient between the outputs and the inputs.

    Attributes:
        stops: names of the nodes that end it, in the order of the graph: their numbers make an
            output and depend on an input, and their slope is zero. A comparison that only chooses
            (the condition of Where) is none.
        reaches: whether some path without a stop leads from an output to an input.
    """

    stops: tuple[str, ...]
    reaches: bool


def gradient_paths(graph: Graph) -> GradientPaths:
    """The stops of a graph, and whether anything passes them."""
    inputs = {value.name for value in graph.inputs if value.is_float}
    fed, open_names = _from_inputs(graph, inputs)
    valued = _to_outputs(graph)
    stops = tuple(
        node.name
        for node in graph.nodes
        if is_flat(node)
        and not node.operator.startswith(("Shape", "Size", "ConstantOf", "EyeLike"))
        and any(name in fed for name in node.inputs)
        and any(name in valued for name in node.outputs)
    )
    outputs = {value.name for value in graph.outputs}
    return GradientPaths(stops=stops, reaches=bool(outputs & open_names))


def _makers(node: Node) -> set[str]:
    """Names whose numbers make the node's; of a node with inner graphs, all that those see."""
    names = set(value_inputs(node))
    for inner in node.graphs.values():
        names |= inner.needed() - {value.name for value in inner.inputs}
    return names


def _from_inputs(graph: Graph, inputs: set[str]) -> tuple[set[str], set[str]]:
    """Names that depend on an input at all, and those that depend on it with a slope."""
    fed, sloped = set(inputs), set(inputs)
    for node in graph.nodes:
        makers = _makers(node)
        if makers & fed:
            fed |= set(node.outputs)
        if makers & sloped and not is_flat(node):
            sloped |= set(node.outputs) - _label(node)
    return fed - {""}, sloped - {""}


def _label(node: Node) -> set[str]:
    """Outputs that are whole numbers although the node has a slope."""
    if node.operator in ("LinearClassifier", "TreeEnsembleClassifier"):
        return {node.outputs[0]}
    if node.operator in ("TopK", "MaxPool", "Dropout") and len(node.outputs) > 1:
        return {node.outputs[1]}
    return set()


def _to_outputs(graph: Graph) -> set[str]:
    """Names whose numbers make an output."""
    valued = {value.name for value in graph.outputs}
    for node in reversed(graph.nodes):
        if valued & set(node.outputs):
            valued |= _makers(node)
    return valued
