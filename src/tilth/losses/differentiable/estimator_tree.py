"""Trees and their ensembles in scikit-learn, with smooth splits (`soft_trees`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from tilth.losses.differentiable.estimator_linear import chances_of_scores, inverse_link
from tilth.losses.differentiable.exact_pieces import Chain, Elementwise, UnsupportedEstimatorError
from tilth.losses.differentiable.soft_trees import SoftTrees, TreeNodes

__all__ = [
    "forest",
    "gradient_boosting",
    "gradient_boosting_probabilities",
    "histogram_boosting",
    "histogram_boosting_probabilities",
    "single_tree",
]

# A batch of 32 through as many takes some 0.3 GB, and a tenth of a second on one core.
MOST_NODES = 200_000


def single_tree(estimator: Any) -> nn.Module:
    """A decision tree or an extra tree: values of a regressor, chances of a classifier."""
    return _summed(estimator, [_nodes(estimator)])


def forest(estimator: Any) -> nn.Module:
    """RandomForest and ExtraTrees: the mean of the trees."""
    share = 1 / len(estimator.estimators_)
    return _summed(estimator, [_nodes(tree, share) for tree in estimator.estimators_])


def gradient_boosting(estimator: Any) -> nn.Module:
    """GradientBoostingRegressor: the start and the sum of small steps."""
    return _boosted(estimator)


def gradient_boosting_probabilities(estimator: Any) -> nn.Module:
    """GradientBoostingClassifier: sigmoid or softmax of the sums."""
    # The exponential loss means half the log odds.
    factor = 2.0 if estimator.loss == "exponential" else 1.0
    return Chain(
        _boosted(estimator), Elementwise(lambda scores: chances_of_scores(factor * scores))
    )


def histogram_boosting(estimator: Any) -> nn.Module:
    """HistGradientBoostingRegressor, with the link of its loss."""
    return Chain(_histogram_sum(estimator), inverse_link(estimator._loss.link, estimator))


def histogram_boosting_probabilities(estimator: Any) -> nn.Module:
    """HistGradientBoostingClassifier."""
    return Chain(_histogram_sum(estimator), Elementwise(chances_of_scores))


def _nodes(estimator: Any, factor: float = 1.0) -> TreeNodes:
    tree = estimator.tree_
    if hasattr(estimator, "classes_"):
        if tree.n_outputs > 1:
            raise UnsupportedEstimatorError(type(estimator).__name__, "several outputs of classes")
        value = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
    else:
        value = tree.value[:, :, 0]
    return TreeNodes(
        feature=tree.feature,
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        value=value * factor,
    )


def _summed(
    estimator: Any, trees: Sequence[TreeNodes], bias: np.ndarray | None = None
) -> SoftTrees:
    num_nodes = sum(len(tree.feature) for tree in trees)
    if num_nodes > MOST_NODES:
        raise UnsupportedEstimatorError(
            type(estimator).__name__,
            f"every input would visit all of its {num_nodes} nodes ({MOST_NODES} at most)",
        )
    start = np.zeros(trees[0].value.shape[1]) if bias is None else bias
    return SoftTrees(trees, bias=start, num_features=int(estimator.n_features_in_))


def _boosted(estimator: Any) -> SoftTrees:
    initial = estimator.init_
    if not isinstance(initial, str) and not type(initial).__name__.startswith("Dummy"):
        raise UnsupportedEstimatorError(
            type(estimator).__name__, f"it starts from a {type(initial).__name__}"
        )
    start = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_)))[0]
    trees = []
    for row in estimator.estimators_:
        for output, tree in enumerate(row):
            trees.append(_of_output(_nodes(tree, estimator.learning_rate), output, len(row)))
    return _summed(estimator, trees, np.asarray(start, dtype=np.float64))


def _histogram_sum(estimator: Any) -> SoftTrees:
    trees = []
    for row in estimator._predictors:
        for output, predictor in enumerate(row):
            nodes = predictor.nodes
            is_leaf = nodes["is_leaf"].astype(bool)
            if nodes["is_categorical"][~is_leaf].any():
                raise UnsupportedEstimatorError(
                    type(estimator).__name__, "it splits by categories, which have no distance"
                )
            one = TreeNodes(
                feature=nodes["feature_idx"].astype(np.int64),
                threshold=nodes["num_threshold"],
                left=np.where(is_leaf, -1, nodes["left"].astype(np.int64)),
                right=np.where(is_leaf, -1, nodes["right"].astype(np.int64)),
                value=nodes["value"][:, None],
            )
            trees.append(_of_output(one, output, len(row)))
    start = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1)
    return _summed(estimator, trees, start)


def _of_output(tree: TreeNodes, output: int, num_outputs: int) -> TreeNodes:
    """The tree adds to one of several sums only."""
    value = np.zeros((len(tree.value), num_outputs))
    value[:, output] = tree.value[:, 0]
    return TreeNodes(
        feature=tree.feature,
        threshold=tree.threshold,
        left=tree.left,
        right=tree.right,
        value=value,
    )
