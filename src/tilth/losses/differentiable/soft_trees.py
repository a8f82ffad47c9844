"""Decision trees whose splits are smooth, so that a gradient passes through them.

Source: Frosst, Hinton, 2017, Distilling a Neural Network Into a Soft Decision Tree, arXiv
    1711.09784v1 (section 2).
Follows: section 2 -> `SoftTrees`.
Symbols: gate = p_i = chance to go left at a split, sigmoid((threshold - x) / (T s));
    scale = s = what one unit of the feature is, [d]; temperature = T.
Differs: there the splits are trained and look at all features; here a fitted tree keeps its own
    feature, threshold and leaves, and every example reaches every leaf by the product of its gates.
    For T -> 0 that is the tree.
Checked by: `test_soft_trees_become_the_trees_as_the_temperature_falls`,
    `test_soft_trees_match_a_plain_walk`
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.differentiable.exact_pieces import as_float64

__all__ = ["SoftTrees", "TreeNodes"]

TEMPERATURE = 0.2


@dataclass(frozen=True, kw_only=True)
class TreeNodes:
    """One tree, a row a node; the first is the root.

    Attributes:
        feature: column that a split reads [m].
        threshold: at most that goes left [m].
        left, right: rows of the children; below 0 for a leaf [m].
        value: what a leaf adds to the outputs [m, k].
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray


class SoftTrees(nn.Module):
    """The sum over trees of leaf values, each times the chance to get there: [n, d] -> [n, k].

    All trees go down together, one level after the other.

    Args:
        trees: their leaf values already weighted as the ensemble weighs them.
        bias: what is added to the sum [k].
        num_features: of the table.

    Attributes:
        temperature: how smooth, in units of ``scale``.
        scale: of each feature; the spread of the thresholds until a sample sets it.
    """

    bias: Tensor
    scale: Tensor

    def __init__(self, trees: Sequence[TreeNodes], *, bias: np.ndarray, num_features: int) -> None:
        super().__init__()
        self.temperature = TEMPERATURE
        self.num_trees = len(trees)
        self.register_buffer("bias", as_float64(bias))
        whole, roots = _joined(trees)
        self.register_buffer("scale", as_float64(_threshold_spread(whole, num_features)))
        self.levels = nn.ModuleList(_levels(whole, roots))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        chance = x.new_ones(x.shape[0], self.num_trees)
        total = self.bias.expand(x.shape[0], -1)
        for level in self.levels:
            added, chance = level(x, chance, self.temperature * self.scale)
            total = total + added
        return total


class _Level(nn.Module):
    """Nodes of one depth in all trees, by their place in the row of chances."""

    leaves: Tensor
    splits: Tensor
    values: Tensor
    features: Tensor
    thresholds: Tensor

    def __init__(self, nodes: np.ndarray, trees: TreeNodes) -> None:
        super().__init__()
        is_split = trees.left[nodes] >= 0
        inner, outer = nodes[is_split], nodes[~is_split]
        self.register_buffer("leaves", torch.as_tensor(np.flatnonzero(~is_split)))
        self.register_buffer("splits", torch.as_tensor(np.flatnonzero(is_split)))
        self.register_buffer("values", as_float64(trees.value[outer]))
        self.register_buffer("features", torch.as_tensor(trees.feature[inner].astype(np.int64)))
        self.register_buffer("thresholds", as_float64(trees.threshold[inner]))

    def forward(
        self, x: Float[Tensor, "n d"], chance: Float[Tensor, "n c"], width: Float[Tensor, "d"]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n e"]]:
        """What the leaves add, and the chances of the children: all left ones, then all right."""
        distance = self.thresholds - x[:, self.features]
        gate = torch.sigmoid(distance / width[self.features])
        here = chance[:, self.splits]
        below = torch.cat([here * gate, here * (1 - gate)], dim=1)
        return chance[:, self.leaves] @ self.values, below


def _levels(trees: TreeNodes, roots: np.ndarray) -> list[_Level]:
    levels = []
    nodes = roots
    while len(nodes):
        levels.append(_Level(nodes, trees))
        inner = nodes[trees.left[nodes] >= 0]
        nodes = np.concatenate([trees.left[inner], trees.right[inner]])
    return levels


def _joined(trees: Sequence[TreeNodes]) -> tuple[TreeNodes, np.ndarray]:
    """All trees as one table of nodes, and the rows of their roots."""
    roots = np.cumsum([0, *(len(tree.feature) for tree in trees[:-1])])
    pairs = list(zip(trees, roots, strict=True))

    def children(name: str) -> np.ndarray:
        rows = [(getattr(tree, name).astype(np.int64), root) for tree, root in pairs]
        return np.concatenate([np.where(row < 0, -1, row + root) for row, root in rows])

    whole = TreeNodes(
        feature=np.concatenate([tree.feature for tree in trees]),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        left=children("left"),
        right=children("right"),
        value=np.concatenate([tree.value for tree in trees]),
    )
    return whole, roots


def _threshold_spread(trees: TreeNodes, num_features: int) -> np.ndarray:
    """Standard deviation of each feature's thresholds, which lie where its values do."""
    is_split = trees.left >= 0
    features, thresholds = trees.feature[is_split], trees.threshold[is_split]
    spread = np.zeros(num_features)
    for column in np.unique(features):
        spread[column] = thresholds[features == column].std()
    known = spread[spread > 0]
    # A feature with a single threshold says nothing of itself.
    return np.where(spread > 0, spread, known.mean() if len(known) else 1.0)
