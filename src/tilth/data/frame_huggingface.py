"""Rows of a frame as a `datasets.Dataset` of Hugging Face."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from tilth.lazy import require

__all__ = ["huggingface_dataset"]


def huggingface_dataset(
    table: pa.Table, label: str | None, labels: NDArray[Any] | None, class_names: tuple[str, ...]
) -> Any:
    """The columns as they are; labels of classes become ``ClassLabel`` of these names.

    Args:
        label: the column that holds the labels.
        labels: int64 [n], its classes by number; None where the column has none.

    Raises:
        MissingExtraError: datasets is not installed.
    """
    datasets = require("datasets", extra="huggingface")
    if label is None or labels is None:
        return datasets.Dataset(table)
    numbered = table.set_column(table.column_names.index(label), label, pa.array(labels))
    features = datasets.Features.from_arrow_schema(numbered.schema)
    features[label] = datasets.ClassLabel(names=list(class_names))
    return datasets.Dataset(numbered, info=datasets.DatasetInfo(features=features))
