"""Decision trees of an ONNX file as arrays, in whichever of the two notations they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_graph import Node

__all__ = ["LEAF", "MODES", "Forest", "named_forest", "numbered_forest", "written_numbers"]

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
LEAF = len(MODES)


@dataclass(frozen=True, kw_only=True)
class Forest:
    """All nodes of all trees in one numbering; a leaf is its own child.

    Attributes:
        roots: [t] node of each tree.
        feature: [n] column that a node looks at.
        threshold: [n] what it is compared with.
        mode: [n] place in ``MODES``, or ``LEAF``.
        children: [n, 2] where no leads, and where yes.
        missing: [n] whether NaN counts as yes.
        weights: [n, k] what a leaf adds to each target; zero elsewhere.
        levels: nodes that split, by their distance from a root.
        depth: longest path.
        spread: [n] unit of the temperature, that of the node's feature.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    mode: np.ndarray
    children: np.ndarray
    missing: np.ndarray
    weights: np.ndarray
    levels: tuple[np.ndarray, ...]
    spread: np.ndarray

    def tensors(self, like: Tensor) -> dict[str, Tensor]:
        """The arrays beside ``like``; thresholds, weights and spreads of its type."""
        whole = ("roots", "feature", "mode", "children", "missing")
        floats = ("threshold", "weights", "spread")
        return {
            **{name: torch.from_numpy(getattr(self, name)).to(like.device) for name in whole},
            **{name: torch.from_numpy(getattr(self, name)).to(like) for name in floats},
        }


def _levels(roots: np.ndarray, mode: np.ndarray, children: np.ndarray) -> tuple[np.ndarray, ...]:
    """Splitting nodes by depth; children that two nodes share, or that lead back, are refused."""
    levels, current = [], roots
    seen = np.zeros(len(mode), int)
    while len(current := current[mode[current] != LEAF]):
        np.add.at(seen, current, 1)
        if (seen > 1).any():
            raise DataError("nodes of a tree of the ONNX model are reached on two ways")
        levels.append(current)
        current = children[current].reshape(-1)
    return tuple(levels)


def _spread(feature: np.ndarray, threshold: np.ndarray, splits: np.ndarray) -> np.ndarray:
    spread = np.ones(len(feature))
    for column in np.unique(feature[splits]):
        chosen = splits & (feature == column)
        spread[chosen] = np.std(threshold[chosen]) or max(abs(threshold[chosen][0]), 1.0)
    return spread


def _forest(
    roots: Sequence[int], feature: Any, threshold: Any, mode: np.ndarray, children: np.ndarray,
    missing: np.ndarray, weights: np.ndarray,
) -> Forest:  # fmt: skip
    feature, threshold = np.asarray(feature, np.int64), np.asarray(threshold, np.float64)
    splits = mode != LEAF
    return Forest(
        roots=np.asarray(roots, np.int64),
        feature=feature,
        threshold=threshold,
        mode=mode,
        children=children,
        missing=missing.astype(bool),
        weights=weights,
        levels=_levels(np.asarray(roots, np.int64), mode, children),
        spread=_spread(feature, threshold, splits),
    )


def written_numbers(node: Node, name: str) -> Any:
    """A list, in the precision in which the file holds it."""
    value = node.option(f"{name}_as_tensor")
    return value.numpy() if value is not None else node.option(name)


def named_forest(node: Node, kind: str, targets: int) -> Forest:
    """Of a regressor or classifier: nodes are named by tree and number."""
    trees, numbers = node.option("nodes_treeids"), node.option("nodes_nodeids")
    place = {key: index for index, key in enumerate(zip(trees, numbers, strict=True))}
    names = node.option("nodes_modes")
    mode = np.array([LEAF if name == "LEAF" else MODES.index(name) for name in names])
    children = np.repeat(np.arange(len(mode))[:, None], 2, axis=1)
    for side, name in enumerate(("nodes_falsenodeids", "nodes_truenodeids")):
        for index, child in enumerate(node.option(name)):
            if mode[index] != LEAF:
                children[index, side] = place[trees[index], child]
    weights = np.zeros((len(mode), targets))
    leaves = zip(
        node.option(f"{kind}_treeids"),
        node.option(f"{kind}_nodeids"),
        node.option(f"{kind}_ids"),
        written_numbers(node, f"{kind}_weights"),
        strict=True,
    )
    for tree, number, target, weight in leaves:
        weights[place[tree, number], target] += weight
    inner = set(children[mode != LEAF].reshape(-1).tolist())
    roots = [index for index in range(len(mode)) if index not in inner]
    missing = node.option("nodes_missing_value_tracks_true") or [0] * len(mode)
    return _forest(
        roots,
        node.option("nodes_featureids"),
        written_numbers(node, "nodes_values"),
        mode,
        children,
        np.asarray(missing),
        weights,
    )


def numbered_forest(node: Node) -> Forest:
    """Of the operator TreeEnsemble: inner nodes and leaves are numbered apart."""
    splits = node.option("nodes_splits").double().numpy()
    leaves = node.option("leaf_weights").double().numpy()
    count = len(splits)
    mode = np.concatenate(
        [node.option("nodes_modes").numpy().astype(np.int64), [LEAF] * len(leaves)]
    )
    if (mode[:count] == LEAF).any():
        raise DataError(
            f"node '{node.name}' (TreeEnsemble) splits by membership in a set",
            expected="splits by a threshold",
            fix="export the model with a version of ai.onnx.ml before 5",
        )
    children = np.repeat(np.arange(len(mode))[:, None], 2, axis=1)
    for side, name in enumerate(("nodes_false", "nodes_true")):
        is_leaf = np.asarray(node.option(f"{name}leafs"))
        children[:count, side] = np.asarray(node.option(f"{name}nodeids")) + count * is_leaf
    # A tree of one leaf is written as a split whose two children are that leaf.
    weights = np.zeros((len(mode), node.option("n_targets", 1)))
    targets = np.asarray(node.option("leaf_targetids"))
    np.add.at(weights, (np.arange(count, len(mode)), targets), leaves)
    missing = node.option("nodes_missing_value_tracks_true") or [0] * count
    blank = np.zeros(len(leaves))
    return _forest(
        node.option("tree_roots"),
        np.concatenate([node.option("nodes_featureids"), blank]),
        np.concatenate([splits, blank]),
        mode,
        children,
        np.concatenate([missing, blank]),
        weights,
    )
