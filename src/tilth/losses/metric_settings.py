"""The settings of training by a metric: the ``[loss]`` table of a recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from tilth.errors import SettingsError
from tilth.losses.metric_values import Failure, MetricRules
from tilth.losses.surrogate_settings import SurrogateSettings

__all__ = ["MetricSettings", "OnAlarm"]

OnAlarm = Literal["ordinary", "warn", "stop"]


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """A metric that the run is to better, beside its ordinary loss.

    Attributes:
        metric: ``"package.module:function"`` or ``"file.py:function"``, called with NumPy arrays
            (prediction, target); "" trains by the ordinary loss alone.
        goal: whether "lower" or "higher" values are better.
        low, high: bounds of the metric; give those that it has.
        inputs: what predictions and targets are (`tilth.losses.surrogate_inputs.INPUTS`), or a
            function ``"package.module:function"`` that makes features of them; "" takes what the
            recipe's predictions are.
        per: the metric judges one "example" or a "set" of ``set_size``.
        set_size: of a set; batches must hold whole ones.
        surrogate: a folder that `tilth metric fit` wrote, or a file that `as_differentiable` reads,
            whose inputs are the features that ``inputs`` makes; "" learns the metric during the
            run.
        weight: of the metric's part, in the end.
        ordinary: weight of the ordinary loss, in the end. It holds the network where the
            surrogate knows the metric: with 0 the surrogate's errors are found and used.
        balance: "gradient" scales the metric's part so that, at weight 1, it pulls at the
            network's outputs as hard as the ordinary loss; "value" takes it in standard deviations
            of the metric.
        begin: share of the run before which the ordinary loss is alone; outputs are scored already.
        ramp: share of the run over which the weights then go to their ends.
        look_every: steps between looks: at each, some current outputs are given to the metric, and
            at the next one, when their values have come, compared with what was believed of them.
        calls_per_look: outputs a look, over all processes.
        refresh: learn from what was looked at; otherwise it is only watched.
        refresh_steps: of the surrogate, a look.
        capacity: outputs that are kept to learn from.
        recent_share: of what a refresh learns from, the share of the newest tenth.
        calls: of the metric in the whole run, at most; 0 for no limit.
        workers: processes that call the metric, beside each process that trains; 0 calls it within.
        on_failure: of outputs that the metric cannot judge: "error", "skip" or "worst".
        on_alarm: when the surrogate and the metric part company: train by the "ordinary" loss
            alone until they meet again, only "warn", or "stop" the run.
        window: outputs, lately scored, that the watch judges by.
        least_correlation: rank correlation of belief and truth, below which the watch calls.
        most_optimism: how far beliefs may be too good, on average, in errors on outputs held out.
        network: of the surrogate.
    """

    metric: str = ""
    goal: Literal["lower", "higher"] = "lower"
    low: float | None = None
    high: float | None = None
    inputs: str = ""
    per: Literal["example", "set"] = "example"
    set_size: int = 8
    surrogate: str = ""
    weight: float = 1.0
    ordinary: float = 1.0
    balance: Literal["gradient", "value"] = "gradient"
    begin: float = 0.3
    ramp: float = 0.1
    look_every: int = 6
    calls_per_look: int = 16
    refresh: bool = True
    refresh_steps: int = 12
    capacity: int = 4000
    recent_share: float = 0.5
    calls: int = 0
    workers: int = 1
    on_failure: Failure = "error"
    on_alarm: OnAlarm = "ordinary"
    window: int = 128
    least_correlation: float = 0.1
    most_optimism: float = 2.0
    network: SurrogateSettings = field(default_factory=SurrogateSettings)

    def __post_init__(self) -> None:
        self._require("balance", self.balance in ("gradient", "value"), "'gradient' or 'value'")
        self._require("per", self.per in ("example", "set"), "'example' or 'set'")
        alarms = get_args(OnAlarm)
        self._require("on_alarm", self.on_alarm in alarms, "one of " + ", ".join(alarms))
        for name in ("begin", "ramp", "recent_share"):
            self._require(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        for name in ("set_size", "look_every", "calls_per_look", "capacity", "window"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("weight", "ordinary", "most_optimism", "calls", "workers", "refresh_steps"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        self._require("least_correlation", -1 <= self.least_correlation <= 1, "-1 to 1")
        self._require(
            "weight",
            self.weight + self.ordinary > 0,
            "above 0 where ordinary is 0: nothing is left",
        )
        can_learn = bool(self.surrogate) or self.refresh or not self.metric
        self._require(
            "refresh", can_learn, "true without a surrogate: it has nothing to learn from"
        )
        self._require(
            "begin",
            bool(self.surrogate) or self.begin > 0 or not self.metric,
            "above 0 without a surrogate: the first outputs teach it",
        )
        _ = self.rules

    @property
    def is_on(self) -> bool:
        """Whether a metric is named."""
        return bool(self.metric)

    @property
    def rules(self) -> MetricRules:
        """What values the metric has."""
        return MetricRules(goal=self.goal, low=self.low, high=self.high, on_failure=self.on_failure)

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting 'loss.{name}' cannot be used",
                expected=expected,
                got=repr(getattr(self, name)),
            )
