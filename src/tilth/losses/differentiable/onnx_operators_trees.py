"""Ensembles of decision trees of ``ai.onnx.ml``, hard as in the file or with soft splits.

A hard tree is flat between its thresholds: its gradient is zero wherever it is defined. With the
option ``smooth`` (a temperature T that `OnnxNetwork.read` writes into the
node) a split x <= t is taken with probability sigmoid((t - x) / (T s)), s being the spread of the
thresholds of that feature in the ensemble, and the result is the mean over all paths. T -> 0 is
the hard tree.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_forest import (
    MODES,
    Forest,
    named_forest,
    numbered_forest,
    written_numbers,
)
from tilth.losses.differentiable.onnx_graph import Node
from tilth.losses.differentiable.onnx_operators_classical import (
    chosen_labels,
    class_labels,
    real,
    transformed,
)

__all__ = ["OPERATORS", "with_forest"]

AGGREGATES = ["AVERAGE", "SUM", "MIN", "MAX"]
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]


def _yes(part: dict[str, Tensor], values: Tensor) -> Tensor:
    """Whether each value goes the way of yes at its node; the parts are shaped as the values."""
    edge, mode = part["threshold"], part["mode"]
    answers = torch.stack(
        [
            values <= edge,
            values < edge,
            values >= edge,
            values > edge,
            values == edge,
            values != edge,
        ]
    )
    which = mode.clamp(max=len(MODES) - 1).expand(values.shape)
    return answers.gather(0, which[None])[0] | (values.isnan() & part["missing"])


def _hard_leaves(forest: Forest, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Weights [n, t, k] of the leaf that each example reaches in each tree."""
    at = tensors["roots"][None].expand(len(x), -1)
    for _ in forest.levels:
        values = torch.gather(x, 1, tensors["feature"][at])
        part = {name: tensors[name][at] for name in ("threshold", "mode", "missing")}
        yes = _yes(part, values).to(torch.int64)
        at = tensors["children"][at, yes]
    return tensors["weights"][at]


def _soft_sum(forest: Forest, tensors: dict[str, Tensor], x: Tensor, temperature: float) -> Tensor:
    """Mean [n, k] over all paths, summed over the trees."""
    reach = x.new_zeros(len(x), len(forest.feature))
    reach = reach.index_fill(1, tensors["roots"], 1.0)
    for level in forest.levels:
        nodes = torch.from_numpy(level).to(x.device)
        part = {
            name: tensors[name][nodes][None] for name in ("threshold", "mode", "missing", "spread")
        }
        values = x[:, tensors["feature"][nodes]]
        below = torch.sigmoid((part["threshold"] - values) / (temperature * part["spread"]))
        yes = torch.where(part["mode"] < 2, below, 1 - below)
        sharp = (part["mode"] > 3) | values.isnan()
        yes = torch.where(sharp, _yes(part, values).to(x.dtype), yes)
        here = reach[:, nodes]
        children = tensors["children"][nodes]
        reach = reach.index_add(1, children[:, 0], here * (1 - yes))
        reach = reach.index_add(1, children[:, 1], here * yes)
    return reach @ tensors["weights"]


def _evaluated(node: Node, forest: Forest, x: Tensor, kind: str) -> Tensor:
    """Scores [n, k] of all trees together, before the transformation."""
    # Thresholds are compared in double precision: rounded to single they are other thresholds.
    precise = real(node, x).double() if x.dtype != torch.float64 else x
    tensors = forest.tensors(precise)
    temperature = node.option("smooth")
    if temperature and kind in ("SUM", "AVERAGE"):
        total = _soft_sum(forest, tensors, precise, temperature)
        return total / len(forest.roots) if kind == "AVERAGE" else total
    leaves = _hard_leaves(forest, tensors, precise)
    if kind == "MIN":
        return leaves.amin(1)
    if kind == "MAX":
        return leaves.amax(1)
    return leaves.mean(1) if kind == "AVERAGE" else leaves.sum(1)


def _result(node: Node, scores: Tensor, x: Tensor) -> Tensor:
    """Scores with what they start from, in the precision of x."""
    base = written_numbers(node, "base_values")
    if base is not None and len(base):
        scores = scores + torch.as_tensor(np.asarray(base)).to(scores)
    return scores.to(x.dtype if x.is_floating_point() else node.dtype(1))


def tree_regressor(node: Node, x: Tensor) -> Tensor:
    """Leaves of all trees added, or their mean, least or most."""
    kind = node.option("aggregate_function", "SUM")
    return transformed(node, _result(node, _evaluated(node, node.option("forest"), x, kind), x))


def tree_ensemble(node: Node, x: Tensor) -> Tensor:
    """As `tree_regressor`, of the newer operator, whose options are numbers."""
    kind = AGGREGATES[node.option("aggregate_function", 1)]
    scores = _evaluated(node, node.option("forest"), x, kind).to(
        x.dtype if x.is_floating_point() else node.dtype(1)
    )
    name = TRANSFORMS[node.option("post_transform", 0)]
    written = {**node.attributes, "post_transform": name}
    return transformed(dataclasses.replace(node, attributes=written), scores)


def tree_classifier(node: Node, x: Tensor) -> tuple[Tensor, Tensor]:
    """The label, and the scores of all classes; of two, one may be all that is written."""
    scores = _result(node, _evaluated(node, node.option("forest"), x, "SUM"), x)
    if scores.shape[-1] == 1 and len(class_labels(node)) == 2:
        positive = min(node.option("class_weights") or [-1.0]) >= 0
        other = 1 - scores if positive else -scores
        scores = torch.cat([other, scores], -1)
    scores = transformed(node, scores)
    return chosen_labels(node, scores), scores


def with_forest(node: Node, smooth: float | None) -> Node:
    """The node with its trees read, once and for all.

    Args:
        smooth: temperature of the splits; None for the hard trees of the file.
    """
    try:
        forest = _forest_of(node)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"the trees of node '{node.name}' ({node.operator}) cannot be read",
            got=f"{type(error).__name__}: {error}",
            fix="export the model again; onnx.checker.check_model says what is wrong with it",
        ) from error
    return dataclasses.replace(
        node, attributes={**node.attributes, "forest": forest, "smooth": smooth}
    )


def _forest_of(node: Node) -> Forest:
    if node.operator == "TreeEnsemble":
        return numbered_forest(node)
    if node.operator == "TreeEnsembleRegressor":
        return named_forest(node, "target", node.option("n_targets", 1))
    targets = node.option("class_ids")
    if len(set(targets)) == 1 and len(class_labels(node)) == 2:
        single = {**node.attributes, "class_ids": [0] * len(targets)}
        return named_forest(dataclasses.replace(node, attributes=single), "class", 1)
    return named_forest(node, "class", len(class_labels(node)))


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "TreeEnsembleRegressor": tree_regressor,
    "TreeEnsemble": tree_ensemble,
    "TreeEnsembleClassifier": tree_classifier,
}
