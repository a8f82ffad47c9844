"""An ONNX file as plain records: nodes in the order in which they run, and constants as tensors.

Functions that the file defines itself, and operators that the standard defines by others and that
`onnx_operators` does not hold, are written out first. Constants of inner graphs
(branches, loop bodies) are lifted to the outermost one, so that whoever moves or converts the
constants does so in one place. Nodes that no wanted output needs are left out unread: a label that
is a text costs nothing where only scores are asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tilth import lazy
from tilth.errors import DataError
from tilth.losses.differentiable.onnx_definitions import (
    domain_of,
    every_node,
    opsets_of,
    written_out,
)
from tilth.losses.differentiable.onnx_files import load_model
from tilth.losses.differentiable.onnx_types import dtype_of, is_float, tensor_of

__all__ = ["Graph", "Node", "Value", "read_graph", "with_real"]

OLDEST_OPSET = 7  # before it, broadcasting was an attribute of each operator


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator at one place.

    Attributes:
        operator: its name, ``"Conv"``.
        domain: "" for the standard, ``"ai.onnx.ml"`` for the classical models.
        name: for messages.
        opset: version of the domain that the file is written for.
        inputs: names of values, "" where an optional one is left out.
        outputs: names of values, "" where nobody wants one.
        input_types: ONNX's number of each input's type, 0 where unknown.
        attributes: as Python values, tensors and `Graph`s.
        real: the type that stands in for every floating type; None for those of the file.
    """

    operator: str
    domain: str
    name: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_types: tuple[int, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    real: torch.dtype | None = None

    def option(self, name: str, default: Any = None) -> Any:
        """The attribute, or ``default`` where it is not written."""
        return self.attributes.get(name, default)

    def dtype(self, code: int) -> torch.dtype:
        """The torch type that holds values of ONNX's type ``code``."""
        return dtype_of(code, real=self.real)

    @property
    def graphs(self) -> dict[str, Graph]:
        """Branches and bodies, by attribute."""
        return {key: item for key, item in self.attributes.items() if isinstance(item, Graph)}


@dataclass(frozen=True, kw_only=True)
class Value:
    """An input or output of a graph.

    Attributes:
        name: of the value.
        code: ONNX's number of its type; 0 where it is no tensor or not declared.
        shape: a number, or None for a size that is open; None where nothing is declared.
    """

    name: str
    code: int
    shape: tuple[int | None, ...] | None

    @property
    def is_float(self) -> bool:
        """Whether gradients can pass here; what is not declared may be."""
        return self.code == 0 or is_float(self.code)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What to compute.

    Attributes:
        nodes: in an order in which each one's inputs are known.
        inputs: what the caller gives.
        outputs: what is handed back.
        constants: of this graph and those inside it; empty for an inner graph.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def needed(self) -> set[str]:
        """Names that the nodes, those of inner graphs too, and the outputs take in."""
        names = {value.name for value in self.outputs}
        for node in self.nodes:
            names |= set(node.inputs)
            for inner in node.graphs.values():
                names |= inner.needed()
        return names - {""}


def with_real(graph: Graph, real: torch.dtype | None) -> Graph:
    """The graph with every floating type replaced by ``real``; constants are the caller's."""

    def changed(node: Node) -> Node:
        inner = {key: with_real(item, real) for key, item in node.graphs.items()}
        return dataclasses.replace(node, real=real, attributes={**node.attributes, **inner})

    return dataclasses.replace(graph, nodes=tuple(changed(node) for node in graph.nodes))


def read_graph(
    source: Path | str | Any,
    *,
    known: Container[tuple[str, str]],
    outputs: Sequence[str] | None = None,
) -> Graph:
    """The graph of a file or an ``onnx.ModelProto``.

    Args:
        known: (domain, operator) of those that need not be written out by others.
        outputs: the wanted ones; by default every output that is a floating tensor, or that is
            all but a tensor (a list of dictionaries of scores).

    Raises:
        DataError: no ONNX model, of too old or too new an opset, or a wanted output is missing.
        MissingExtraError: onnx is not installed.
    """
    model = load_model(source)
    _check_opset(model)
    try:
        return _read(written_out(model, known), outputs)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(
            "the ONNX model is not as the standard says, and cannot be read",
            where=str(source) if isinstance(source, Path | str) else None,
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            fix="export it again; onnx.checker.check_model says what is wrong with it",
        ) from error


def _read(model: Any, outputs: Sequence[str] | None) -> Graph:
    reader = _Reader(opsets=opsets_of(model), types=_types(model))
    wanted = _wanted(model.graph, outputs)
    graph = reader.graph(model.graph, keep=wanted, prefix="", renamed={})
    needed = graph.needed()
    constants = {name: tensor_of(proto) for name, proto in reader.protos.items() if name in needed}
    return dataclasses.replace(graph, constants=constants)


def _check_opset(model: Any) -> None:
    onnx = lazy.require("onnx", extra="onnx")
    opset, newest = opsets_of(model).get("", OLDEST_OPSET), onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise DataError(
            "the ONNX model is written for a version of the operators that is not known here",
            expected=f"opset {OLDEST_OPSET} to {newest} (that of onnx {onnx.__version__})",
            got=f"opset {opset}",
            fix="onnx.version_converter.convert_version(model, 17), or export it again",
        )


def _types(model: Any) -> dict[str, int]:
    """ONNX's number of the type of each value that declares one."""
    graph = model.graph
    declared = [*graph.input, *graph.value_info, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in declared}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _wanted(graph: Any, outputs: Sequence[str] | None) -> set[str]:
    names = [value.name for value in graph.output]
    if outputs is None:
        return {
            value.name
            for value in graph.output
            if not value.type.HasField("tensor_type") or is_float(value.type.tensor_type.elem_type)
        }
    missing = [name for name in outputs if name not in names]
    if missing:
        raise DataError(
            "the ONNX model has no such output",
            expected=", ".join(names),
            got=", ".join(missing),
            fix="name outputs of the model, or leave them out for all that are floating numbers",
        )
    return set(outputs)


@dataclass(kw_only=True)
class _Reader:
    """Protocol buffers into records, collecting constants on the way."""

    opsets: Mapping[str, int]
    types: dict[str, int]
    protos: dict[str, Any] = field(default_factory=dict)

    def graph(
        self, proto: Any, *, keep: set[str] | None, prefix: str, renamed: Mapping[str, str]
    ) -> Graph:
        renamed = dict(renamed)
        for tensor in [*proto.initializer, *proto.sparse_initializer]:
            name = tensor.values.name if hasattr(tensor, "values") else tensor.name
            self._constant(tensor, name, prefix, renamed)
        given = [value for value in proto.input if value.name not in renamed or prefix]
        for value in given:  # an inner graph's own input hides an outer constant of its name
            renamed.pop(value.name, None)
        nodes: list[Node] = []
        for node in _needed_nodes(proto, keep):
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                self._constant(node.attribute[0], node.output[0], prefix, renamed)
            else:
                nodes.append(self._node(node, len(nodes), prefix, renamed))
        outputs = [value for value in proto.output if keep is None or value.name in keep]
        return Graph(
            nodes=tuple(nodes),
            inputs=tuple(_value(value) for value in given),
            outputs=tuple(
                dataclasses.replace(_value(value), name=renamed.get(value.name, value.name))
                for value in outputs
            ),
        )

    def _constant(self, proto: Any, name: str, prefix: str, renamed: dict[str, str]) -> None:
        _expect_text(name)
        renamed[name] = prefix + name
        self.protos[prefix + name] = proto

    def _node(self, proto: Any, number: int, prefix: str, renamed: Mapping[str, str]) -> Node:
        for word in (proto.op_type, proto.domain, proto.name, *proto.input, *proto.output):
            _expect_text(word)
        domain = domain_of(proto.domain)
        name = proto.name or f"{proto.op_type}_{number}"
        attributes = {
            item.name: self._attribute(item, f"{prefix}{name}/{item.name}/", renamed)
            for item in proto.attribute
        }
        return Node(
            operator=proto.op_type,
            domain=domain,
            name=prefix + name,
            opset=self.opsets.get(domain, 1),
            inputs=tuple(renamed.get(item, item) for item in proto.input),
            outputs=tuple(proto.output),
            input_types=tuple(self.types.get(item, 0) for item in proto.input),
            attributes=attributes,
        )

    def _attribute(self, proto: Any, prefix: str, renamed: Mapping[str, str]) -> Any:
        onnx = lazy.require("onnx", extra="onnx")
        if proto.type == onnx.AttributeProto.GRAPH:
            return self.graph(proto.g, keep=None, prefix=prefix, renamed=renamed)
        if proto.type == onnx.AttributeProto.TENSOR:
            return proto.t if proto.t.data_type == onnx.TensorProto.STRING else tensor_of(proto.t)
        value = onnx.helper.get_attribute_value(proto)
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, str | int | float):
            return value
        return [item.decode() if isinstance(item, bytes) else item for item in value]


def _expect_text(name: str | bytes) -> None:
    """What is no UTF-8 in a damaged file comes as bytes."""
    if isinstance(name, bytes):
        raise ValueError(f"the name {name!r} is no text")


def _needed_nodes(proto: Any, keep: set[str] | None) -> list[Any]:
    """Nodes that the kept outputs need, in order; an inner graph keeps all."""
    if keep is None:
        return list(proto.node)
    needed, nodes = set(keep), []
    for node in reversed(proto.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
            for inner in _inner_graphs(node):
                needed |= {name for item in every_node(inner) for name in item.input}
                needed |= {value.name for value in inner.output}
    return nodes[::-1]


def _inner_graphs(node: Any) -> list[Any]:
    return [attribute.g for attribute in node.attribute if attribute.type == 5]


def _value(proto: Any) -> Value:
    tensor = proto.type.tensor_type
    _expect_text(proto.name)
    if not proto.type.HasField("tensor_type"):
        return Value(name=proto.name, code=0, shape=None)
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim
        )
    return Value(name=proto.name, code=tensor.elem_type, shape=shape)
