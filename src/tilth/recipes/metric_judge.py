"""The true metric of a few rows that were kept apart: what chooses a classifier's weights when it
is trained by a metric.

Cross-entropy would keep the weights from before the metric had its say, and the surrogate would be
its own judge. These calls are not of ``loss.calls``, the budget of training.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray

from tilth.errors import TrainingError
from tilth.losses.metric_calls import MetricCalls
from tilth.losses.metric_settings import MetricSettings
from tilth.train.processes import is_main

__all__ = ["Judge", "judging"]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Asks the metric of predictions that nothing is learned from.

    Attributes:
        settings: ``window`` says how many examples are judged, evenly spread over those there are.
        calls: of the metric, without a limit.
    """

    settings: MetricSettings
    calls: MetricCalls

    def value(
        self,
        probabilities: Float[NDArray[Any], "n k"],
        labels: Int64[NDArray[np.int64], "n"],
    ) -> float:
        """The metric's mean.

        Raises:
            TrainingError: the metric fails, or can judge none of the rows.
        """
        rows = self._rows(len(labels))
        predictions = np.asarray(probabilities[rows], dtype=np.float32)
        targets = [np.asarray(each) for each in labels[rows]]
        values = self.calls.values(list(predictions), targets)
        known = values[np.isfinite(values)]
        if not len(known):
            raise TrainingError(
                "the metric could judge none of the rows that choose the weights",
                expected="a number for some of them",
                got=f"none for {len(values)}, and loss.on_failure = {self.settings.on_failure!r}",
            )
        return float(known.mean())

    def evaluation(
        self,
        probabilities: Float[NDArray[Any], "n k"],
        labels: Int64[NDArray[np.int64], "n"],
    ) -> dict[str, float]:
        """``metric``, and ``score``, of which higher is better; of the first process alone."""
        if not is_main():  # whose numbers count for all
            return {"score": 0.0}
        value = self.value(probabilities, labels)
        return {"score": -self.settings.rules.sign * value, "metric": value}

    def _rows(self, count: int) -> NDArray[np.int64]:
        """Places [n] of examples, or [n, set_size] of those of a set."""
        size = self.settings.set_size if self.settings.per == "set" else 1
        sets = max(min(count, self.settings.window) // size, 1)
        rows = np.linspace(0, count - 1, sets * size).astype(np.int64)
        return rows.reshape(sets, size) if self.settings.per == "set" else rows


@contextmanager
def judging(settings: MetricSettings) -> Iterator[Judge | None]:
    """The judge of a run, whose processes go with it; None without a metric."""
    if not settings.is_on:
        yield None
        return
    calls = MetricCalls(settings.metric, settings.rules, workers=settings.workers)
    try:
        yield Judge(settings=settings, calls=calls)
    finally:
        calls.close()
