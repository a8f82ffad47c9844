"""A recipe's loss with a metric beside it: ``[loss] metric = "package:function"``.

A recipe says what its predictions and targets are (`Outputs`); the rest is `MetricLoss`. What the
run leaves behind is written by `tilth.recipes.metric_record`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor, nn

from tilth.config import settings_to_dict
from tilth.errors import SettingsError
from tilth.losses.metric_files import surrogate_of
from tilth.losses.metric_loss import MetricLoss, Outputs
from tilth.losses.metric_settings import MetricSettings
from tilth.recipes.starting_weights import file_digest
from tilth.train.loop import Loss

__all__ = [
    "class_probabilities",
    "metric_identity",
    "metric_processes",
    "with_metric",
    "wrapped_loss",
]

# How many processes call a metric changes no number of a run, so a resumed one may have others.
NO_PART_OF_A_RUN = ("workers",)


def with_metric(
    loss: Loss,
    settings: MetricSettings,
    *,
    outputs: Outputs,
    inputs: Literal["table", "boxes"],
    steps: int,
    seed: int,
    accumulate: int,
    batch_size: int | None = None,
    says: bool = False,
) -> Loss:
    """``loss`` beside the metric that the settings name; without one the same loss.

    Args:
        outputs: predictions and targets of a model and a batch, examples along the first axis.
        inputs: what they are, where the settings do not say.
        steps: of the whole run.
        accumulate: batches a step.
        batch_size: examples in a batch, where that is known.
        says: print notices, such as an alarm, on standard error while the run goes on.

    Raises:
        SettingsError: the metric's name is wrong, or batches are smaller than one of its sets.
        DataError: the surrogate's folder cannot be read.
    """
    if not settings.is_on:
        return loss
    if settings.per == "set":
        _refuse_small_batches(settings, batch_size)
        outputs = whole_sets(outputs, settings.set_size)
    return MetricLoss(
        loss,
        surrogate_of(settings, inputs, seed=seed),
        outputs=outputs,
        steps=steps,
        settings=settings,
        seed=seed,
        batches_per_step=accumulate,
        notice=_printed if says else None,
    )


def class_probabilities(forward: Callable[[nn.Module, Mapping[str, Any]], Tensor]) -> Outputs:
    """A classifier's outputs: class probabilities [n, k] and labels int64 [n].

    Args:
        forward: gives the logits [n, k] of a batch.
    """

    def outputs(model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        logits = forward(model, batch)
        return torch.softmax(logits.float(), dim=1), batch["label"]

    return outputs


def whole_sets(outputs: Outputs, set_size: int) -> Outputs:
    """As many examples as make whole sets; too few for one are repeated until they do."""

    def of_sets(model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        prediction, target = outputs(model, batch)
        count = len(prediction)
        if count < set_size:  # the end of an epoch
            rows = torch.arange(set_size, device=prediction.device) % count
            return prediction[rows], target[rows]
        whole = count - count % set_size
        return prediction[:whole], target[:whole]

    return of_sets


@contextmanager
def metric_processes(loss: object) -> Iterator[None]:
    """Compare the last outputs after training, and let the metric's processes go, however it ends.

    All processes of a run must leave it together. Other losses are let alone.
    """
    try:
        yield
        if isinstance(loss, MetricLoss):
            loss.finish()
    finally:
        if isinstance(loss, MetricLoss):
            loss.close()


def wrapped_loss(outer: Loss, inner: Loss) -> Loss:
    """``outer``, which calls ``inner``, with its memory where that has one: checkpoints hold it."""
    return _Wrapped(outer=outer, inner=inner) if isinstance(inner, MetricLoss) else outer


def metric_identity(settings: MetricSettings) -> dict[str, Any]:
    """What a resumed run compares; empty without a metric.

    >>> metric_identity(MetricSettings())
    {}
    """
    if not settings.is_on:
        return {}
    said = settings_to_dict(settings)
    said = {name: value for name, value in said.items() if name not in NO_PART_OF_A_RUN}
    if settings.surrogate:
        files = sorted(Path(settings.surrogate).glob("*.safetensors"))
        said["surrogate_digest"] = " ".join(file_digest(path) for path in files)
    return {"metric": said}


@dataclass(frozen=True, kw_only=True)
class _Wrapped:
    """A loss around one that remembers."""

    outer: Loss
    inner: MetricLoss

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        return self.outer(model, batch)

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.inner.load_state_dict(state)


def _refuse_small_batches(settings: MetricSettings, batch_size: int | None) -> None:
    if batch_size is not None and batch_size < settings.set_size:
        raise SettingsError(
            "setting 'loss.set_size' asks for more examples than a batch has",
            expected=f"at most {batch_size}, the batch size",
            got=str(settings.set_size),
            fix="a larger batch_size, or a smaller loss.set_size",
        )


def _printed(text: str) -> None:
    Console(stderr=True).print(f"[yellow]metric:[/yellow] {escape(text)}")
