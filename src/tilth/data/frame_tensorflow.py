"""Batches of a frame as a `tf.data.Dataset`, the way Keras' ``fit`` takes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tilth.data.encoded_rows import EncodedRows
from tilth.data.frame_batches import BatchSettings, FrameBatches
from tilth.lazy import require

__all__ = ["tensorflow_dataset"]


def tensorflow_dataset(rows: EncodedRows, settings: BatchSettings) -> Any:
    """(features, label[, weight]) a batch; every pass is the next epoch.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    tf = require("tensorflow", extra="tensorflow")
    batches = FrameBatches(rows, settings, _keras_batch)

    signature = _signature(tf, batches[0], settings.width)

    def epoch() -> Iterator[Any]:
        return iter(batches)

    dataset = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    counted = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return counted.prefetch(tf.data.AUTOTUNE)


def _keras_batch(batch: dict[str, Any]) -> Any:
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
