"""A classifier's training with a robust loss: how a recipe makes it, and what it leaves behind."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from tilth.losses.robust import NUMBER, RobustLoss
from tilth.losses.robust_memory import WeightMemory
from tilth.losses.robust_network import RobustNetwork
from tilth.losses.robust_settings import RobustSettings
from tilth.recipes.classifier import Labelled, forward
from tilth.recipes.classify_settings import ClassifySettings
from tilth.recipes.table_files import write_table
from tilth.train.freeze_settings import FreezeSettings
from tilth.train.processes import num_processes

__all__ = ["INSTANCE_WEIGHTS", "Numbered", "frozen_within", "robust_loss", "told", "write_weights"]

INSTANCE_WEIGHTS = "instance_weights.parquet"
# A class that has less than this share of an even weight is hardly learned any more.
LEAST_CLASS_WEIGHT = 0.1


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """Batches that know their number, with what a resumed run compares."""

    batches: Any
    identity: Mapping[str, Any]

    def batch(self, step: int) -> dict[str, Any]:
        """The batch, and its number."""
        return {**self.batches.batch(step), NUMBER: step}


def robust_loss(
    train: Labelled, settings: ClassifySettings, class_weights: Float[Tensor, "k"] | None
) -> RobustLoss:
    """The loss that the settings name; without any it is cross-entropy."""
    robust = settings.robust
    if settings.label_smoothing:
        robust = RobustSettings(kind="label_smoothing", smoothing=settings.label_smoothing)
    return RobustLoss(
        robust,
        num_classes=len(train.class_names),
        steps=settings.train.steps,
        seed=settings.train.seed,
        num_examples=int(train.rows.max()) + 1,
        class_weights=class_weights,
        forward=forward,
        batches_per_step=settings.train.accumulate * num_processes(),
    )


def frozen_within(freeze: FreezeSettings, model: nn.Module) -> FreezeSettings:
    """The same parts of a network, by their names in the module that is trained."""
    if not isinstance(model, RobustNetwork):
        return freeze
    sides = ("network", "twin") if model.twin is not None else ("network",)
    return replace(freeze, names=tuple(f"{side}.{name}" for name in freeze.names for side in sides))


def told(model: nn.Module, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """What a user should hear of the weights that a run ended with."""
    memory = _memory(model)
    if memory is None:
        return ()
    weights = memory.class_weights.tolist()
    low = [name for name, w in zip(class_names, weights, strict=True) if w < LEAST_CLASS_WEIGHT]
    if not low:
        return ()
    return (
        f"{len(low)} of {len(class_names)} classes have all but lost their weight "
        f"({', '.join(low[:5])}{', ...' if len(low) > 5 else ''}): their rows taught "
        "nothing in the end. A larger robust.reweighting.lam or reweighting.per_class keeps them",
    )


def write_weights(model: nn.Module, train: Labelled, run_dir: Path) -> Path | None:
    """Write how far the label of every training row was believed; None where it was not kept.

    Columns: ``row``, its place among all rows that were given; ``label``; ``weight``, the mean over
    the steps after the burn-in, 1 being even, null for a row that was not seen then; ``seen``, how
    often it was. Ascending by row.
    """
    memory = _memory(model)
    if memory is None or not memory.keeps_rows:
        return None
    order = np.argsort(train.rows, kind="stable")
    rows = train.rows[order]
    seen: NDArray[np.int64] = memory.row_seen.cpu().numpy()[rows].astype(np.int64)
    weights = memory.row_weights.cpu().numpy()[rows].astype(np.float64)
    table = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "label": [train.class_names[label] for label in train.labels[order].tolist()],
            "weight": pa.array(weights, pa.float64(), mask=seen == 0),
            "seen": pa.array(seen, pa.int64()),
        }
    )
    write_table(table, run_dir / INSTANCE_WEIGHTS)
    return run_dir / INSTANCE_WEIGHTS


def _memory(model: nn.Module) -> WeightMemory | None:
    return model.weights if isinstance(model, RobustNetwork) else None
