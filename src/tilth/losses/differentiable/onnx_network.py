"""An ONNX file as a torch module whose gradient reaches its inputs.

Runtimes of ONNX compute values alone. Here every node is a torch operation, so that what a network
of any origin says of an image can be a loss of another network. The weights are frozen: nothing in
a file is trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tilth.errors import DataError, SettingsError, TilthError
from tilth.losses.differentiable.onnx_execution import run_graph, run_node
from tilth.losses.differentiable.onnx_gradient import gradient_paths
from tilth.losses.differentiable.onnx_graph import Graph, Node, Value, read_graph, with_real
from tilth.losses.differentiable.onnx_operators import KNOWN, TREES, unknown_nodes, value_inputs
from tilth.losses.differentiable.onnx_operators_trees import with_forest
from tilth.losses.differentiable.onnx_types import dtype_of

__all__ = ["OnnxNetwork"]

# A constant that folding would make larger than this is computed anew in each call.
LARGEST_FOLDED = 2**24
# Sizes that a file leaves open, when the gradient is tried at load.
GUESSED_BATCH, GUESSED_SIZE = 2, 32


class OnnxNetwork(nn.Module):
    """A graph of ONNX operators, made by `OnnxNetwork.read`.

    Called with the inputs in the order of the file, it returns the output, or a tuple of several.
    The single precision of the file is that of the module: after ``.double()`` all is double. A
    quantised model (QuantizeLinear and its relatives) computes with the rounded numbers; their
    gradient passes straight through the rounding, zero outside the range of the type.

    Attributes:
        graph: what is computed.
        stops: names of the nodes that end the gradient on some path (a rounding, an ArgMax).
        softened: names of the nodes whose decision trees have soft splits, and other values.
        input_names: in the order of the call.
        output_names: in the order of the results.
        real: the type that stands in for every floating one; None for those of the file.
    """

    precision: Tensor

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.real: torch.dtype | None = None
        self.stops = gradient_paths(graph).stops
        self.softened = tuple(node.name for node in graph.nodes if node.option("smooth"))
        self.input_names = tuple(value.name for value in graph.inputs)
        self.output_names = tuple(value.name for value in graph.outputs)
        # Numbers that only say a shape stay on the processor; the others move with the module.
        computed_with = _computed_with(graph)
        self.fixed: dict[str, Tensor] = {}
        self.moving: dict[str, str] = {}
        for name, value in graph.constants.items():
            if value.is_floating_point() and name in computed_with:
                self.moving[name] = f"constant_{len(self.moving)}"
                self.register_buffer(self.moving[name], value)
            else:
                self.fixed[name] = value
        self.register_buffer("precision", torch.zeros(0), persistent=False)
        self.graph = dataclasses.replace(graph, constants={})

    @classmethod
    def read(
        cls,
        source: Path | str | Any,
        *,
        outputs: Sequence[str] | None = None,
        smooth: float | None = None,
        needs_gradient: bool = True,
    ) -> OnnxNetwork:
        """The network of a file or an ``onnx.ModelProto``.

        Args:
            outputs: names of the wanted ones; by default all that are floating numbers.
            smooth: temperature of the splits of decision trees, in units of each feature's spread
                of thresholds; by default trees are hard, and end the gradient.
            needs_gradient: refuse a network whose inputs no gradient reaches.

        Raises:
            DataError: no model that can be read; operators that are not known (all are named); or
                no gradient passes.
            PathEscapeError: tensors are kept outside the folder of the file.
            MissingExtraError: onnx is not installed.
            SettingsError: ``smooth`` is not above 0.

        >>> import onnx
        >>> node = onnx.helper.make_node("Mul", ["x", "x"], ["y"])
        >>> x, y = (onnx.helper.make_tensor_value_info(n, 1, ["n"]) for n in "xy")
        >>> network = OnnxNetwork.read(
        ...     onnx.helper.make_model(onnx.helper.make_graph([node], "square", [x], [y]))
        ... )
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> torch.autograd.grad(network(x), x)
        (tensor([6.]),)
        """
        if smooth is not None and smooth <= 0:
            raise SettingsError(
                "smooth cannot be used", expected="a temperature above 0", got=str(smooth)
            )
        graph = read_graph(source, known=KNOWN, outputs=outputs)
        _refuse_unknown(graph, source)
        graph = _prepared(graph, smooth)
        network = cls(_folded(graph)).eval()
        if needs_gradient:
            _check_gradient(network)
        return network

    def train(self, mode: bool = True) -> OnnxNetwork:
        """Nothing in the file trains; the module stays as it is."""
        return super().train(False)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs for inputs of the shapes that the file declares.

        Raises:
            DataError: another number of inputs, or an operator cannot be computed on them.
        """
        if len(inputs) != len(self.input_names):
            raise DataError(
                "the ONNX network was called with another number of inputs than it has",
                expected=f"{len(self.input_names)}: {', '.join(self.input_names)}",
                got=str(len(inputs)),
            )
        values: dict[str, Tensor] = dict(self.fixed)
        values |= {name: getattr(self, buffer) for name, buffer in self.moving.items()}
        for value, x in zip(self.graph.inputs, inputs, strict=True):
            values[value.name] = self._as_declared(value, x)
        results = run_graph(self.graph, values)
        return results[0] if len(results) == 1 else tuple(results)

    def _as_declared(self, value: Value, x: Tensor) -> Tensor:
        return x if value.code == 0 else x.to(dtype_of(value.code, real=self.real))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OnnxNetwork:
        before = [getattr(self, buffer).dtype for buffer in self.moving.values()]
        precision = self.precision.dtype
        super()._apply(fn, recurse)
        after = [getattr(self, buffer).dtype for buffer in self.moving.values()]
        if (after, self.precision.dtype) != (before, precision):
            self.real = self.precision.dtype
            self.graph = with_real(self.graph, self.real)
        return self


def _computed_with(graph: Graph) -> set[str]:
    """Names whose numbers make a result, here or in an inner graph."""
    names = {value.name for value in graph.outputs}
    for node in graph.nodes:
        names |= set(value_inputs(node))
        for inner in node.graphs.values():
            names |= _computed_with(inner)
    return names


def _refuse_unknown(graph: Graph, source: Any) -> None:
    unknown = unknown_nodes(graph)
    if unknown:
        kinds: dict[str, list[str]] = {}
        for node in unknown:
            kind = f"{node.domain or 'ai.onnx'}.{node.operator} (opset {node.opset})"
            kinds.setdefault(kind, []).append(node.name)
        raise DataError(
            "the ONNX model uses operators that have no differentiable version here",
            where=str(source) if isinstance(source, Path | str) else None,
            expected=f"the {len(KNOWN)} operators of tilth.losses.differentiable.onnx_operators",
            got="; ".join(f"{kind} at {', '.join(names)}" for kind, names in kinds.items()),
            fix="export the model without them, name only outputs that do not need them, or have "
            "the model distilled (tilth.losses.differentiable)",
        )


def _prepared(graph: Graph, smooth: float | None) -> Graph:
    """The graph with its trees read."""

    def prepared(node: Node) -> Node:
        inner = {key: _prepared(item, smooth) for key, item in node.graphs.items()}
        if inner:
            node = dataclasses.replace(node, attributes={**node.attributes, **inner})
        return with_forest(node, smooth) if node.operator in TREES else node

    return dataclasses.replace(graph, nodes=tuple(prepared(node) for node in graph.nodes))


def _folded(graph: Graph) -> Graph:
    """The graph without nodes whose inputs are all constant, and without unused constants."""
    constants, nodes = dict(graph.constants), []
    for node in graph.nodes:
        if node.graphs or not all(name in constants for name in node.inputs if name):
            nodes.append(node)
            continue
        with torch.no_grad():
            results = run_node(node, constants)
        if sum(result.numel() for result in results) > LARGEST_FOLDED:
            nodes.append(node)
        else:
            constants |= dict(zip(node.outputs, results, strict=False))
    rest = dataclasses.replace(graph, nodes=tuple(nodes))
    needed = rest.needed()
    return dataclasses.replace(
        rest, constants={name: value for name, value in constants.items() if name in needed}
    )


def _check_gradient(network: OnnxNetwork) -> None:
    """Raises where nothing reaches an input, by the graph or in a trial."""
    paths = gradient_paths(network.graph)
    if not paths.reaches or not _gradient_arrives(network):
        raise DataError(
            "no gradient passes through the ONNX model from its outputs to its inputs",
            expected="a path of operators with a slope from an input to an output",
            got=_cut(network, paths.stops),
            fix="name an output before the stop (outputs=...), give smooth=0.3 for decision trees, "
            "or have the model distilled",
        )


def _cut(network: OnnxNetwork, stops: Sequence[str]) -> str:
    if stops:
        return f"a stop at {', '.join(stops)}"
    names = ", ".join(network.output_names) or "none that are floating numbers"
    return f"outputs ({names}) whose numbers come from no input, or are only chosen by one"


def _gradient_arrives(network: OnnxNetwork) -> bool:
    """Whether a trial has a gradient; True where no trial can be made with guessed sizes."""
    values = network.graph.inputs
    guessed = any(value.shape is None or None in value.shape for value in values)
    trial = [_trial(network, value) for value in values]
    try:
        with torch.enable_grad():
            results = network(*trial)
    except TilthError:
        if guessed:
            return True
        raise
    results = results if isinstance(results, tuple) else (results,)
    return any(result.requires_grad for result in results)


def _trial(network: OnnxNetwork, value: Value) -> Tensor:
    sizes = value.shape if value.shape is not None else (GUESSED_BATCH, GUESSED_SIZE)
    guesses = [GUESSED_BATCH] + [GUESSED_SIZE] * len(sizes)
    shape = [guess if size is None else size for size, guess in zip(sizes, guesses, strict=False)]
    example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    x = network._as_declared(value, example)
    return x.requires_grad_() if x.is_floating_point() else torch.zeros_like(x)
