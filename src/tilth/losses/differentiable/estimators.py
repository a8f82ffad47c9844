"""Which estimators of scikit-learn have a differentiable twin, and what makes it.

Adding one is a function and a line in `TABLE`. Functions take the fitted estimator; those of
models made of several (``is_composite``) also get the conversion of their parts. Nothing here
imports scikit-learn: a class is known by its name and by where it was defined.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from tilth.errors import SettingsError
from tilth.losses.differentiable import (
    estimator_compose,
    estimator_ensemble,
    estimator_gaussian_process,
    estimator_kernel,
    estimator_linear,
    estimator_mlp,
    estimator_neighbours,
    estimator_scale,
    estimator_transform,
    estimator_tree,
)
from tilth.losses.differentiable.exact_pieces import UnsupportedEstimatorError

__all__ = ["TABLE", "Twin", "asked_method", "is_estimator", "twin_of"]


@dataclass(frozen=True, kw_only=True)
class Twin:
    """One line of the table.

    Attributes:
        method: of the estimator, whose outputs the twin has.
        build: makes it of the fitted estimator.
        names: classes of scikit-learn, separated by blanks.
        is_smooth: it only comes close, by a temperature; all others are exact.
        is_composite: it is made of other estimators, and as exact as they are.
    """

    method: str
    build: Callable[..., nn.Module]
    names: str
    is_smooth: bool = False
    is_composite: bool = False


LINEAR_REGRESSORS = (
    "LinearRegression Ridge RidgeCV Lasso LassoCV ElasticNet ElasticNetCV MultiTaskLasso "
    "MultiTaskLassoCV MultiTaskElasticNet MultiTaskElasticNetCV Lars LarsCV LassoLars LassoLarsCV "
    "LassoLarsIC OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV BayesianRidge ARDRegression "
    "HuberRegressor QuantileRegressor TheilSenRegressor SGDRegressor PassiveAggressiveRegressor "
    "LinearSVR"
)
LINEAR_CLASSIFIERS = (
    "LogisticRegression LogisticRegressionCV RidgeClassifier RidgeClassifierCV LinearSVC "
    "SGDClassifier Perceptron PassiveAggressiveClassifier LinearDiscriminantAnalysis"
)
SELECTIONS = (
    "VarianceThreshold SelectKBest SelectPercentile SelectFpr SelectFdr SelectFwe "
    "GenericUnivariateSelect RFE RFECV SelectFromModel SequentialFeatureSelector"
)
PROJECTIONS = (
    "PCA IncrementalPCA TruncatedSVD FastICA GaussianRandomProjection SparseRandomProjection"
)
SEARCHES = "GridSearchCV RandomizedSearchCV HalvingGridSearchCV HalvingRandomSearchCV"
PREDICT, CHANCES, DECIDE = "predict", "predict_proba", "decision_function"
STEP, BACK = "transform", "inverse_transform"


def _exact(method: str, build: Callable[[Any], nn.Module], names: str) -> Twin:
    return Twin(method=method, build=build, names=names)


def _smooth(method: str, build: Callable[[Any], nn.Module], names: str) -> Twin:
    return Twin(method=method, build=build, names=names, is_smooth=True)


def _several(methods: str, build: Callable[..., nn.Module], names: str) -> tuple[Twin, ...]:
    return tuple(
        Twin(method=method, build=build, names=names, is_composite=True)
        for method in methods.split()
    )


TABLE: tuple[Twin, ...] = (
    _exact(PREDICT, estimator_linear.linear_predictor, LINEAR_REGRESSORS),
    _exact(PREDICT, estimator_linear.partial_least_squares, "PLSRegression PLSCanonical CCA"),
    _exact(STEP, estimator_linear.partial_least_squares_scores, "PLSRegression PLSCanonical CCA"),
    _exact(
        PREDICT,
        estimator_linear.generalised_linear,
        "TweedieRegressor PoissonRegressor GammaRegressor",
    ),
    _exact(PREDICT, estimator_linear.constant_predictor, "DummyRegressor"),
    _exact(DECIDE, estimator_linear.linear_predictor, LINEAR_CLASSIFIERS),
    _exact(
        CHANCES,
        estimator_linear.logistic_probabilities,
        "LogisticRegression LogisticRegressionCV LinearDiscriminantAnalysis",
    ),
    _exact(CHANCES, estimator_linear.stochastic_probabilities, "SGDClassifier"),
    _exact(PREDICT, estimator_mlp.perceptron, "MLPRegressor"),
    _exact(CHANCES, estimator_mlp.perceptron_probabilities, "MLPClassifier"),
    _exact(PREDICT, estimator_kernel.support_vectors, "SVR NuSVR"),
    _exact(DECIDE, estimator_kernel.support_vectors, "SVC NuSVC"),
    _exact(PREDICT, estimator_kernel.kernel_ridge, "KernelRidge"),
    _exact(STEP, estimator_kernel.kernel_features, "Nystroem"),
    _exact(STEP, estimator_kernel.fourier_features, "RBFSampler"),
    _exact(PREDICT, estimator_gaussian_process.gaussian_process, "GaussianProcessRegressor"),
    _exact(STEP, estimator_scale.standardised, "StandardScaler"),
    _exact(BACK, estimator_scale.unstandardised, "StandardScaler"),
    _exact(STEP, estimator_scale.range_scaled, "MinMaxScaler"),
    _exact(BACK, estimator_scale.range_unscaled, "MinMaxScaler"),
    _exact(STEP, estimator_scale.largest_scaled, "MaxAbsScaler"),
    _exact(BACK, estimator_scale.largest_unscaled, "MaxAbsScaler"),
    _exact(STEP, estimator_scale.quartile_scaled, "RobustScaler"),
    _exact(BACK, estimator_scale.quartile_unscaled, "RobustScaler"),
    _exact(STEP, estimator_scale.normalised, "Normalizer"),
    _exact(STEP, estimator_scale.projected, PROJECTIONS),
    _exact(STEP, estimator_scale.linear_discriminants, "LinearDiscriminantAnalysis"),
    _exact(STEP, estimator_scale.selected, SELECTIONS),
    _exact(STEP, estimator_scale.filled, "SimpleImputer KNNImputer IterativeImputer"),
    _exact(STEP, estimator_transform.polynomial, "PolynomialFeatures"),
    _exact(STEP, estimator_transform.power, "PowerTransformer"),
    _exact(BACK, estimator_transform.inverse_power, "PowerTransformer"),
    _exact(STEP, estimator_transform.quantiles, "QuantileTransformer"),
    _exact(BACK, estimator_transform.inverse_quantiles, "QuantileTransformer"),
    _exact(STEP, estimator_transform.known_function, "FunctionTransformer"),
    _exact(BACK, estimator_transform.inverse_function, "FunctionTransformer"),
    *_several(
        f"{PREDICT} {CHANCES} {DECIDE} {STEP} {BACK}", estimator_compose.pipeline, "Pipeline"
    ),
    *_several(STEP, estimator_compose.column_transformer, "ColumnTransformer"),
    *_several(STEP, estimator_compose.feature_union, "FeatureUnion"),
    *_several(PREDICT, estimator_compose.transformed_target, "TransformedTargetRegressor"),
    *_several(f"{PREDICT} {CHANCES} {DECIDE} {STEP}", estimator_compose.best_found, SEARCHES),
    *_several(PREDICT, estimator_compose.inlier_model, "RANSACRegressor"),
    *_several(PREDICT, estimator_ensemble.vote, "VotingRegressor"),
    *_several(CHANCES, estimator_ensemble.vote, "VotingClassifier"),
    *_several(PREDICT, estimator_ensemble.bag, "BaggingRegressor"),
    *_several(CHANCES, estimator_ensemble.bag, "BaggingClassifier"),
    *_several(PREDICT, estimator_ensemble.stack, "StackingRegressor"),
    *_several(CHANCES, estimator_ensemble.stack, "StackingClassifier"),
    *_several(PREDICT, estimator_ensemble.one_an_output, "MultiOutputRegressor"),
    *_several(PREDICT, estimator_ensemble.boosted, "AdaBoostRegressor"),
    _smooth(PREDICT, estimator_tree.single_tree, "DecisionTreeRegressor ExtraTreeRegressor"),
    _smooth(CHANCES, estimator_tree.single_tree, "DecisionTreeClassifier ExtraTreeClassifier"),
    _smooth(PREDICT, estimator_tree.forest, "RandomForestRegressor ExtraTreesRegressor"),
    _smooth(CHANCES, estimator_tree.forest, "RandomForestClassifier ExtraTreesClassifier"),
    _smooth(PREDICT, estimator_tree.gradient_boosting, "GradientBoostingRegressor"),
    _smooth(CHANCES, estimator_tree.gradient_boosting_probabilities, "GradientBoostingClassifier"),
    _smooth(PREDICT, estimator_tree.histogram_boosting, "HistGradientBoostingRegressor"),
    _smooth(
        CHANCES, estimator_tree.histogram_boosting_probabilities, "HistGradientBoostingClassifier"
    ),
    _smooth(PREDICT, estimator_neighbours.neighbours, "KNeighborsRegressor"),
)


def _lines() -> Iterator[tuple[tuple[str, str], Twin]]:
    for twin in TABLE:
        for name in twin.names.split():
            yield (name, twin.method), twin


BY_NAME = dict(_lines())


def is_estimator(model: Any) -> bool:
    """Whether a model keeps the manners of scikit-learn, without importing it."""
    has_outputs = any(hasattr(model, name) for name in (PREDICT, CHANCES, DECIDE, STEP))
    return hasattr(model, "get_params") and hasattr(model, "fit") and has_outputs


def asked_method(estimator: Any) -> str:
    """What is learned from a model: a classifier's chances or decisions, a regressor's values.

    Raises:
        SettingsError: it gives labels alone, which have no gradient.
    """
    from sklearn.base import is_classifier

    if not is_classifier(estimator):
        return PREDICT if hasattr(estimator, PREDICT) else STEP
    for method in (CHANCES, DECIDE):
        if hasattr(estimator, method):
            return method
    raise SettingsError(
        f"{type(estimator).__name__} gives labels alone, and labels have no gradient",
        expected="a classifier with predict_proba or decision_function",
        fix="for a VotingClassifier: voting='soft'",
    )


def twin_of(estimator: Any, method: str, *, allow_smooth: bool = False) -> nn.Module:
    """The torch module [n, d] -> [n, k] with the outputs of ``estimator.method``.

    Args:
        allow_smooth: take parts that only come close; otherwise they are unsupported.

    Raises:
        UnsupportedEstimatorError: a class, or a setting of one, that the table does not know.
        SettingsError: an estimator that was not fitted.
    """
    kind = _known_class(estimator, method)
    twin = BY_NAME.get((kind, method))
    if twin is None:
        raise UnsupportedEstimatorError(type(estimator).__name__)
    if twin.is_smooth and not allow_smooth:
        raise UnsupportedEstimatorError(type(estimator).__name__, "its outputs are steps")
    if not twin.is_composite:
        _expect_fitted(estimator)
        return twin.build(estimator)
    if kind != "Pipeline":  # whose parts answer for themselves
        _expect_fitted(estimator)

    def convert(part: Any, asked: str) -> nn.Module:
        return twin_of(part, asked, allow_smooth=allow_smooth)

    return twin.build(estimator, convert, method)


def _known_class(estimator: Any, method: str) -> str:
    """Name of the class of scikit-learn that the estimator is, also through a subclass."""
    for kind in type(estimator).__mro__:
        if not kind.__module__.startswith("sklearn."):
            continue
        own, known = (inspect.getattr_static(cls, method, None) for cls in (type(estimator), kind))
        if own is not known:
            raise UnsupportedEstimatorError(
                type(estimator).__name__, f"it has a {method} of its own"
            )
        return kind.__name__
    return type(estimator).__name__ + " (not of scikit-learn)"


def _expect_fitted(estimator: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise SettingsError(
            f"{type(estimator).__name__} is not fitted",
            expected="an estimator that predicts the metric already",
            fix="call its fit(inputs, scores) first",
        ) from error
