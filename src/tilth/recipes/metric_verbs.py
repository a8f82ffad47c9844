"""`tilth metric fit`, `check` and `use`: a metric learned ahead of the run that it is to teach."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from tilth.errors import DataError, SettingsError, TrainingError
from tilth.losses.metric_files import read_surrogate, save_surrogate, surrogate_of
from tilth.losses.metric_replay import Examples
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.metric_surrogate import MetricSurrogate
from tilth.losses.metric_values import metric_of
from tilth.recipes.metric_outputs import Outputs, read_outputs
from tilth.recipes.toml_text import toml_text

__all__ = ["check_surrogate", "fit_surrogate", "is_surrogate", "loss_lines", "use_surrogate"]

# Below it the order of outputs is known too badly for its gradient to help.
LEAST_CORRELATION = 0.3
RECORD = "surrogate.json"


def is_surrogate(path: Path) -> bool:
    """Whether `fit_surrogate` wrote the folder."""
    return (path / RECORD).is_file()


def fit_surrogate(
    settings: MetricSettings, outputs: Path, to: Path, *, seed: int, progress: bool
) -> dict[str, Any]:
    """Learn a metric of outputs and write the surrogate.

    Args:
        settings: the metric, what it takes, and the network; ``calls`` is the most of its calls.
        outputs: see `read_outputs`.

    Raises:
        DataError, SettingsError: outputs or settings that cannot be used.
        TrainingError: the metric fails, or is the same for all outputs.
        StorageError: the disk refused.
    """
    surrogate = surrogate_of(settings, settings.inputs or "table", seed=seed)
    given = read_outputs(outputs)
    chosen = given.some(settings.calls or None, set_size=max(surrogate.set_size, 1))
    start = time.perf_counter()
    assert surrogate.calls is not None
    try:
        quality = surrogate.fit(
            chosen.predictions, chosen.targets, chosen.values, progress=progress
        )
    finally:
        surrogate.calls.close()
    spent = surrogate.calls.spent
    save_surrogate(surrogate, to, metric=settings.metric)
    return {
        "surrogate": to,
        "metric": settings.metric,
        "outputs": len(chosen),
        "left_out": len(given) - len(chosen),
        "quality": quality.as_dict(),
        "faults": _faults_of_quality(quality.rank_correlation),
        "cost": {
            "calls": spent.calls,
            "seconds": spent.seconds,
            "milliseconds_a_call": 1000 * spent.seconds_per_call,
            "surrogate_milliseconds": _milliseconds(surrogate, chosen),
            "fit_seconds": time.perf_counter() - start,
        },
        "loss": loss_lines(replace(settings, surrogate=str(to))),
    }


def check_surrogate(
    folder: Path,
    outputs: Path,
    *,
    metric: str,
    inputs: str,
    calls: int,
    workers: int,
    progress: bool,
) -> dict[str, Any]:
    """How well a fitted surrogate predicts its metric on outputs, those of a later run for one.

    Args:
        metric: its name; not needed where the outputs have values. The folder names one too, but
            no code runs because a folder says so.
        inputs: the function that made its features, where one did.
        calls: of the true metric, at most; none where the file has values.

    Raises:
        DataError: the folder or the outputs cannot be read.
        SettingsError: the metric or the features are needed and not named.
        TrainingError: the metric fails.
    """
    name = _record(folder)["metric"]
    given = read_outputs(outputs)
    if given.values is None and not metric:
        raise SettingsError(
            "the true values of these outputs are not known, and no metric is named to find them",
            where=str(outputs),
            expected="values in the file, or --metric",
            fix=f"--metric {name or 'package.module:function'}",
        )
    surrogate = read_surrogate(
        folder,
        metric if given.values is None else None,
        inputs=_features(inputs),
        workers=workers,
    )
    chosen = given.some(calls, set_size=max(surrogate.set_size, 1))
    values = chosen.values
    if values is None:
        values = _true_values(surrogate, chosen, progress)
    known = _known(surrogate, chosen, values)
    quality, fitted = surrogate.check(known), surrogate.quality
    optimism = -surrogate.rules.sign * quality.bias
    faults = _faults_of_quality(quality.rank_correlation)
    if fitted is not None and optimism > 2 * fitted.mean_error:
        faults.append(
            f"beliefs are better than the truth by {optimism:.3g} on average, where the error at "
            f"its fit was {fitted.mean_error:.3g}: these outputs are beyond what it has learned"
        )
    return {
        "surrogate": folder,
        "metric": metric or name,
        "outputs": len(chosen),
        "quality": quality.as_dict(),
        "optimism": optimism,
        "at_its_fit": None if fitted is None else fitted.as_dict(),
        "faults": faults,
    }


def use_surrogate(folder: Path, sample: Path | None, *, inputs: str = "") -> dict[str, Any]:
    """What a fitted surrogate does for an optimiser, and the lines that put it into a recipe.

    Args:
        inputs: the function that made its features, where one did.
        sample: outputs; without them random ones of the shapes that it was fitted to.

    Raises:
        DataError: the folder or the outputs cannot be read.
    """
    record = _record(folder)
    surrogate = read_surrogate(folder, inputs=_features(inputs))
    prediction, target = _sample(surrogate, sample)
    gradient: torch.Tensor | None = None
    if prediction.is_floating_point():
        prediction = prediction.requires_grad_()
        surrogate(prediction, target).sum().backward()
        gradient = prediction.grad
    settings = MetricSettings(
        metric=record["metric"] or "package.module:function",
        goal=surrogate.rules.goal,
        low=surrogate.rules.low,
        high=surrogate.rules.high,
        inputs=record["inputs"],
        per="set" if surrogate.set_size else "example",
        set_size=surrogate.set_size or MetricSettings.set_size,
        surrogate=str(folder),
        network=surrogate.settings,
    )
    quality = surrogate.quality
    return {
        "model": folder,
        "way": "a surrogate of Tilth's own networks",
        "members": len(surrogate.members),
        "inputs": surrogate.inputs.says,
        "quality": None if quality is None else quality.as_dict(),
        "gradient": gradient_facts(gradient),
        "loss": loss_lines(settings),
    }


def gradient_facts(gradient: torch.Tensor | None) -> dict[str, Any]:
    """Whether a gradient has come, to how many of the examples, and how long it is."""
    if gradient is None:
        return {"flows": False, "examples": 0, "share_without": 1.0, "mean_norm": 0.0}
    norms = gradient.double().flatten(1).norm(dim=1)
    return {
        "flows": bool(torch.isfinite(norms).all() and (norms > 0).any()),
        "examples": len(norms),
        "share_without": float((norms == 0).double().mean()),
        "mean_norm": float(norms.mean()),
    }


def loss_lines(settings: MetricSettings) -> str:
    """The ``[loss]`` table that has a recipe use a surrogate: what is not the default.

    >>> print(loss_lines(MetricSettings(metric="scores:f1", goal="higher")), end="")
    [loss]
    metric = "scores:f1"
    goal = "higher"
    """
    usual = MetricSettings()
    names = ("metric", "goal", "low", "high", "inputs", "per", "set_size", "surrogate")
    said = {name: getattr(settings, name) for name in names}
    return toml_text({"loss": {n: v for n, v in said.items() if v != getattr(usual, n)}})


def _features(name: str) -> Any:
    return metric_of(name) if name else None


def _faults_of_quality(correlation: float) -> list[str]:
    if correlation >= LEAST_CORRELATION:
        return []
    return [
        f"its rank correlation with the metric is {correlation:.2f}, below {LEAST_CORRELATION}: "
        "which output is better is hardly known"
    ]


def _true_values(
    surrogate: MetricSurrogate, outputs: Outputs, progress: bool
) -> NDArray[np.float64]:
    """The metric of all outputs; a few calls at a time, for the bar."""
    assert surrogate.calls is not None
    at_once = 4 * max(surrogate.calls.workers, 1) * max(surrogate.set_size, 1)
    starts = track(
        range(0, len(outputs), at_once),
        "calling the metric",
        console=Console(stderr=True),
        transient=True,
        disable=not progress,
    )
    parts = []
    try:
        for start in starts:
            rows = slice(start, start + at_once)
            parts.append(surrogate.true_values(outputs.predictions[rows], outputs.targets[rows]))
    finally:
        surrogate.calls.close()
    return torch.cat(parts).double().numpy()


def _known(surrogate: MetricSurrogate, outputs: Outputs, values: Any) -> Examples:
    """The outputs whose value is known, as the surrogate's members take them."""
    predictions, targets = surrogate.paired(outputs.predictions, outputs.targets)
    kept = np.flatnonzero(np.isfinite(values)).tolist()
    if len(kept) < 2:
        raise TrainingError(
            "too few outputs to judge a surrogate by", expected="2 or more", got=str(len(kept))
        )
    return Examples(
        predictions=torch.stack([predictions[row] for row in kept]),
        targets=torch.stack([targets[row] for row in kept]),
        values=torch.tensor([values[row] for row in kept], dtype=torch.float32),
    )


def _sample(surrogate: MetricSurrogate, path: Path | None) -> tuple[torch.Tensor, torch.Tensor]:
    size = max(surrogate.set_size, 1)
    if path is not None:
        some = read_outputs(path).some(64, set_size=size)
        return torch.from_numpy(some.predictions), torch.from_numpy(some.targets)
    assert surrogate.example is not None
    prediction, target = (side.flatten(0, 1) if size > 1 else side for side in surrogate.example)
    draws = torch.Generator().manual_seed(0)
    if prediction.is_floating_point():
        prediction = torch.rand(prediction.shape, generator=draws)
    return prediction, target


def _milliseconds(surrogate: MetricSurrogate, outputs: Outputs) -> float:
    """Of one example's loss and gradient, in a batch."""
    size = max(surrogate.set_size, 1)
    some = outputs.some(max(64 // size, 1), set_size=size)
    prediction, target = torch.from_numpy(some.predictions), torch.from_numpy(some.targets)
    if prediction.is_floating_point():
        prediction = prediction.requires_grad_()
    start = time.perf_counter()
    loss = surrogate(prediction, target).sum()
    if loss.requires_grad:
        loss.backward()
    return 1000 * (time.perf_counter() - start) / len(prediction)


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = orjson.loads((folder / RECORD).read_bytes())
        return {"metric": str(record["metric"]), "inputs": str(record["inputs"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the folder holds no surrogate that can be read",
            where=str(folder),
            fix="tilth metric fit writes one",
        ) from error
