"""The labelled examples of a batch, as robust losses read them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tilth.errors import TrainingError
from tilth.losses.classification import weighted_mean
from tilth.losses.index_range import refuse_outside

__all__ = ["NUMBER", "Examples", "mean_of"]

NUMBER = "batch_number"


class Examples(NamedTuple):
    """What a batch says beside its inputs.

    Attributes:
        labels: int64 [n].
        weights: how much each counts, whatever the method thinks of it; None where all do alike.
        rows: the number of each among all; None where nothing asks for it.
        step: of the run; -1 where nothing asks for it.
        number: of the batch; -1 likewise.
    """

    labels: Int64[Tensor, "n"]
    weights: Float[Tensor, "n"] | None
    rows: Int64[Tensor, "n"] | None
    step: int
    number: int

    @classmethod
    def of(
        cls,
        batch: Mapping[str, Any],
        *,
        num_classes: int,
        class_weights: Float[Tensor, "k"] | None,
        num_rows: int | None,
        batches_per_step: int,
        is_scheduled: bool,
    ) -> "Examples":
        """Read a batch.

        Args:
            num_rows: how many rows the method remembers; None where it remembers none.
            is_scheduled: whether the method depends on the step.

        Raises:
            DataError: a label or row that is out of range.
            TrainingError: an entry that the method needs is missing.
        """
        labels: Tensor = batch["label"]
        refuse_outside(labels, num_classes, "a label is not one of the classes")
        weights: Tensor | None = batch.get("weight")
        if class_weights is not None:
            of_classes = class_weights.to(labels.device)[labels]
            weights = of_classes if weights is None else of_classes * weights
        rows = None
        if num_rows is not None:
            rows = _entry(batch, "row")
            refuse_outside(rows, num_rows, "a row is none of those that the loss was made for")
        number = _entry(batch, NUMBER) if is_scheduled else -1
        step = number // batches_per_step if is_scheduled else -1
        return cls(labels, weights, rows, step, number)

    @property
    def mask(self) -> Bool[Tensor, "n"] | None:
        """Which examples count at all; None where all do."""
        return None if self.weights is None else self.weights > 0

    def counted(
        self, values: Float[Tensor, "n"]
    ) -> tuple[Int64[Tensor, "m"], Float[Tensor, "m"], Int64[Tensor, "m"] | None]:
        """Labels, ``values`` and rows of the examples that count."""
        mask = self.mask
        if mask is None:
            return self.labels, values, self.rows
        rows = None if self.rows is None else self.rows[mask]
        return self.labels[mask], values[mask], rows

    @property
    def even(self) -> Float[Tensor, "n"]:
        """The same weight for all that count, adding up to 1."""
        mask = self.mask
        alike = torch.ones(len(self.labels), device=self.labels.device)
        alike = alike if mask is None else mask.float()
        return alike / alike.sum().clamp(min=1)


def mean_of(losses: Float[Tensor, "n"], weights: Float[Tensor, "n"] | None) -> Float[Tensor, ""]:
    """Mean with these weights; the plain one without."""
    return weighted_mean(losses, torch.ones_like(losses) if weights is None else weights)


def _entry(batch: Mapping[str, Any], name: str) -> Any:
    if name not in batch:
        raise TrainingError(
            f"the batches lack an entry that this loss needs: '{name}'",
            expected="'row', the number of each example; 'batch_number', that of the batch",
            got=", ".join(batch),
        )
    return batch[name]
