"""Fitted estimators of every exact family, and how far their differentiable twins are off.

    python benchmarks/metric_loss_estimators.py

For each: the largest difference of the outputs from the estimator's own, and of the gradients from
central differences of the estimator's own outputs (not of the twin's).
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Container
from typing import Any

import numpy as np
import torch
from sklearn import (
    compose,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    kernel_approximation,
    kernel_ridge,
    linear_model,
    model_selection,
    multioutput,
    neural_network,
    pipeline,
    preprocessing,
    svm,
)
from sklearn.gaussian_process import kernels

from tilth.losses.differentiable import as_differentiable
from tilth.losses.differentiable.estimators import asked_method
from tilth.losses.differentiable.model_outputs import Outputs, estimator_outputs

__all__ = ["Example", "exact_examples", "measure", "numeric_gradient", "unfitted_examples"]

# Name, fitted estimator, inputs [n, d].
Example = tuple[str, Any, np.ndarray]

NUM_ROWS, NUM_FEATURES = 120, 5
STEP = 1e-5


def exact_examples(seed: int = 0, *, names: Container[str] | None = None) -> list[Example]:
    """One fitted estimator a family, kernel, activation and step; those of ``names`` only."""
    x, y, labels = _data(seed)
    several = np.stack([y, np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
    targets = {"y": y, "positive": np.exp(y / 3), "labels": labels, "several": several}
    targets["two"] = (labels > 0).astype(int)
    examples = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those that stop before they converged are as good here
        for target, name, estimator in unfitted_examples():
            if names is None or name in names:
                examples.append((name, estimator.fit(x, targets[target]), x))
    return examples


def measure(
    seed: int = 0, *, names: Container[str] | None = None
) -> dict[str, tuple[float, float]]:
    """Per example: largest difference of outputs, and of gradients from finite differences."""
    found = {}
    for name, estimator, x in exact_examples(seed, names=names):
        outputs = estimator_outputs(estimator, asked_method(estimator))
        twin = as_differentiable(estimator, sample=x, method="exact")
        rows = _away_from_kinks(x[:24])
        inputs = torch.as_tensor(rows).requires_grad_()
        values = twin(inputs).reshape(len(rows), -1)
        upstream = np.random.default_rng(seed).standard_normal(values.shape[1])
        (gradient,) = torch.autograd.grad((values @ torch.as_tensor(upstream)).sum(), inputs)
        slow = numeric_gradient(lambda z, o=outputs, u=upstream: o(z) @ u, rows)
        difference = np.abs(gradient.numpy() - slow).max(axis=1)
        found[name] = (
            float(np.abs(values.detach().numpy() - outputs(rows)).max()),
            # A step across a kink of a piecewise model is nobody's gradient: one row may be one.
            float(np.sort(difference)[-2]),
        )
    return found


def numeric_gradient(
    function: Callable[[np.ndarray], np.ndarray] | Outputs, x: np.ndarray, *, step: float = STEP
) -> np.ndarray:
    """Central differences of [n, d] -> [n]."""
    gradient = np.empty_like(x)
    for column in range(x.shape[1]):
        move = np.zeros(x.shape[1])
        move[column] = step
        gradient[:, column] = (function(x + move) - function(x - move)).reshape(-1) / (2 * step)
    return gradient


def _away_from_kinks(x: np.ndarray) -> np.ndarray:
    """Fitted points are where quantiles bend and where distances are zero."""
    return x + 0.01 * np.random.default_rng(7).standard_normal(x.shape)


def _data(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((NUM_ROWS, NUM_FEATURES)) * [1, 2, 0.5, 1, 3] + [0, 1, 0, -2, 5]
    y = np.sin(x[:, 0]) + 0.3 * x[:, 1] * x[:, 2] + 0.1 * x[:, 4]
    y = y + 0.05 * random.standard_normal(NUM_ROWS)
    return x, y, np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))


def unfitted_examples() -> list[tuple[str, str, Any]]:
    """Which target it is to be fitted on, its name, and the estimator."""
    return [
        *_linear(),
        *_perceptrons(),
        *_kernels(),
        *_processes(),
        *_steps(),
        *_targets(),
        *_ensembles(),
    ]


def _linear() -> list[tuple[str, str, Any]]:
    regressors = {
        "LinearRegression": linear_model.LinearRegression(),
        "LinearRegression without intercept": linear_model.LinearRegression(fit_intercept=False),
        "Ridge": linear_model.Ridge(),
        "Lasso": linear_model.Lasso(alpha=0.01),
        "ElasticNet": linear_model.ElasticNet(alpha=0.01),
        "BayesianRidge": linear_model.BayesianRidge(),
        "ARDRegression": linear_model.ARDRegression(),
        "HuberRegressor": linear_model.HuberRegressor(),
        "SGDRegressor": linear_model.SGDRegressor(eta0=1e-3, random_state=0),
        "QuantileRegressor": linear_model.QuantileRegressor(),
        "LinearSVR": svm.LinearSVR(random_state=0),
        "PLSRegression": cross_decomposition.PLSRegression(n_components=3),
        "DummyRegressor": dummy.DummyRegressor(),
        "RANSACRegressor": linear_model.RANSACRegressor(random_state=0),
    }
    several = {
        "Ridge of several": linear_model.Ridge(),
        "MultiTaskLasso": linear_model.MultiTaskLasso(alpha=0.01),
        "PLSRegression of several": cross_decomposition.PLSRegression(n_components=3),
    }
    links = {
        "TweedieRegressor": linear_model.TweedieRegressor(power=1.5),
        "PoissonRegressor": linear_model.PoissonRegressor(),
        "GammaRegressor": linear_model.GammaRegressor(),
    }
    classifiers = {
        "LogisticRegression": linear_model.LogisticRegression(),
        "LinearSVC": svm.LinearSVC(),
        "RidgeClassifier": linear_model.RidgeClassifier(),
        "SGDClassifier log": linear_model.SGDClassifier(loss="log_loss", random_state=0),
        "SGDClassifier hinge": linear_model.SGDClassifier(random_state=0),
        "LinearDiscriminantAnalysis": discriminant_analysis.LinearDiscriminantAnalysis(),
    }
    return [
        *_rows("y", regressors),
        *_rows("several", several),
        *_rows("positive", links),
        *_rows("labels", classifiers),
        *_rows("two", {f"{name} of two": one for name, one in classifiers.items()}),
    ]


def _perceptrons() -> list[tuple[str, str, Any]]:
    def settings(activation: str) -> dict[str, Any]:
        sizes = (16, 8)
        return {
            "hidden_layer_sizes": sizes,
            "activation": activation,
            "max_iter": 60,
            "random_state": 0,
        }

    names = ("identity", "logistic", "tanh", "relu")
    regressor, classifier = neural_network.MLPRegressor, neural_network.MLPClassifier
    return [
        *_rows("y", {f"MLPRegressor {one}": regressor(**settings(one)) for one in names}),
        *_rows("several", {"MLPRegressor of several": regressor(**settings("tanh"))}),
        *_rows("labels", {"MLPClassifier": classifier(**settings("tanh"))}),
        *_rows("two", {"MLPClassifier of two": classifier(**settings("tanh"))}),
    ]


def _kernels() -> list[tuple[str, str, Any]]:
    shapes = ("linear", "poly", "rbf", "sigmoid")
    scaler = preprocessing.StandardScaler
    machines = {
        f"SVR {one}": pipeline.make_pipeline(scaler(), svm.SVR(kernel=one)) for one in shapes
    }
    machines["NuSVR"] = svm.NuSVR(gamma=0.1)
    ridges = {
        f"KernelRidge {one}": pipeline.make_pipeline(scaler(), kernel_ridge.KernelRidge(kernel=one))
        for one in (*shapes, "laplacian", "cosine")
    }
    for one in ("chi2", "additive_chi2"):  # of numbers above zero
        ridges[f"KernelRidge {one}"] = pipeline.make_pipeline(
            preprocessing.MinMaxScaler(feature_range=(1, 2)),
            kernel_ridge.KernelRidge(kernel=one, gamma=1.0),
        )
    features = {
        "Nystroem": kernel_approximation.Nystroem(gamma=0.1, n_components=30, random_state=0),
        "RBFSampler": kernel_approximation.RBFSampler(gamma=0.1, random_state=0),
    }
    return [
        *_rows("y", {**machines, **ridges, **_before_ridge(features)}),
        *_rows("several", {"KernelRidge of several": kernel_ridge.KernelRidge(kernel="rbf")}),
        *_rows("two", {"SVC of two": svm.SVC(gamma=0.1), "NuSVC of two": svm.NuSVC(gamma=0.1)}),
    ]


def _processes() -> list[tuple[str, str, Any]]:
    one, each = 2.0, np.array([1.0, 2.0, 1.0, 3.0, 4.0])
    covariances = {
        "RBF": kernels.RBF(one),
        "RBF of each": kernels.ConstantKernel(2.0) * kernels.RBF(each),
        "Matern 1/2": kernels.Matern(each, nu=0.5),
        "Matern 3/2": kernels.Matern(one, nu=1.5),
        "Matern 5/2": kernels.Matern(each, nu=2.5),
        "Matern of any smoothness": kernels.Matern(one, nu=np.inf),
        "RationalQuadratic": kernels.RationalQuadratic(one, alpha=0.7),
        "DotProduct": kernels.DotProduct(0.5) ** 2,
        "ExpSineSquared": kernels.ExpSineSquared(2.0, 15.0) + kernels.RBF(3.0),
        "PairwiseKernel": kernels.PairwiseKernel(gamma=0.1, metric="laplacian"),
        "sum and product": kernels.RBF(one) * kernels.DotProduct() + kernels.WhiteKernel(0.1),
    }

    def process(kernel: Any) -> Any:
        return gaussian_process.GaussianProcessRegressor(
            kernel, alpha=1e-2, optimizer=None, normalize_y=True
        )

    return [
        *_rows("y", {f"GPR {name}": process(kernel) for name, kernel in covariances.items()}),
        *_rows("several", {"GPR of several": process(kernels.RBF(one))}),
    ]


def _steps() -> list[tuple[str, str, Any]]:
    make = pipeline.make_pipeline
    scalers = {
        "StandardScaler": preprocessing.StandardScaler(),
        "StandardScaler of means": preprocessing.StandardScaler(with_std=False),
        "MinMaxScaler": preprocessing.MinMaxScaler(clip=True),
        "MaxAbsScaler": preprocessing.MaxAbsScaler(),
        "RobustScaler": preprocessing.RobustScaler(),
        **{f"Normalizer {norm}": preprocessing.Normalizer(norm) for norm in ("l1", "l2", "max")},
    }
    bends = {
        "PolynomialFeatures": preprocessing.PolynomialFeatures(3),
        "PolynomialFeatures of pairs": preprocessing.PolynomialFeatures(
            2, interaction_only=True, include_bias=False
        ),
        "PowerTransformer": preprocessing.PowerTransformer(),
        "PowerTransformer box-cox": make(
            preprocessing.MinMaxScaler(feature_range=(1, 3)),
            preprocessing.PowerTransformer("box-cox"),
        ),
        "QuantileTransformer": preprocessing.QuantileTransformer(n_quantiles=20),
        "QuantileTransformer normal": preprocessing.QuantileTransformer(
            n_quantiles=20, output_distribution="normal"
        ),
        "FunctionTransformer": preprocessing.FunctionTransformer(np.arcsinh),
    }
    choices = {
        "PCA": decomposition.PCA(3),
        "PCA whitened": decomposition.PCA(3, whiten=True),
        "TruncatedSVD": decomposition.TruncatedSVD(3, random_state=0),
        "FastICA": decomposition.FastICA(3, random_state=0),
        "VarianceThreshold": feature_selection.VarianceThreshold(0.5),
        "SelectKBest": feature_selection.SelectKBest(feature_selection.f_regression, k=3),
        "RFE": feature_selection.RFE(linear_model.Ridge(), n_features_to_select=3),
        "SimpleImputer": impute.SimpleImputer(),
        "ColumnTransformer": compose.ColumnTransformer(
            [
                ("scaled", preprocessing.StandardScaler(), [0, 3]),
                ("squared", preprocessing.PolynomialFeatures(2), slice(1, 3)),
            ],
            remainder="passthrough",
        ),
        "FeatureUnion": pipeline.FeatureUnion(
            [("scaled", preprocessing.StandardScaler()), ("parts", decomposition.PCA(2))],
            transformer_weights={"parts": 2.0},
        ),
    }
    return _rows("y", _before_ridge({**scalers, **bends, **choices}))


def _targets() -> list[tuple[str, str, Any]]:
    ways = {
        "StandardScaler": preprocessing.StandardScaler(),
        "MinMaxScaler": preprocessing.MinMaxScaler(),
        "PowerTransformer": preprocessing.PowerTransformer(),
        "QuantileTransformer": preprocessing.QuantileTransformer(
            n_quantiles=20, output_distribution="normal"
        ),
    }
    models = {
        f"target by {name}": compose.TransformedTargetRegressor(
            linear_model.Ridge(), transformer=way
        )
        for name, way in ways.items()
    }
    models["target by log and exp"] = compose.TransformedTargetRegressor(
        linear_model.Ridge(), func=np.log, inverse_func=np.exp
    )
    return _rows("positive", models)


def _ensembles() -> list[tuple[str, str, Any]]:
    members = [("ridge", linear_model.Ridge()), ("machine", svm.SVR(gamma=0.1))]
    logistic = linear_model.LogisticRegression
    voters = [("first", logistic()), ("second", logistic(C=0.01))]
    models = {
        "VotingRegressor": ensemble.VotingRegressor(members, weights=[1, 3]),
        "BaggingRegressor": ensemble.BaggingRegressor(
            svm.SVR(gamma=0.1), n_estimators=4, max_features=3, random_state=0
        ),
        "StackingRegressor": ensemble.StackingRegressor(members, passthrough=True, cv=3),
        "AdaBoostRegressor of ridges": ensemble.AdaBoostRegressor(
            linear_model.Ridge(), n_estimators=5, random_state=0
        ),
        "GridSearchCV": model_selection.GridSearchCV(
            pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVR()),
            {"svr__C": [0.1, 1.0]},
            cv=3,
        ),
    }
    several = {"MultiOutputRegressor": multioutput.MultiOutputRegressor(svm.SVR(gamma=0.1))}
    classifiers = {
        "VotingClassifier": ensemble.VotingClassifier(voters, voting="soft"),
        "BaggingClassifier": ensemble.BaggingClassifier(logistic(), n_estimators=3, random_state=0),
        "StackingClassifier": ensemble.StackingClassifier(voters, cv=3),
    }
    return [
        *_rows("y", models),
        *_rows("several", several),
        *_rows("labels", classifiers),
        *_rows("two", {f"{name} of two": one for name, one in classifiers.items()}),
    ]


def _rows(target: str, estimators: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [(target, name, estimator) for name, estimator in estimators.items()]


def _before_ridge(steps: dict[str, Any]) -> dict[str, Any]:
    return {
        name: pipeline.make_pipeline(step, linear_model.Ridge()) for name, step in steps.items()
    }


def main() -> None:
    """Print the worst of all, and every one as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="every example")
    given = parser.parse_args()
    found = measure()
    if given.json:
        print(json.dumps(found, indent=1))
    outputs, gradients = (max(pair[place] for pair in found.values()) for place in (0, 1))
    print(
        f"{len(found)} estimators: outputs within {outputs:.1e}, gradients within {gradients:.1e}"
    )


if __name__ == "__main__":
    main()
