"""Operators that the ONNX standard defines by others, and functions of a file, written out.

The standard comes with a definition of attention, group normalisation, rotary embedding and some
more as small graphs; what `onnx_operators` does not compute itself is replaced by
them. Each node gets a function of its own, since a definition may depend on the types of the inputs
and on which of them are given, and onnx then puts the functions in the place of the nodes.
"""

from collections.abc import Container, Iterator
from typing import Any

from tilth import lazy

__all__ = ["domain_of", "every_node", "opsets_of", "written_out"]

# A definition may use an operator that has one itself; more rounds than this are a circle.
MOST_ROUNDS = 6
OWN_DOMAIN = "tilth.definitions"
GRAPH, GRAPHS = 5, 10  # AttributeProto.AttributeType


def domain_of(written: str) -> str:
    """The standard's own domain has two names."""
    return "" if written == "ai.onnx" else written


def opsets_of(model: Any) -> dict[str, int]:
    """Version of each domain that the file uses."""
    return {domain_of(entry.domain): entry.version for entry in model.opset_import}


def every_node(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of those inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            graphs = {GRAPH: [attribute.g], GRAPHS: attribute.graphs}.get(attribute.type, [])
            for inner in graphs:
                yield from every_node(inner)


def written_out(model: Any, known: Container[tuple[str, str]]) -> Any:
    """The model without functions of its own, and without operators that others stand for.

    Args:
        known: (domain, operator) of those that stay.
    """
    onnx = lazy.require("onnx", extra="onnx")
    inliner = lazy.require("onnx.inliner", extra="onnx")
    if model.functions:
        model = inliner.inline_local_functions(model)
    for _ in range(MOST_ROUNDS):
        unknown = {
            (node.domain, node.op_type)
            for node in every_node(model.graph)
            if (domain_of(node.domain), node.op_type) not in known
        }
        defined = {key for key in unknown if _has_definition(onnx, model, *key)}
        if not defined:
            break
        model = inliner.inline_local_functions(_with_functions(onnx, model, defined))
    return model


def _schema(onnx: Any, model: Any, domain: str, operator: str) -> Any:
    version = opsets_of(model).get(domain_of(domain), 1)
    return onnx.defs.get_schema(operator, version, domain)


def _has_definition(onnx: Any, model: Any, domain: str, operator: str) -> bool:
    if not onnx.defs.has(operator, domain):
        return False
    schema = _schema(onnx, model, domain, operator)
    return schema.has_function or schema.has_context_dependent_function


def _with_functions(onnx: Any, model: Any, defined: set[tuple[str, str]]) -> Any:
    """A copy in which each node of these operators calls a function of the file."""
    shapes = lazy.require("onnx.shape_inference", extra="onnx")
    whole = shapes.infer_shapes(model)
    types = {
        value.name: value.type
        for value in [*whole.graph.input, *whole.graph.value_info, *whole.graph.output]
    }
    for tensor in whole.graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    for number, node in enumerate(list(every_node(whole.graph))):
        if (node.domain, node.op_type) in defined:
            function = _definition(onnx, model, node, types)
            function.domain, function.name = OWN_DOMAIN, f"{node.op_type}_{number}"
            node.domain, node.op_type = function.domain, function.name
            whole.functions.append(function)
    whole.opset_import.append(onnx.helper.make_opsetid(OWN_DOMAIN, 1))
    return whole


def _definition(onnx: Any, model: Any, node: Any, types: dict[str, Any]) -> Any:
    """The standard's function for one node, whose left out attributes are filled in."""
    schema = _schema(onnx, model, node.domain, node.op_type)
    given = {attribute.name for attribute in node.attribute}
    node.attribute.extend(
        item.default_value
        for item in schema.attributes.values()
        if item.name not in given and item.default_value.name
    )
    opset = opsets_of(model).get("", 1)
    if schema.has_context_dependent_function:
        known = [types.get(name, onnx.TypeProto()) for name in node.input]
        version = _newest(schema.context_dependent_function_opset_versions, opset)
        written = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), [kind.SerializeToString() for kind in known]
        )
    else:
        written = schema.get_function_with_opset_version(
            _newest(schema.function_opset_versions, opset)
        )
    function = onnx.FunctionProto()
    function.ParseFromString(written)
    del function.attribute[:], function.attribute_proto[:], function.opset_import[:]
    function.attribute.extend(schema.attributes)
    function.opset_import.extend(model.opset_import)
    return function


def _newest(versions: list[int], opset: int) -> int:
    fitting = [version for version in versions if version <= opset]
    return max(fitting or versions)
