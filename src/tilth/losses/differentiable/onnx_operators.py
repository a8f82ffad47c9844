"""Which ONNX operators are known, as one table; each lives in a file ``onnx_operators_*``.

An operator that is not here and that the standard defines by others (attention, group
normalisation, rotary embedding and some twenty more) is written out by them when a file is read,
see `tilth.losses.differentiable.onnx_graph`.
"""

from collections.abc import Callable

from tilth.losses.differentiable import (
    onnx_operators_classical,
    onnx_operators_control,
    onnx_operators_convolution,
    onnx_operators_elementwise,
    onnx_operators_indices,
    onnx_operators_products,
    onnx_operators_quantised,
    onnx_operators_recurrent,
    onnx_operators_reductions,
    onnx_operators_resize,
    onnx_operators_shapes,
    onnx_operators_spectra,
    onnx_operators_trees,
)
from tilth.losses.differentiable.onnx_graph import Graph, Node
from tilth.losses.differentiable.onnx_types import is_float

__all__ = ["KNOWN", "OPERATORS", "SHAPE_READERS", "is_flat", "unknown_nodes", "value_inputs"]

STANDARD = (
    onnx_operators_elementwise.OPERATORS
    | onnx_operators_products.OPERATORS
    | onnx_operators_quantised.OPERATORS
    | onnx_operators_convolution.OPERATORS
    | onnx_operators_reductions.OPERATORS
    | onnx_operators_shapes.OPERATORS
    | onnx_operators_indices.OPERATORS
    | onnx_operators_resize.OPERATORS
    | onnx_operators_recurrent.OPERATORS
    | onnx_operators_spectra.OPERATORS
)
CLASSICAL = onnx_operators_classical.OPERATORS | onnx_operators_trees.OPERATORS
OPERATORS: dict[tuple[str, str], Callable[..., object]] = {
    **{("", name): operator for name, operator in STANDARD.items()},
    **{("ai.onnx.ml", name): operator for name, operator in CLASSICAL.items()},
}
KNOWN = set(OPERATORS) | {("", name) for name in onnx_operators_control.CONTROL}

# These read the numbers of their later inputs; to bring those to the device would be a round trip.
SHAPE_READERS = {
    *("Reshape", "Expand", "Tile", "Slice", "Pad", "Split", "Squeeze", "Unsqueeze", "Resize"),
    *("Upsample", "ConstantOfShape", "Range", "TopK", "OneHot", "Trilu", "CumSum", "CumProd"),
    *(
        "DFT",
        "STFT",
        "Col2Im",
        "If",
        "Loop",
        "Scan",
        *(name for name in STANDARD if name.startswith("Reduce")),
    ),
    *("Gather", "GatherElements", "GatherND", "Scatter", "ScatterElements", "ScatterND"),
    *("Shape", "Size", "Compress", "ArrayFeatureExtractor"),
}

# The gradient of these is zero wherever there is one.
FLAT = {
    *("ArgMax", "ArgMin", "Round", "Ceil", "Floor", "Sign", "Hardmax", "NonZero", "OneHot"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor"),
    *("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift", "IsNaN", "IsInf"),
    *("Binarizer", "OneHotEncoder", "Shape", "Size", "EyeLike", "ConstantOfShape"),
}
TREES = {"TreeEnsemble", "TreeEnsembleRegressor", "TreeEnsembleClassifier"}

# Inputs whose numbers, and not only their order, their shape or a choice, make the result.
VALUES: dict[str, tuple[int, ...]] = {
    "Where": (1, 2),
    "Clip": (0,),
    "Loop": tuple(range(2, 64)),
    "If": (),
    "ScatterElements": (0, 2),
    "Scatter": (0, 2),
    "ScatterND": (0, 2),
    **dict.fromkeys(("Shape", "Size", "ConstantOfShape", "EyeLike"), ()),
    **dict.fromkeys(
        ("Reshape", "Expand", "Tile", "Slice", "Split", "Squeeze", "Unsqueeze", "Upsample"), (0,)
    ),
    **dict.fromkeys(("Resize", "Gather", "GatherElements", "GatherND", "TopK", "Trilu"), (0,)),
    **dict.fromkeys(("CumSum", "CumProd", "Compress", "ArrayFeatureExtractor", "Col2Im"), (0,)),
    **dict.fromkeys(("ReverseSequence", "CastLike", "DFT"), (0,)),
    "Pad": (0, 2),
    "STFT": (0, 2),
    "OneHot": (0, 2),
}


def value_inputs(node: Node) -> tuple[str, ...]:
    """Names of the inputs whose numbers make the result."""
    chosen = VALUES.get(node.operator)
    if node.operator.startswith("Reduce"):
        chosen = (0,)
    names = node.inputs
    if chosen is not None:
        names = tuple(names[place] for place in chosen if place < len(names))
    return tuple(name for name in names if name)


def is_flat(node: Node) -> bool:
    """Whether no gradient passes the node, whatever its inputs are."""
    if node.operator in TREES:
        return not node.option("smooth")
    if node.operator == "Cast":
        return not is_float(node.option("to"))
    if node.operator == "CastLike":
        return len(node.input_types) > 1 and not is_float(node.input_types[1] or 1)
    if node.operator == "SVMRegressor":
        return bool(node.option("one_class", 0))
    return node.operator in FLAT


def unknown_nodes(graph: Graph) -> list[Node]:
    """Nodes, those of inner graphs too, that nothing here computes."""
    found = []
    for node in graph.nodes:
        if (node.domain, node.operator) not in KNOWN:
            found.append(node)
        for inner in node.graphs.values():
            found += unknown_nodes(inner)
    return found
