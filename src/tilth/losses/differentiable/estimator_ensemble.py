"""Ensembles of any members: votes of regressors, bags, stacks, one model an output, boosting.

They are as exact as their members.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.losses.differentiable.estimator_compose import Beside, Convert
from tilth.losses.differentiable.exact_pieces import (
    Chain,
    Columns,
    UnsupportedEstimatorError,
    as_float64,
    inside,
)

__all__ = ["WeightedMean", "WeightedMedian", "bag", "boosted", "one_an_output", "stack", "vote"]


class WeightedMean(nn.Module):
    """The mean of the outputs of several parts."""

    shares: Tensor

    def __init__(self, parts: Sequence[nn.Module], weights: Any = None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        weight = as_float64(np.ones(len(parts)) if weights is None else weights)
        self.register_buffer("shares", weight / weight.sum())

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        outputs = torch.stack([part(x) for part in self.parts])
        return torch.einsum("p,pnk->nk", self.shares, outputs)


class WeightedMedian(nn.Module):
    """The output in the middle, by weight; the gradient is that of its member."""

    weights: Tensor

    def __init__(self, parts: Sequence[nn.Module], weights: Any) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.register_buffer("weights", as_float64(weights))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n 1"]:
        outputs, order = torch.cat([part(x) for part in self.parts], dim=1).sort(dim=1, stable=True)
        share = self.weights[order].cumsum(dim=1)
        middle = (share >= share[:, -1:] / 2).int().argmax(dim=1, keepdim=True)
        return outputs.gather(1, middle)


def vote(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """VotingRegressor, and VotingClassifier where it votes with probabilities."""
    return WeightedMean(_members(estimator, convert, method), estimator._weights_not_none)


def bag(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """BaggingRegressor, and BaggingClassifier of members that know all classes."""
    parts: list[nn.Module] = []
    pairs = zip(estimator.estimators_, estimator.estimators_features_, strict=True)
    for number, (member, columns) in enumerate(pairs, start=1):
        with inside(f"member {number}"):
            if method == "predict_proba" and len(member.classes_) < len(estimator.classes_):
                raise UnsupportedEstimatorError(type(member).__name__, "it saw not all classes")
            parts.append(Chain(Columns(columns), convert(member, method)))
    return WeightedMean(parts)


def stack(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """StackingRegressor and StackingClassifier: the last reads what the others say."""
    parts = []
    is_binary = len(getattr(estimator, "classes_", ())) == 2
    pairs = zip(estimator.estimators_, estimator.stack_method_, strict=True)
    for number, (member, asked) in enumerate(pairs, start=1):
        with inside(f"member {number}"):
            part = convert(member, asked)
        # Of two classes the first is one less the second, and left out.
        parts.append(Chain(part, Columns([1])) if is_binary and asked == "predict_proba" else part)
    if estimator.passthrough:
        parts.append(nn.Identity())
    with inside("the final estimator"):
        return Chain(Beside(parts), convert(estimator.final_estimator_, method))


def one_an_output(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """MultiOutputRegressor: one regressor a column."""
    return Beside(_members(estimator, convert, method))


def boosted(estimator: Any, convert: Convert, method: str) -> nn.Module:
    """AdaBoostRegressor: the weighted median of its members."""
    members = _members(estimator, convert, method)
    return WeightedMedian(members, estimator.estimator_weights_[: len(members)])


def _members(estimator: Any, convert: Convert, method: str) -> list[nn.Module]:
    parts = []
    for number, member in enumerate(estimator.estimators_, start=1):
        with inside(f"member {number}"):
            parts.append(convert(member, method))
    return parts
