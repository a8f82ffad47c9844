"""The operators of ``ai.onnx.ml`` that are formulas: linear and kernel models, scalers and such.

Trees are in `tilth.losses.differentiable.onnx_operators_trees`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_graph import Node

__all__ = ["OPERATORS", "transformed"]


def _numbers(node: Node, name: str, like: Tensor) -> Tensor | None:
    """A list of numbers among the attributes, as a tensor beside ``like``; None without it."""
    values = node.option(name)
    return None if not values else torch.tensor(list(values), dtype=like.dtype, device=like.device)


def real(node: Node, x: Tensor) -> Tensor:
    """x as floating numbers; the classical operators take whole ones too."""
    return x if x.is_floating_point() else x.to(node.dtype(1))


def transformed(node: Node, scores: Tensor) -> Tensor:
    """Scores after the node's ``post_transform``."""
    kind = node.option("post_transform", "NONE")
    if kind == "LOGISTIC":
        return torch.sigmoid(scores)
    if kind == "SOFTMAX":
        return torch.softmax(scores, -1)
    if kind == "SOFTMAX_ZERO":  # a score of exactly zero stays zero
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        powers = torch.where(scores == 0, torch.zeros_like(scores), powers)
        return powers / powers.sum(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    if kind == "PROBIT":
        return 2**0.5 * torch.erfinv(2 * scores - 1)
    return scores


def linear_regressor(node: Node, x: Tensor) -> Tensor:
    """x W + b, transformed."""
    x = real(node, x)
    weight = _numbers(node, "coefficients", x)
    assert weight is not None
    bias = _numbers(node, "intercepts", x)
    result = x @ weight.reshape(node.option("targets", 1), -1).T
    return transformed(node, result if bias is None else result + bias)


def _with_other_class(node: Node, scores: Tensor) -> Tensor:
    """Scores of two classes from those of one."""
    if scores.shape[-1] != 1 or len(class_labels(node)) != 2:
        return transformed(node, scores)
    if node.option("post_transform", "NONE") == "LOGISTIC":
        chance = torch.sigmoid(scores)
        return torch.cat([1 - chance, chance], -1)
    return transformed(node, torch.cat([-scores, scores], -1))


def class_labels(node: Node) -> Sequence[object]:
    """Names of the classes, texts or numbers."""
    for name in ("classlabels_ints", "classlabels_int64s", "classlabels_strings"):
        if node.option(name):
            return node.option(name)
    return ()


def chosen_labels(node: Node, scores: Tensor) -> Tensor:
    """The class of the largest score; its place among the classes where their names are texts."""
    places = scores.argmax(-1)
    labels = class_labels(node)
    if not labels or isinstance(labels[0], str):
        return places
    return torch.tensor(list(labels), dtype=torch.int64, device=places.device)[places]


def linear_classifier(node: Node, x: Tensor) -> tuple[Tensor, Tensor]:
    """The label, and the scores of all classes."""
    x = real(node, x)
    weight = _numbers(node, "coefficients", x)
    assert weight is not None
    bias = _numbers(node, "intercepts", x)
    scores = x @ weight.reshape(-1, x.shape[-1]).T
    scores = _with_other_class(node, scores if bias is None else scores + bias)
    return chosen_labels(node, scores), scores


def _kernel(node: Node, x: Tensor, vectors: Tensor) -> Tensor:
    """Likeness [n, v] of each example and support vector."""
    gamma, offset, degree = list(node.option("kernel_params") or []) or (0.0, 0.0, 3.0)
    kind = node.option("kernel_type", "LINEAR")
    if kind == "RBF":
        # Differences, not the binomial formula, which loses half of the digits near a vector.
        return torch.exp(-gamma * (x[:, None] - vectors[None]).square().sum(-1))
    product = x @ vectors.T
    if kind == "POLY":
        return (gamma * product + offset) ** degree
    if kind == "SIGMOID":
        return torch.tanh(gamma * product + offset)
    return product


def kernel_regressor(node: Node, x: Tensor) -> Tensor:
    """Weighted likeness to the support vectors; without any, a linear model."""
    x = real(node, x)
    weight, rho = _numbers(node, "coefficients", x), _numbers(node, "rho", x)
    assert weight is not None
    count = node.option("n_supports", 0)
    if count:
        vectors = _numbers(node, "support_vectors", x)
        assert vectors is not None
        scores = _kernel(node, x, vectors.reshape(count, -1)) @ weight
    else:
        scores = x @ weight
    scores = (scores if rho is None else scores + rho[0])[:, None]
    if node.option("one_class", 0):
        return torch.where(scores > 0, torch.ones_like(scores), -torch.ones_like(scores))
    return transformed(node, scores)


def scaler(node: Node, x: Tensor) -> Tensor:
    """(x - offset) scale."""
    x = real(node, x)
    offset, scale = _numbers(node, "offset", x), _numbers(node, "scale", x)
    x = x if offset is None else x - offset
    return x if scale is None else x * scale


def normalizer(node: Node, x: Tensor) -> Tensor:
    """Each example by its largest number, its sum or its length; zeros stay."""
    x = real(node, x)
    kind = node.option("norm", "MAX")
    if kind == "MAX":
        norm = x.amax(-1, keepdim=True)
    else:
        norm = torch.linalg.vector_norm(x, 1 if kind == "L1" else 2, dim=-1, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


def imputer(node: Node, x: Tensor) -> Tensor:
    """One number put in place of another, mostly of NaN."""
    whole = node.option("imputed_value_int64s")
    missing = node.option("replaced_value_int64" if whole else "replaced_value_float", 0)
    values = _numbers(node, "imputed_value_int64s" if whole else "imputed_value_floats", x)
    if values is None:
        raise DataError(f"node '{node.name}' (Imputer) has no values to put in")
    place = x.isnan() if missing != missing else x == missing
    return torch.where(place, values, x)


def feature_vectorizer(node: Node, *inputs: Tensor) -> Tensor:
    """Columns side by side."""
    columns = [real(node, x).reshape(x.shape[0], -1) for x in inputs]
    return torch.cat(columns, 1)


def pick_features(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Columns by index."""
    rows = x[None] if x.ndim == 1 else x
    return rows.index_select(-1, indices.reshape(-1).to(x.device))


def binarizer(node: Node, x: Tensor) -> Tensor:
    """1 above the threshold, else 0."""
    return (x > node.option("threshold", 0.0)).to(x.dtype)


def one_hot_encoder(node: Node, x: Tensor) -> Tensor:
    """1 in the column of the category."""
    categories = node.option("cats_int64s")
    if not categories:
        raise DataError(f"node '{node.name}' (OneHotEncoder) has texts as categories")
    known = torch.tensor(list(categories), dtype=x.dtype, device=x.device)
    return (x[..., None] == known).to(node.dtype(1))


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "LinearRegressor": linear_regressor,
    "LinearClassifier": linear_classifier,
    "SVMRegressor": kernel_regressor,
    "Scaler": scaler,
    "Normalizer": normalizer,
    "Imputer": imputer,
    "FeatureVectorizer": feature_vectorizer,
    "ArrayFeatureExtractor": pick_features,
    "Binarizer": binarizer,
    "OneHotEncoder": one_hot_encoder,
    "ZipMap": lambda node, scores: scores,  # a dictionary a row; the table of scores is the same
}
