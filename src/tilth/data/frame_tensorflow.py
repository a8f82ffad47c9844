"""Batches of a frame as a `tf.data.Dataset`, the way Keras' ``fit`` takes it."""

from __future__ import annotations

from typing import Any

from tilth.data.row_batches import RowBatches
from tilth.data.stream_batches import StreamBatches
from tilth.lazy import require

__all__ = ["keras_batch", "tensorflow_dataset"]

_FEATURES = ("tokens", "numeric", "categorical")


def tensorflow_dataset(batches: RowBatches | StreamBatches, *, width: int | None) -> Any:
    """(features, label[, weight]) a batch, as `keras_batch` makes it; every pass is an epoch.

    Args:
        batches: of NumPy arrays.
        width: tokens in each row of every batch; None where that differs.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    tf = require("tensorflow", extra="tensorflow")
    first = next(iter(batches))
    batches.set_epoch(0)
    # Rows vary from batch to batch; the widths of features do not, but that of tokens may.
    specs = {
        name: tf.TensorSpec((None, *values.shape[1:]), values.dtype)
        for name, values in first.items()
    }
    if "tokens" in specs:
        specs["tokens"] = tf.TensorSpec((None, width), first["tokens"].dtype)
    dataset = tf.data.Dataset.from_generator(
        lambda: map(keras_batch, batches), output_signature=keras_batch(specs)
    )
    if isinstance(batches, RowBatches):
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return dataset.prefetch(tf.data.AUTOTUNE)


def keras_batch(batch: dict[str, Any]) -> Any:
    """(features, label[, weight]), or the features alone where there are no labels.

    Features are tokens, numeric and categorical: one of them as it is, several as a dict. Keras
    takes no more inputs than its model has, so that lengths (``mask_zero=True`` finds them) and
    rows (in order with ``shuffle=False``) stay out.
    """
    named = {name: batch[name] for name in _FEATURES if name in batch}
    features = named if len(named) > 1 else next(iter(named.values()))
    if "label" not in batch:
        return features
    weight = (batch["weight"],) if "weight" in batch else ()
    return (features, batch["label"], *weight)
