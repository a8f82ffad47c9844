"""Whether a surrogate and its metric still agree on what a network does now.

Every output is compared before anything is learned from it: the belief is that of the surrogate
which has not seen its value. Three ways of parting company are told from each other:

* exploited: beliefs have become better since training by them began, less than half of that is
  true, and they are better than the truth now;
* too good: beliefs are better than the truth, by more than the error on outputs held out explains;
* out of order: which of the current outputs is better is not known any more. This one also comes
  when the outputs hardly differ any more, and is then no loss.

Source: Gao, Schulman, Hilton, 2022, Scaling Laws for Reward Model Overoptimization, arXiv
    2210.10760.
Follows: proxy and gold reward beside each other over the course of an optimisation -> `Watch`.
Symbols: true = gold reward, believed = proxy reward, both in the metric's units; optimism = how
    much better than the truth the beliefs are.
Differs: judged over a window of the last outputs with their standard error, not by single scores.
Checked by: `test_exploited_surrogate_is_noticed`, `test_honest_surrogate_raises_no_alarm`
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.losses.surrogate_fit import rank_correlation

__all__ = ["Reading", "Watch"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the watch saw at one look.

    Attributes:
        step: at which the outputs were made.
        true, believed: means over the window, in the metric's units.
        rank_correlation: of belief and truth over the window; NaN where one of them is constant.
        optimism: how much better than the truth the beliefs are, in the metric's units.
        calls: of the metric so far.
        reasons: why there is an alarm; empty without one.
    """

    step: int
    true: float
    believed: float
    rank_correlation: float
    optimism: float
    calls: int
    reasons: tuple[str, ...] = ()

    @property
    def is_alarm(self) -> bool:
        """Whether surrogate and metric have parted company."""
        return bool(self.reasons)


@dataclass(kw_only=True)
class Watch:
    """Compares beliefs with true values of current outputs.

    Attributes:
        sign: 1 where lower values are better, -1 where higher ones are.
        window: outputs that a reading goes by.
        least: rank correlation below which there is an alarm.
        most: of optimism, in errors on outputs held out.
        held_out_error: of the surrogate, in the metric's units; None until it is known.
        readings: one a look.
    """

    sign: float
    window: int = 128
    least: float = 0.1
    most: float = 2.0
    held_out_error: float | None = None
    readings: list[Reading] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._believed: list[float] = []
        self._true: list[float] = []
        self._first: tuple[list[float], list[float]] | None = None

    def note(
        self,
        step: int,
        believed: NDArray[np.float64],
        true: NDArray[np.float64],
        *,
        calls: int,
    ) -> Reading:
        """Take up what was believed of outputs, and what is true of them."""
        self._believed = [*self._believed, *believed.tolist()][-self.window :]
        self._true = [*self._true, *true.tolist()][-self.window :]
        if self._first is None and len(self._true) >= self.window // 2:
            self._first = (list(self._believed), list(self._true))
        beliefs, truths = np.array(self._believed), np.array(self._true)
        reading = Reading(
            step=step,
            true=float(truths.mean()),
            believed=float(beliefs.mean()),
            rank_correlation=rank_correlation(beliefs, truths),
            optimism=float(self.sign * (truths - beliefs).mean()),
            calls=calls,
            reasons=self._reasons(beliefs, truths),
        )
        self.readings.append(reading)
        return reading

    @property
    def is_alarm(self) -> bool:
        """Whether there is one now."""
        return bool(self.readings) and self.readings[-1].is_alarm

    def _reasons(
        self, beliefs: NDArray[np.float64], truths: NDArray[np.float64]
    ) -> tuple[str, ...]:
        if self._first is None or len(truths) < self.window // 2:
            return ()
        reasons = []
        apart = self.sign * (truths - beliefs)
        error = float(apart.std()) / math.sqrt(len(apart))
        if self.held_out_error is not None:
            allowed = self.most * self.held_out_error + 2 * error
            if apart.mean() > allowed:
                reasons.append(
                    f"too good: beliefs are better than the truth by {apart.mean():.3g}, "
                    f"where {allowed:.3g} would be explained"
                )
        first_beliefs, first_truths = map(np.array, self._first)
        gained = self.sign * (first_beliefs.mean() - beliefs.mean())
        truly = self.sign * (first_truths.mean() - truths.mean())
        # The difference of belief and truth is known far better than either: what is hard about an
        # output is in both.
        first_apart = self.sign * (first_truths - first_beliefs)
        grown = apart.mean() - first_apart.mean()
        doubt = math.hypot(error, _standard_error(first_apart))
        # A surrogate that began by thinking too ill of everything gains by learning better.
        is_too_good = apart.mean() > 2 * error + 0.5 * (self.held_out_error or 0.0)
        if is_too_good and gained > 0 and truly < gained / 2 and grown > 3 * doubt:
            change = "better" if truly > 0 else "worse"
            reasons.append(
                f"exploited: beliefs have become better by {gained:.3g} since the start, "
                f"the metric {change} by {abs(truly):.3g}"
            )
        correlation = rank_correlation(beliefs, truths)
        if correlation < self.least:
            reasons.append(
                f"out of order: rank correlation {correlation:.2f}, below {self.least:g}"
            )
        return tuple(reasons)

    def state_dict(self) -> dict[str, Any]:
        """Plain values, as checkpoints take them."""
        return {
            "held_out_error": self.held_out_error,
            "believed": self._believed,
            "true": self._true,
            "first": self._first,
            "readings": [asdict(reading) for reading in self.readings],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.held_out_error = state["held_out_error"]
        self._believed, self._true = list(state["believed"]), list(state["true"])
        self._first = state["first"]
        self.readings = [
            Reading(**{**each, "reasons": tuple(each["reasons"])}) for each in state["readings"]
        ]


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std()) / math.sqrt(len(values))
