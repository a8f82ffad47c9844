"""Soft trees and neighbourhoods are the models of scikit-learn when their edges are sharp."""

import numpy as np
import pytest
import torch
from sklearn import ensemble, neighbors, tree
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tilth.errors import SettingsError
from tilth.losses.differentiable import as_differentiable, estimator_tree
from tilth.losses.differentiable.estimator_neighbours import SoftNeighbours
from tilth.losses.differentiable.estimators import asked_method, twin_of
from tilth.losses.differentiable.exact_pieces import UnsupportedEstimatorError
from tilth.losses.differentiable.model_outputs import estimator_outputs
from tilth.losses.differentiable.soft_trees import SoftTrees, TreeNodes

REGRESSORS = {
    "tree": tree.DecisionTreeRegressor(max_depth=6, random_state=0),
    "extra tree": tree.ExtraTreeRegressor(max_depth=6, random_state=0),
    "forest": ensemble.RandomForestRegressor(12, random_state=0),
    "extra trees": ensemble.ExtraTreesRegressor(12, random_state=0),
    "boosting": ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0),
    "boosting from zero": ensemble.GradientBoostingRegressor(n_estimators=30, init="zero"),
    "histograms": ensemble.HistGradientBoostingRegressor(max_iter=30),
    "histograms of counts": ensemble.HistGradientBoostingRegressor(max_iter=30, loss="poisson"),
    "adaptive boosting": ensemble.AdaBoostRegressor(n_estimators=10, random_state=0),
    "bag": ensemble.BaggingRegressor(n_estimators=5, max_features=0.6, random_state=0),
    "neighbours": neighbors.KNeighborsRegressor(6),
    "city neighbours": neighbors.KNeighborsRegressor(6, p=1),
    "near neighbours": neighbors.KNeighborsRegressor(6, weights="distance"),
    "all neighbours": neighbors.KNeighborsRegressor(240),
    "pipeline": make_pipeline(StandardScaler(), ensemble.RandomForestRegressor(5, random_state=0)),
}
CLASSIFIERS = {
    "tree": tree.DecisionTreeClassifier(max_depth=5, random_state=0),
    "forest": ensemble.RandomForestClassifier(8, random_state=0),
    "boosting": ensemble.GradientBoostingClassifier(n_estimators=8, random_state=0),
    "histograms": ensemble.HistGradientBoostingClassifier(max_iter=8),
}


def smooth_toy(num=240, seed=0):
    x = np.random.default_rng(seed).standard_normal((num, 4))
    return x, np.sin(x[:, 0]) + 0.5 * x[:, 1] ** 2 + 0.5 * x[:, 2] * x[:, 3]


def slope_of_toy(x):
    return np.stack([np.cos(x[:, 0]), x[:, 1], 0.5 * x[:, 3], 0.5 * x[:, 2]], axis=1)


def sharpened(estimator, temperature):
    network = twin_of(estimator, asked_method(estimator), allow_smooth=True)
    for part in network.modules():
        if isinstance(part, (SoftTrees, SoftNeighbours)):
            part.temperature = temperature
    return network


@pytest.mark.parametrize("name", REGRESSORS)
def test_soft_trees_become_the_trees_as_the_temperature_falls(name):
    x, y = smooth_toy()
    estimator = REGRESSORS[name].fit(x, np.exp(y) if "counts" in name else y)
    others, _ = smooth_toy(seed=1)
    expected = estimator.predict(others)
    differences = []
    for temperature in (0.1, 1e-3, 1e-9):
        found = sharpened(estimator, temperature)(torch.as_tensor(others))
        differences.append(np.abs(found[:, 0].numpy() - expected).mean())
    assert differences == sorted(differences, reverse=True)
    assert differences[-1] <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_soft_classifiers_become_the_classifiers(name, num_classes):
    x, y = smooth_toy()
    labels = np.digitize(y, np.quantile(y, np.arange(1, num_classes) / num_classes))
    estimator = CLASSIFIERS[name].fit(x, labels)
    others, _ = smooth_toy(seed=1)
    found = sharpened(estimator, 1e-9)(torch.as_tensor(others))
    np.testing.assert_allclose(found, estimator.predict_proba(others), atol=1e-6)


def test_exponential_loss_has_its_own_chances():
    x, y = smooth_toy()
    estimator = ensemble.GradientBoostingClassifier(loss="exponential", n_estimators=8)
    estimator.fit(x, (y > 0.5).astype(int))
    found = sharpened(estimator, 1e-9)(torch.as_tensor(x))
    # Fitted rows may lie on a threshold in single precision.
    assert np.median(np.abs(found.numpy() - estimator.predict_proba(x))) <= 1e-9


def test_soft_trees_match_a_plain_walk():
    nodes = TreeNodes(
        feature=np.array([0, -2, 1, -2, -2]),
        threshold=np.array([0.2, -2.0, -0.4, -2.0, -2.0]),
        left=np.array([1, -1, 3, -1, -1]),
        right=np.array([2, -1, 4, -1, -1]),
        value=np.array([[0.0, 0.0], [1.0, 5.0], [0.0, 0.0], [2.0, 6.0], [3.0, 7.0]]),
    )
    leaf = TreeNodes(
        feature=np.array([-2]),
        threshold=np.array([-2.0]),
        left=np.array([-1]),
        right=np.array([-1]),
        value=np.array([[0.5, 0.25]]),
    )
    model = SoftTrees([nodes, leaf, nodes], bias=np.array([10.0, 20.0]), num_features=2)
    model.scale = torch.tensor([2.0, 3.0], dtype=torch.float64)

    def walk(row, node):
        if nodes.left[node] < 0:
            return nodes.value[node]
        column = nodes.feature[node]
        width = model.temperature * model.scale[column].item()
        gate = 1 / (1 + np.exp(-(nodes.threshold[node] - row[column]) / width))
        return gate * walk(row, nodes.left[node]) + (1 - gate) * walk(row, nodes.right[node])

    x = np.random.default_rng(0).standard_normal((6, 2))
    expected = [2 * walk(row, 0) + leaf.value[0] + [10.0, 20.0] for row in x]
    np.testing.assert_allclose(model(torch.as_tensor(x)), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["boosting", "histograms"])
def test_smooth_gradient_points_where_the_true_one_does(name):
    x, y = smooth_toy(1500)
    estimator = {
        "boosting": ensemble.GradientBoostingRegressor(max_depth=4, random_state=0),
        "histograms": ensemble.HistGradientBoostingRegressor(),
    }[name].fit(x, y)
    twin = as_differentiable(estimator, sample=x)
    assert twin.way == "smooth"
    assert twin.r2 > 0.9
    others, _ = smooth_toy(seed=2)
    inputs = torch.as_tensor(others).requires_grad_()
    twin(inputs).sum().backward()
    found, true = inputs.grad.numpy(), slope_of_toy(others)
    cosine = (found * true).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(true, axis=1)
    assert cosine.mean() > 0.9


def test_scale_of_a_feature_does_not_matter():
    x, y = smooth_toy()
    factors = np.array([1.0, 100.0, 0.01, 7.0])
    first = as_differentiable(REGRESSORS["boosting"].fit(x, y), sample=x)
    found = first(torch.as_tensor(x))
    scaled = REGRESSORS["boosting"].fit(x * factors, y)
    second = as_differentiable(scaled, sample=x * factors)
    np.testing.assert_allclose(second(torch.as_tensor(x * factors)), found, rtol=1e-3, atol=1e-3)


def test_too_smooth_a_forest_is_refused_and_distilled_instead():
    x, y = smooth_toy()
    estimator = REGRESSORS["boosting"].fit(x, y)
    with pytest.raises(SettingsError, match=r"R2 .* at a temperature of 5"):
        as_differentiable(estimator, sample=x, method="smooth", temperature=5.0)
    twin = as_differentiable(estimator, sample=x, temperature=5.0, least_r2=0.7)
    assert twin.way == "distilled"
    assert "at a temperature of 5" in twin.description
    kept = as_differentiable(estimator, sample=x, method="smooth", temperature=5.0, least_r2=-9.0)
    assert kept.way == "smooth"


def test_smooth_without_a_sample_says_that_nothing_is_known():
    x, y = smooth_toy()
    twin = as_differentiable(REGRESSORS["boosting"].fit(x, y))
    assert (twin.way, twin.r2, twin.max_error) == ("smooth", None, None)
    assert "want of a sample" in twin.description
    # The spread of the thresholds stands in for the sample's.
    found = twin(torch.as_tensor(x)).numpy()
    assert np.corrcoef(found, REGRESSORS["boosting"].predict(x))[0, 1] > 0.95


def test_splits_by_category_and_other_distances_are_named():
    x, y = smooth_toy()
    x[:, 0] = np.digitize(x[:, 0], [-0.5, 0.5])
    categories = ensemble.HistGradientBoostingRegressor(max_iter=20, categorical_features=[0])
    with pytest.raises(UnsupportedEstimatorError, match="splits by categories"):
        as_differentiable(categories.fit(x, y), method="smooth")
    strange = neighbors.KNeighborsRegressor(metric="canberra").fit(x, y)
    with pytest.raises(UnsupportedEstimatorError, match="canberra"):
        as_differentiable(strange, method="smooth")


def test_forest_too_large_to_walk_is_distilled(monkeypatch):
    monkeypatch.setattr(estimator_tree, "MOST_NODES", 1000)
    x, y = smooth_toy()
    estimator = REGRESSORS["forest"].fit(x, y)
    twin = as_differentiable(estimator, sample=x, least_r2=0.5)
    assert twin.way == "distilled"
    assert "1000 at most" in twin.description


def test_boosting_that_starts_from_a_model_is_named():
    from sklearn.linear_model import Ridge

    x, y = smooth_toy()
    started = ensemble.GradientBoostingRegressor(init=Ridge(), n_estimators=3).fit(x, y)
    with pytest.raises(UnsupportedEstimatorError, match="starts from a Ridge"):
        as_differentiable(started, method="smooth")


def test_outputs_on_a_sample_are_what_the_estimator_says():
    x, y = smooth_toy()
    estimator = REGRESSORS["tree"].fit(x, y)
    outputs = estimator_outputs(estimator, "predict")(x)
    twin = as_differentiable(estimator, sample=x, method="smooth")
    found = twin(torch.as_tensor(x)).numpy()[:, None]
    assert twin.max_error == pytest.approx(np.abs(found - outputs).max())
