"""Metrics that the tests of this room train by, and the rows and settings that go with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tilth.recipes.classify_settings import ClassifySettings, settings

__all__ = ["SHORT", "cost_of", "metric_settings", "roads", "written_metrics"]

METRICS = '''
import numpy as np

def cost(probabilities, label):
    """What is done goes by tenths of the chance; to run over a stop costs five times as much."""
    stops = round(float(probabilities[1]), 1)
    return 5.0 * (1.0 - stops) if int(label) == 1 else stops

def cost_of_set(probabilities, labels):
    return float(np.mean([cost(*pair) for pair in zip(probabilities, labels)]))

def broken(probabilities, label):
    return float("nan")

def raising(probabilities, label):
    raise ZeroDivisionError("nothing to divide by")

def constant(probabilities, label):
    return 1.0

def missed(found, true):
    """The share of the truths that no likely box lies over by a third."""
    true = true[true[:, 2] > true[:, 0]]
    found = found[(found[:, 2] > found[:, 0]) & (found[:, 4] > 0.1)]
    if not len(true):
        return 0.0
    covered = 0
    for box in true:
        low, high = np.maximum(found[:, :2], box[:2]), np.minimum(found[:, 2:4], box[2:4])
        common = np.clip(high - low, 0, None).prod(axis=1)
        both = (found[:, 2:4] - found[:, :2]).prod(axis=1) + (box[2:4] - box[:2]).prod() - common
        covered += bool((common / both > 1 / 3).any())
    return 1.0 - covered / len(true) + 0.1 * float(abs(found[:, 4].sum() - len(true)))

def missed_of_set(found, true):
    return sum(map(missed, found, true)) / len(found)
'''

SHORT = (
    *("train.steps=60", "train.evaluate_every=20", "train.checkpoint_every=20"),
    *("train.device=cpu", "train.learning_rate=0.02", "train.warmup_steps=0", "train.log_every=5"),
    *("text.num_embedded=8", "text.num_hidden=4", "text.dropout=0.0"),
)


def written_metrics(folder: Path) -> Path:
    """The file of the metrics."""
    path = folder / "costs.py"
    path.write_text(METRICS)
    return path


def metric_settings(
    path: Path, name: str = "cost", *more: str, base: tuple[str, ...] = SHORT
) -> ClassifySettings:
    """Settings of a short run that is to better a metric of the file, without worker processes."""
    chosen = [f"loss.metric={path}:{name}", "loss.low=0", "loss.high=5", "loss.workers=0"]
    chosen += ["loss.look_every=2", "loss.network.fit_steps=100", "loss.network.members=1"]
    return settings(overrides=[*base, *chosen, *more])


def roads(count: int = 300, *, seed: int = 0) -> pa.Table:
    """Texts of which four in ten leave it open whether to stop; a third of those are stops."""
    draws = np.random.default_rng(seed)
    word = draws.choice(["go", "stop", "unclear"], size=count, p=[0.3, 0.3, 0.4])
    stops = np.where(word == "unclear", draws.random(count) < 0.35, word == "stop")
    filler = np.array(["the", "a", "some", "very", "old", "thing"])
    rows = [" ".join([*draws.choice(filler, 3), each]) for each in word]
    return pa.table({"unstructured_text": rows, "label": np.where(stops, "stop", "go").tolist()})


def cost_of(probabilities: Any, labels: Any) -> float:
    """The mean of the metric ``cost``, by hand."""
    stops = np.round(probabilities[:, 1], 1)
    return float(np.where(np.asarray(labels) == 1, 5 * (1 - stops), stops).mean())
