"""Values of a slow metric, each checked: what a user's function may do wrong is said by example.

No torch here: worker processes that call the metric start without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tilth.errors import SettingsError, TrainingError

__all__ = ["Failure", "Metric", "MetricRules", "checked_value", "metric_of"]

Metric = Callable[[NDArray[Any], NDArray[Any]], float]
Failure = Literal["error", "skip", "worst"]

ROUNDING = 1e-6  # of a value beside its bound, which it then takes: similarities of 1.0000001


@dataclass(frozen=True, kw_only=True)
class MetricRules:
    """What values a metric has, and what becomes of an example that it cannot judge.

    Attributes:
        goal: whether a better model has "lower" or "higher" values.
        low, high: no value lies outside; None where there is no bound.
        on_failure: of an example for which the metric raises or gives no finite number: "error"
            ends the run, "skip" leaves the example out, "worst" takes the bound on the bad side.
    """

    goal: Literal["lower", "higher"] = "lower"
    low: float | None = None
    high: float | None = None
    on_failure: Failure = "error"

    def __post_init__(self) -> None:
        if self.goal not in ("lower", "higher"):
            raise SettingsError(
                "a metric's goal cannot be used",
                expected="'lower' or 'higher'",
                got=repr(self.goal),
            )
        if self.on_failure not in get_args(Failure):
            expected = ", ".join(map(repr, get_args(Failure)))
            raise SettingsError("on_failure cannot be used", expected=expected, got=self.on_failure)
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if not all(map(math.isfinite, bounds)) or (len(bounds) == 2 and bounds[0] >= bounds[1]):
            raise SettingsError(
                "the bounds of a metric cannot be used",
                expected="finite numbers, low below high; None where there is no bound",
                got=f"low {self.low}, high {self.high}",
            )
        if self.on_failure == "worst" and self.worst is None:
            bound = "high" if self.goal == "lower" else "low"
            raise SettingsError(
                "the worst value of a metric is not known",
                expected=f"a bound '{bound}'",
                got="None",
            )

    @property
    def sign(self) -> float:
        """Times a value: lower is better."""
        return 1.0 if self.goal == "lower" else -1.0

    @property
    def worst(self) -> float | None:
        """The bound on the bad side."""
        return self.high if self.goal == "lower" else self.low

    @property
    def best(self) -> float | None:
        """The bound on the good side."""
        return self.low if self.goal == "lower" else self.high


def metric_of(name: str) -> Metric:
    """The function that ``"package.module:function"`` or ``"folder/file.py:function"`` names.

    Its code is run, so the name must come from whoever starts the run. Modules are looked for in
    the working directory too.

    Raises:
        SettingsError: no such module, file or function.

    >>> metric_of("math:hypot")(3.0, 4.0)
    5.0
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise SettingsError(
            "a metric's name cannot be used",
            expected="package.module:function, or file.py:function",
            got=repr(name),
        )
    module = _from_file(Path(place)) if place.endswith(".py") else _imported(place)
    found = getattr(module, attribute, None)
    if not callable(found):
        near = [each for each in dir(module) if callable(getattr(module, each)) and each[0] != "_"]
        raise SettingsError(
            f"'{place}' has no function '{attribute}'",
            expected="one of " + ", ".join(near[:8]) if near else "a function of that name",
            got=type(found).__name__,
        )
    metric: Metric = found
    return metric


def _imported(place: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not place.startswith(error.name):
            raise  # a library that the metric needs: its own message says which
        raise SettingsError(
            f"the metric's module '{place}' is not found",
            expected=f"a module that Python can import, or one in {here}",
            fix="name it by file: folder/file.py:function",
        ) from error
    finally:
        sys.path.remove(here)


def _from_file(path: Path) -> Any:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise SettingsError("the metric's file is not there", got=str(path))
    # One name a file, so that worker processes and a second look find the same module.
    name = f"tilth_metric_{path.stem}_{zlib.crc32(str(path).encode())}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def checked_value(
    metric: Metric, prediction: NDArray[Any], target: NDArray[Any], rules: MetricRules
) -> float:
    """The metric of one example; NaN where it is to be left out.

    Raises:
        TrainingError: the metric raised, or gave anything but a finite number within its bounds.
            What it raised is quoted, not chained: it may not survive the way between processes.
    """
    try:
        given = metric(prediction, target)
    except Exception as error:  # a user's function: whatever it raises is told
        if rules.on_failure != "error":
            return _stand_in(rules)
        raise TrainingError(
            f"the metric raised {type(error).__name__}: {error}",
            where=_described(prediction, target),
            fix="mend the metric, or set on_failure to 'skip' or 'worst' for examples like this",
        ) from None
    value = _scalar(given, prediction, target)
    if not math.isfinite(value):
        if rules.on_failure != "error":
            return _stand_in(rules)
        raise TrainingError(
            f"the metric gave {value}",
            where=_described(prediction, target),
            expected="a finite number",
            fix="mend the metric, or set on_failure to 'skip' or 'worst' for examples like this",
        )
    low, high = rules.low, rules.high
    within = value
    if low is not None:
        within = max(within, low)
    if high is not None:
        within = min(within, high)
    if abs(within - value) > ROUNDING * max(abs(value), 1.0):
        raise TrainingError(
            f"the metric gave {value:g}, outside its bounds",
            where=_described(prediction, target),
            expected=f"{'-inf' if low is None else low} to {'inf' if high is None else high}",
            fix="correct the bounds (low, high), or leave them out",
        )
    return within


def _stand_in(rules: MetricRules) -> float:
    return math.nan if rules.on_failure == "skip" or rules.worst is None else rules.worst


def _scalar(given: Any, prediction: NDArray[Any], target: NDArray[Any]) -> float:
    try:
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        array = None
    if array is None or array.size != 1:
        kind = type(given).__name__ if array is None else f"an array of shape {array.shape}"
        raise TrainingError(
            "the metric gave no single number",
            where=_described(prediction, target),
            expected="one number for one (prediction, target)",
            got=kind,
            fix="reduce it within the metric, for instance by its mean",
        )
    return float(array.reshape(()))


def _described(prediction: NDArray[Any], target: NDArray[Any]) -> str:
    shapes = [
        f"{name} {value.dtype}{list(value.shape)}"
        for name, value in (("prediction", prediction), ("target", target))
    ]
    return ", ".join(shapes)
