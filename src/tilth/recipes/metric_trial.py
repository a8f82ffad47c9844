"""Whether a metric can be learned at all: it is called, and what it gives is looked at.

No torch here, so that the answer comes at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from tilth.errors import TrainingError
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.metric_values import Metric, MetricRules, checked_value, metric_of
from tilth.recipes.metric_outputs import Outputs
from tilth.seeding import generator

__all__ = ["try_metric"]

CHANGES = (0.01, 0.1)  # of a prediction, in standard deviations of all of them
MOST_SHOWN = 3


@dataclass(kw_only=True)
class _Seen:
    """What the calls gave; NaN where one failed."""

    values: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    calls: int = 0
    changed_its_inputs: bool = False


def try_metric(
    settings: MetricSettings, outputs: Outputs, *, calls: int, seed: int = 0, progress: bool = False
) -> dict[str, Any]:
    """Call a metric on outputs, again on the same ones, and on ones that are changed a little.

    Args:
        settings: its name and bounds.
        calls: outputs at most; each is judged once more for every size of change.

    Returns:
        ``values`` (lowest, mean, highest), ``failures`` by message, ``repeats``, ``answers_change``
        (share of values that move with each size of change), ``milliseconds_a_call``, ``faults``
        (why it cannot be learned) and ``warnings``.

    Raises:
        SettingsError: no such metric.
    """
    set_size = settings.set_size if settings.per == "set" else 1
    pairs = _pairs(outputs.some(calls, set_size=set_size), set_size)
    metric = metric_of(settings.metric)
    plain = _called(metric, settings.rules, pairs, progress, "calling the metric")
    again = _called(metric, settings.rules, pairs[:20], False, "")
    draws = generator(seed, "metric trial")
    scale = float(np.std(outputs.predictions))
    moved = {}
    for share in CHANGES:
        changed = [(_changed(p, share * scale, draws), t) for p, t in pairs]
        found = _called(metric, settings.rules, changed, progress, f"changed by {share:g}")
        moved[f"{share:g}"] = _share_moved(plain.values, found.values)
    known = np.array([value for value in plain.values if np.isfinite(value)])
    document = {
        "metric": settings.metric,
        "outputs": len(pairs),
        "values": _summary(known),
        "failures": plain.failures,
        "repeats": _share_moved(plain.values[: len(again.values)], again.values) == 0,
        "answers_change": moved,
        "milliseconds_a_call": 1000 * plain.seconds / max(plain.calls, 1),
    }
    return document | {
        "faults": _faults(document, known, plain),
        "warnings": _warnings(document, known, outputs),
    }


def _pairs(outputs: Outputs, set_size: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    sides = (outputs.predictions, outputs.targets)
    if set_size > 1:
        sides = tuple(side.reshape(-1, set_size, *side.shape[1:]) for side in sides)  # type: ignore
    return list(zip(*(list(side) for side in sides), strict=True))


def _called(
    metric: Metric,
    rules: MetricRules,
    pairs: list[tuple[NDArray[Any], NDArray[Any]]],
    progress: bool,
    what: str,
) -> _Seen:
    seen = _Seen()
    shown = track(pairs, what, console=Console(stderr=True), transient=True, disable=not progress)
    for prediction, target in shown:
        given = np.array(prediction), np.array(target)
        start = time.perf_counter()
        try:
            value = checked_value(metric, *given, rules)
        except TrainingError as error:
            seen.failures[error.message] = seen.failures.get(error.message, 0) + 1
            value = float("nan")
        seen.seconds += time.perf_counter() - start
        seen.calls += 1
        seen.values.append(value)
        same = np.array_equal(given[0], prediction) and np.array_equal(given[1], target)
        seen.changed_its_inputs |= not same
    return seen


def _changed(prediction: Any, size: float, draws: np.random.Generator) -> NDArray[Any]:
    values = np.asarray(prediction)
    if values.dtype.kind != "f":
        return values
    low, high = float(values.min(initial=0.0)), float(values.max(initial=1.0))
    return (
        (values + size * draws.standard_normal(values.shape)).clip(low, high).astype(values.dtype)
    )


def _share_moved(before: list[float], after: list[float]) -> float:
    pairs = np.array([before, after])
    known = np.isfinite(pairs).all(axis=0)
    return float((pairs[0] != pairs[1])[known].mean()) if known.any() else 0.0


def _summary(known: NDArray[np.float64]) -> dict[str, float | int]:
    if not len(known):
        return {"count": 0}
    return {
        "count": len(known),
        "lowest": float(known.min()),
        "mean": float(known.mean()),
        "highest": float(known.max()),
        "different": len(np.unique(known)),
    }


def _faults(document: dict[str, Any], known: NDArray[np.float64], seen: _Seen) -> list[str]:
    faults = []
    if seen.failures:
        count, outputs = sum(seen.failures.values()), document["outputs"]
        messages = "; ".join(list(seen.failures)[:MOST_SHOWN])
        faults.append(f"it cannot judge {count} of {outputs} outputs: {messages}")
    if len(known) and np.ptp(known) == 0:
        faults.append(f"it is {known[0]:g} for all outputs: there is nothing to learn")
    if seen.changed_its_inputs:
        faults.append("it changes the arrays that it is given")
    if not document["repeats"]:
        faults.append("it gives other values for the same output")
    return faults


def _warnings(document: dict[str, Any], known: NDArray[np.float64], outputs: Outputs) -> list[str]:
    warnings = []
    most = max(document["answers_change"].values())
    if outputs.predictions.dtype.kind != "f":
        warnings.append("predictions are whole numbers, which no gradient reaches")
    elif len(known) and most < 0.05:
        warnings.append(
            f"a change of {CHANGES[-1]:g} standard deviations moves {most:.0%} of the values: it "
            "rounds or takes the largest, and says little of the way there"
        )
    return warnings
