"""Calls of a slow metric: in worker processes where asked for, counted, timed and limited."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.errors import SettingsError, TrainingError
from tilth.losses.metric_values import Metric, MetricRules, checked_value, metric_of

__all__ = ["MetricCalls", "Spent"]

Example = tuple[NDArray[Any], NDArray[Any]]


@dataclass(kw_only=True)
class Spent:
    """What the metric has cost: how often it was called, and the seconds that the calls took.

    Attributes:
        budget: calls that may be made; None without a limit.
    """

    calls: int = 0
    seconds: float = 0.0
    budget: int | None = None

    @property
    def left(self) -> float:
        """Calls that may still be made."""
        return math.inf if self.budget is None else float(max(self.budget - self.calls, 0))

    @property
    def seconds_per_call(self) -> float:
        """Mean; 0 before the first call."""
        return self.seconds / self.calls if self.calls else 0.0


class MetricCalls:
    """Asks a metric for values of examples, here or in worker processes.

    Args:
        metric: ``metric(prediction, target)`` of one example, or its name (see `metric_of`). With
            workers it must be one that other processes can import: no lambda, no inner function.
        rules: its bounds, and what becomes of failures.
        workers: processes; 0 calls it in this one.
        budget: calls that may be made; None for no limit.

    >>> calls = MetricCalls(lambda p, t: abs(p - t).max(), MetricRules(low=0.0))
    >>> calls.values([np.array([1.0, 4.0])], [np.array([2.0, 2.0])])
    array([2.])
    >>> calls.spent.calls
    1
    """

    def __init__(
        self,
        metric: Metric | str,
        rules: MetricRules,
        *,
        workers: int = 0,
        budget: int | None = None,
    ) -> None:
        if workers < 0:
            raise SettingsError("workers cannot be used", expected="0 or more", got=str(workers))
        self.metric = metric_of(metric) if isinstance(metric, str) else metric
        self.rules = rules
        self.workers = workers
        self.spent = Spent(budget=budget)
        self._named: Metric | str = metric
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, prediction: NDArray[Any], target: NDArray[Any]) -> Future[tuple[float, float]]:
        """Ask for one value; the result is (value, seconds). It counts from now on.

        Raises:
            TrainingError: the budget is spent.
        """
        if self.spent.left < 1:
            raise TrainingError(
                "the budget of metric calls is spent", expected=f"at most {self.spent.budget}"
            )
        self.spent.calls += 1
        if self.workers == 0:
            done: Future[tuple[float, float]] = Future()
            try:
                # Copies, as other processes have: a metric may change what it is given.
                pair = prediction.copy(), target.copy()
                done.set_result(_timed(self.metric, *pair, self.rules))
            except TrainingError as error:
                done.set_exception(error)
            return done
        try:
            return self._workers().submit(_asked, prediction, target)
        except BrokenProcessPool as error:
            raise _broken_pool() from error

    def result(self, asked: Future[tuple[float, float]]) -> float:
        """The value that was asked for; waits for it. NaN where the example is to be left out.

        Raises:
            TrainingError: see `checked_value`; or a worker process has died.
        """
        try:
            value, seconds = asked.result()
        except BrokenProcessPool as error:
            raise _broken_pool() from error
        self.spent.seconds += seconds
        return value

    def values(
        self, predictions: Sequence[NDArray[Any]], targets: Sequence[NDArray[Any]]
    ) -> NDArray[np.float64]:
        """The values of several examples, in their order.

        Raises:
            TrainingError: see `checked_value`; or there are more than the budget allows.
        """
        pairs = zip(predictions, targets, strict=True)
        asked = [self.submit(prediction, target) for prediction, target in pairs]
        return np.array([self.result(each) for each in asked], dtype=np.float64)

    def close(self) -> None:
        """Let the worker processes go; the next call starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def __del__(self) -> None:
        if getattr(self, "_pool", None) is not None:
            self.close()

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            try:
                pickle.dumps(self._named)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise SettingsError(
                    "the metric cannot be called in other processes",
                    expected="a function of a module, or its name 'package.module:function'",
                    got=f"{self._named!r}: {error}",
                    fix="move it to a module, or set workers to 0",
                ) from error
            # Spawned: a fork of a process that runs torch's threads may hang.
            self._pool = ProcessPoolExecutor(
                self.workers, get_context("spawn"), _begin, (self._named, self.rules)
            )
        return self._pool


_in_worker: dict[str, Any] = {}


def _begin(metric: Metric | str, rules: MetricRules) -> None:
    _in_worker["metric"] = metric_of(metric) if isinstance(metric, str) else metric
    _in_worker["rules"] = rules


def _asked(prediction: NDArray[Any], target: NDArray[Any]) -> tuple[float, float]:
    return _timed(_in_worker["metric"], prediction, target, _in_worker["rules"])


def _timed(
    metric: Metric, prediction: NDArray[Any], target: NDArray[Any], rules: MetricRules
) -> tuple[float, float]:
    start = time.perf_counter()
    value = checked_value(metric, prediction, target, rules)
    return value, time.perf_counter() - start


def _broken_pool() -> TrainingError:
    return TrainingError(
        "a process that calls the metric has ended",
        expected="a metric that can be imported there, and returns",
        fix="set workers to 0 to see what it does; a script that starts workers needs "
        "`if __name__ == '__main__':` around its own calls",
    )
