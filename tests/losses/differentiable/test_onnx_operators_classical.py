"""Operators of ai.onnx.ml: trees, kernels and linear models are those of onnxruntime."""

import numpy as np
import pytest
import torch
from onnx_graphs import answers, assert_as_runtime, one_node, random_of, read_all, runtime

from tilth.errors import DataError, SettingsError
from tilth.losses.differentiable import as_differentiable
from tilth.losses.differentiable.onnx_network import OnnxNetwork

X = random_of(2, 4, 5)


def forest(estimator):
    """Attributes of a TreeEnsembleRegressor for a forest of scikit-learn."""
    found = {key: [] for key in ("treeids", "nodeids", "featureids", "values", "modes")}
    found |= {key: [] for key in ("truenodeids", "falsenodeids")}
    leaves = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for number, tree in enumerate(item.tree_ for item in estimator.estimators_):
        for node in range(tree.node_count):
            leaf = tree.children_left[node] < 0
            found["treeids"].append(number)
            found["nodeids"].append(node)
            found["featureids"].append(max(int(tree.feature[node]), 0))
            found["values"].append(0.0 if leaf else float(tree.threshold[node]))
            found["modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            found["truenodeids"].append(0 if leaf else int(tree.children_left[node]))
            found["falsenodeids"].append(0 if leaf else int(tree.children_right[node]))
            if leaf:
                weight = float(tree.value[node].reshape(-1)[0])
                for key, value in zip(leaves, (number, node, 0, weight), strict=True):
                    leaves[key].append(value)
    return {
        **{f"nodes_{key}": value for key, value in found.items()},
        **{f"target_{key}": value for key, value in leaves.items()},
        "n_targets": 1,
    }


@pytest.fixture(scope="module")
def trees():
    """A model of ten trees, and examples that lie on none of its thresholds."""
    from sklearn.ensemble import RandomForestRegressor

    x = random_of(200, 3)
    y = x[:, 0] + np.sin(2 * x[:, 1])
    attributes = forest(RandomForestRegressor(10, max_depth=5, random_state=0).fit(x, y))
    model, _ = one_node(
        "TreeEnsembleRegressor",
        {"x": x},
        domain="ai.onnx.ml",
        aggregate_function="AVERAGE",
        **attributes,
    )
    return model, random_of(100, 3, seed=7), y


def test_hard_trees_are_those_of_onnxruntime_and_end_the_gradient(trees):
    model, x, _ = trees
    assert_as_runtime(model, x)
    assert read_all(model).stops == ("TreeEnsembleRegressor_0",)
    assert read_all(model).softened == ()
    with pytest.raises(DataError, match="no gradient passes"):
        OnnxNetwork.read(model)


def test_soft_trees_tend_to_the_hard_ones(trees):
    model, x, _ = trees
    (expected,) = runtime(model, x)
    errors = []
    for temperature in (0.3, 0.1, 1e-3, 1e-7):
        (found,) = answers(OnnxNetwork.read(model, smooth=temperature), x)
        errors.append(float((found - torch.from_numpy(expected)).abs().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


def test_trees_of_a_file_are_softened_and_how_far_off_is_said(trees, tmp_path):
    model, x, _ = trees
    path = tmp_path / "forest.onnx"
    path.write_bytes(model.SerializeToString())
    for source in (model, path):
        found = as_differentiable(source, sample=x)
        assert found.way == "smooth"
        assert 0.8 < found.r2 < 1
        assert found.max_error > 0
        points = torch.from_numpy(x).requires_grad_()
        found(points).sum().backward()
        assert bool((points.grad != 0).any())
    with pytest.raises(SettingsError, match="no exact gradient"):
        as_differentiable(path, sample=x, method="exact")
    with pytest.raises(SettingsError, match="not good enough"):
        as_differentiable(path, sample=x, least_r2=0.9999)
    distilled = as_differentiable(path, sample=x, method="distil", least_r2=0.3, progress=False)
    assert distilled.way == "distilled"


def test_temperature_must_be_above_zero(trees):
    with pytest.raises(SettingsError, match="smooth"):
        OnnxNetwork.read(trees[0], smooth=0.0)


def test_gradients_of_soft_trees_are_finite_differences(trees):
    model, x, _ = trees
    network = OnnxNetwork.read(model, smooth=0.3).double()
    assert network.softened == ("TreeEnsembleRegressor_0",)
    points = torch.from_numpy(x[:3]).double().requires_grad_()
    assert torch.autograd.gradcheck(network, points, eps=1e-6, atol=1e-5)


STUMP = {
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [0, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0],
    "nodes_modes": ["BRANCH_LT", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
    "nodes_missing_value_tracks_true": [1, 0, 0],
    "target_treeids": [0, 0],
    "target_nodeids": [1, 2],
    "target_ids": [0, 0],
    "target_weights": [1.0, 2.0],
    "n_targets": 1,
}


def stump(**changes):
    x = np.float32([[0.4], [0.5], [np.nan]])
    return one_node("TreeEnsembleRegressor", {"x": x}, domain="ai.onnx.ml", **{**STUMP, **changes})


def test_missing_numbers_take_the_way_that_is_written():
    model, arrays = stump()
    assert_as_runtime(model, *arrays)
    assert answers(read_all(model), *arrays)[0][:, 0].tolist() == [1.0, 2.0, 1.0]


def test_trees_that_are_none_are_refused():
    with pytest.raises(DataError, match="cannot be read"):
        read_all(stump(nodes_truenodeids=[7, 0, 0])[0])
    circle = {"nodes_modes": ["BRANCH_LT", "BRANCH_LT", "LEAF"], "nodes_truenodeids": [1, 1, 0]}
    with pytest.raises(DataError, match="on two ways"):
        read_all(stump(**circle, nodes_falsenodeids=[2, 2, 0])[0])


KERNEL = {"support_vectors": [float(v) for v in random_of(10)], "coefficients": [1.0, -2.0]}
KERNEL |= {"n_supports": 2, "kernel_params": [0.5, 0.2, 2.0], "rho": [0.1]}
LINEAR = {"coefficients": [float(v) for v in random_of(10)], "intercepts": [0.1, -0.2]}
CLASSICAL = {
    "kernel radial": ("SVMRegressor", {**KERNEL, "kernel_type": "RBF"}),
    "kernel of powers": ("SVMRegressor", {**KERNEL, "kernel_type": "POLY"}),
    "kernel of tanh": ("SVMRegressor", {**KERNEL, "kernel_type": "SIGMOID"}),
    "kernel linear": ("SVMRegressor", {**KERNEL, "kernel_type": "LINEAR"}),
    "linear": ("LinearRegressor", {**LINEAR, "targets": 2}),
    "classes": (
        "LinearClassifier",
        {**LINEAR, "classlabels_ints": [3, 5], "post_transform": "SOFTMAX"},
    ),
    "classes, one each": (
        "LinearClassifier",
        {**LINEAR, "classlabels_ints": [3, 5], "post_transform": "LOGISTIC"},
    ),
    "two classes by one score": (
        "LinearClassifier",
        {
            "coefficients": LINEAR["coefficients"][:5],
            "intercepts": [0.1],
            "classlabels_ints": [0, 1],
            "post_transform": "LOGISTIC",
        },
    ),
    "scaled": ("Scaler", {"offset": [0.5], "scale": [2.0]}),
    "by the sum": ("Normalizer", {"norm": "L1"}),
    "by the length": ("Normalizer", {"norm": "L2"}),
    "filled in": (
        "Imputer",
        {"imputed_value_floats": [7.0], "replaced_value_float": float(X[0, 1, 2])},
    ),
    "above a threshold": ("Binarizer", {"threshold": 0.2}),
}


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_operators_are_those_of_onnxruntime(name):
    operator, attributes = CLASSICAL[name]
    outputs = ("label", "scores") if operator == "LinearClassifier" else ("y",)
    model, arrays = one_node(operator, {"x": X[0]}, outputs, domain="ai.onnx.ml", **attributes)
    assert_as_runtime(model, *arrays)
