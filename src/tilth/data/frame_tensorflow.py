"""Batches of a frame as a `tf.data.Dataset`, the way Keras' ``fit`` takes it."""

from __future__ import annotations

from typing import Any

from tilth.data.row_batches import RowBatches
from tilth.data.stream_batches import StreamBatches
from tilth.lazy import require

__all__ = ["keras_batch", "tensorflow_dataset"]


def tensorflow_dataset(batches: RowBatches | StreamBatches, *, width: int | None) -> Any:
    """The batches that `keras_batch` has converted; every pass is the next epoch.

    Args:
        width: tokens in each row of every batch; None where that differs.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    tf = require("tensorflow", extra="tensorflow")
    first = next(iter(batches))
    batches.set_epoch(0)
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(batches), output_signature=_signature(tf, first, width)
    )
    if isinstance(batches, RowBatches):
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return dataset.prefetch(tf.data.AUTOTUNE)


def keras_batch(batch: dict[str, Any]) -> Any:
    """(features, label[, weight]), or the features alone where there are no labels."""
    features = {name: batch[name] for name in batch if name not in ("label", "weight")}
    if "label" not in batch:
        return features
    weight = (batch["weight"],) if "weight" in batch else ()
    return (features, batch["label"], *weight)


def _signature(tf: Any, batch: Any, width: int | None) -> Any:
    """Shapes of all batches: rows vary, the widths of features do not, that of tokens may."""
    if isinstance(batch, tuple):
        return tuple(_signature(tf, part, width) for part in batch)
    if isinstance(batch, dict):
        specs = {name: _signature(tf, values, width) for name, values in batch.items()}
        if "tokens" in batch:
            specs["tokens"] = tf.TensorSpec((None, width), batch["tokens"].dtype)
        return specs
    return tf.TensorSpec((None, *batch.shape[1:]), batch.dtype)
