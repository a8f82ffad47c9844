"""The settings of a network that predicts a metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from tilth.errors import SettingsError

__all__ = ["Smoothness", "SurrogateSettings"]

Smoothness = Literal["none", "spectral", "penalty"]


@dataclass(frozen=True, kw_only=True)
class SurrogateSettings:
    """How a metric is learned, and how far its gradient is believed.

    Attributes:
        members: networks, each of another shape and with other examples; their spread says where
            the metric is not known.
        width: channels of the first layer.
        form: "pair" looks at prediction and target together; "distance" is the distance of what one
            network makes of each, least where they are equal: for predictions and targets of one
            shape.
        smoothness: "spectral" bounds what every layer can enlarge, "penalty" the gradient while the
            network is fitted, to ``slope``.
        slope: of the penalty: how much of the metric's range (of its standard deviation, where it
            has no bounds) the gradient may be, for an example whose prediction changes by 1.
        rank_weight: beside the error of values, that of their order.
        fit_steps: of the first fit.
        batch_size: examples a step.
        learning_rate: of Adam.
        uncertainty: standard deviations of the members that are added to the loss.
        spread_limit: an example teaches nothing where the members' standard deviation is more than
            this many times the error on examples held out; 0 lets all teach.
        gradient_limit: the gradient of one example is cut to this many times the batch's median
            norm; 0 leaves it.
    """

    members: int = 3
    width: int = 24
    form: Literal["pair", "distance"] = "pair"
    smoothness: Smoothness = "none"
    slope: float = 1.0
    rank_weight: float = 0.1
    fit_steps: int = 600
    batch_size: int = 64
    learning_rate: float = 0.002
    uncertainty: float = 0.0
    spread_limit: float = 0.0
    gradient_limit: float = 3.0

    def __post_init__(self) -> None:
        self._require("form", self.form in ("pair", "distance"), "'pair' or 'distance'")
        kinds = get_args(Smoothness)
        self._require("smoothness", self.smoothness in kinds, "one of " + ", ".join(kinds))
        for name in ("members", "width", "fit_steps", "batch_size"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "slope"):
            self._require(name, 0 < getattr(self, name) < math.inf, "above 0")
        for name in ("rank_weight", "uncertainty", "spread_limit", "gradient_limit"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        spread_wanted = self.uncertainty > 0 or self.spread_limit > 0
        several = self.members > 1 or not spread_wanted
        self._require("members", several, "2 or more beside uncertainty or spread_limit")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting 'network.{name}' of a surrogate cannot be used",
                expected=expected,
                got=repr(getattr(self, name)),
            )
