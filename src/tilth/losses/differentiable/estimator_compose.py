"""Models of several: pipelines, columns that go separate ways, targets that were transformed.

A composite converts its parts with ``convert(part, method)``, which it is given, and says of a part
that cannot be converted where it stands.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.differentiable.exact_pieces import Chain, Columns, inside

__all__ = [
    "Beside",
    "Convert",
    "best_found",
    "column_transformer",
    "feature_union",
    "inlier_model",
    "pipeline",
    "transformed_target",
]

Convert = Callable[[Any, str], nn.Module]


class Beside(nn.Module):
    """The outputs of several parts, side by side; each may be multiplied."""

    def __init__(self, parts: Sequence[nn.Module], factors: Sequence[float] | None = None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.factors = [1.0] * len(parts) if factors is None else list(factors)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        pairs = zip(self.parts, self.factors, strict=True)
        outputs = [part(x) if factor == 1 else part(x) * factor for part, factor in pairs]
        return torch.cat(outputs, dim=1)


def pipeline(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """Pipeline: every step transforms but the last, which does what is asked."""
    steps = list(enumerate(estimator.steps, start=1))
    if method == "inverse_transform":
        steps.reverse()
    parts = []
    for number, (name, step) in steps:
        if step is None or step == "passthrough":
            continue
        # Backwards all steps do the same; forwards the last alone does what is asked.
        is_asked = method == "inverse_transform" or number == len(estimator.steps)
        with inside(f"step {number} {name!r}"):
            parts.append(convert(step, method if is_asked else "transform"))
    return Chain(*parts)


def column_transformer(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """ColumnTransformer: every branch reads its own columns."""
    parts: list[nn.Module] = []
    for name, branch, _ in estimator.transformers_:
        columns = np.asarray(estimator._transformer_to_input_indices[name], dtype=np.int64)
        is_dropped = isinstance(branch, str) and branch == "drop"
        if is_dropped or not len(columns):
            continue
        if isinstance(branch, str):  # "passthrough"
            parts.append(Columns(columns))
            continue
        with inside(f"branch {name!r}"):
            parts.append(Chain(Columns(columns), convert(branch, method)))
    return Beside(parts)


def feature_union(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """FeatureUnion: all read the same."""
    weights = estimator.transformer_weights or {}
    parts: list[nn.Module] = []
    factors = []
    for name, branch in estimator.transformer_list:
        if isinstance(branch, str) and branch == "drop":
            continue
        factors.append(float(weights.get(name, 1.0)))
        if isinstance(branch, str):  # "passthrough"
            parts.append(nn.Identity())
            continue
        with inside(f"branch {name!r}"):
            parts.append(convert(branch, method))
    return Beside(parts, factors)


def transformed_target(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """TransformedTargetRegressor: the regressor, then the transformer backwards."""
    with inside("the regressor"):
        regressor = convert(estimator.regressor_, "predict")
    with inside("the transformer of the target"):
        return Chain(regressor, convert(estimator.transformer_, "inverse_transform"))


def best_found(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """A search over settings is the best estimator it found."""
    with inside("the best estimator"):
        return convert(estimator.best_estimator_, method)


def inlier_model(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """RANSACRegressor is the model of its inliers."""
    with inside("the inliers' model"):
        return convert(estimator.estimator_, method)
