"""What a run that was trained by a metric leaves behind: ``metric_watch.json``, ``metric.html``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from tilth.data.atomic import atomic_writer
from tilth.losses.metric_loss import MetricLoss
from tilth.recipes.report.metric_page import write_metric_page

__all__ = [
    "METRIC_PAGE",
    "METRIC_WATCH",
    "metric_notices",
    "read_metric_watch",
    "write_metric_watch",
]

METRIC_WATCH, METRIC_PAGE = "metric_watch.json", "metric.html"


def write_metric_watch(
    run_dir: Path, loss: object, *, seconds: float, held_out: float | None = None
) -> Path | None:
    """Write what was believed and what was true, and what it cost; None of any other loss.

    Args:
        seconds: of the training, over all its sessions.
        held_out: the metric on rows that nothing was learned from, where it was asked.

    Returns:
        The page.

    Raises:
        StorageError: the disk refused.
    """
    if not isinstance(loss, MetricLoss):
        return None
    document = _document(loss, seconds, held_out)
    with atomic_writer(run_dir / METRIC_WATCH) as stream:
        stream.write(orjson.dumps(document, option=orjson.OPT_INDENT_2))  # NaN becomes null
    write_metric_page(run_dir / METRIC_PAGE, document)
    return run_dir / METRIC_PAGE


def read_metric_watch(run_dir: Path) -> dict[str, Any] | None:
    """What `write_metric_watch` wrote; None where the run had no metric."""
    path = run_dir / METRIC_WATCH
    return orjson.loads(path.read_bytes()) if path.is_file() else None


def metric_notices(loss: object) -> tuple[str, ...]:
    """What a user should hear of the metric; nothing of other losses."""
    return tuple(loss.notices) if isinstance(loss, MetricLoss) else ()


def _document(loss: MetricLoss, seconds: float, held_out: float | None) -> dict[str, Any]:
    surrogate, settings = loss.surrogate, loss.settings
    spent = None if surrogate.calls is None else surrogate.calls.spent
    readings = [asdict(each) | {"is_alarm": each.is_alarm} for each in loss.watch.readings]
    return {
        "metric": settings.metric,
        "goal": settings.goal,
        "per": settings.per,
        "steps": loss.steps,
        "readings": readings,
        "alarms": sum(each["is_alarm"] for each in readings),
        "quality": None if surrogate.quality is None else surrogate.quality.as_dict(),
        "held_out": held_out,
        "cost": {
            "calls": 0 if spent is None else spent.calls,
            "budget": None if spent is None else spent.budget,
            "seconds": 0.0 if spent is None else spent.seconds,
            "seconds_per_call": 0.0 if spent is None else spent.seconds_per_call,
            "training_seconds": seconds,
            "share_of_training": spent.seconds / seconds if spent and seconds > 0 else 0.0,
            "workers": settings.workers,
        },
        "notices": list(loss.notices),
    }
