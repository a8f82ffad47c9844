"""What a search for wrong labels leaves behind: a ranked list, all rows with their scores, and
numbers in the catalogue.

In the catalogue every judged label has a row of the feature set `LABEL_ERROR_SET`; a label that is
edited afterwards reads as not judged, as features do. Nothing is taken out and no label is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tilth.curate.label_errors import LabelErrors
from tilth.curate.noise_matrix import NoiseEstimate
from tilth.data.catalogue import Catalogue

__all__ = ["LABEL_ERROR_SET", "error_rows", "label_table", "noise_document", "store_label_errors"]

LABEL_ERROR_SET = "label_errors"
COLUMNS = ("is_error", "quality", "suggested", "margin")


def label_table(
    errors: LabelErrors,
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    rows: NDArray[np.int64],
    names: Sequence[str],
) -> pa.Table:
    """Every judged label, in the order of the data; ``rank`` counts the wrong ones from 1.

    Args:
        labels: int64 [n], the given ones.
        rows: int64 [n], place of each in the data that was given.
        names: n files, or beginnings of texts.
    """
    rank = np.zeros(len(errors), dtype=np.int64)
    rank[errors.ranked] = np.arange(1, len(errors.ranked) + 1)
    known = pa.array(list(class_names), type=pa.string())
    return pa.table(
        {
            "rank": pa.array(rank, mask=rank == 0),
            "row": pa.array(rows, pa.int64()),
            "name": pa.array(list(names), pa.string()),
            "given_label": known.take(pa.array(labels)),
            "suggested_label": known.take(pa.array(errors.suggested)),
            "predicted_label": known.take(pa.array(errors.predicted)),
            "is_error": pa.array(errors.is_error),
            "quality": pa.array(errors.quality.round(6), pa.float64()),
            "margin": pa.array(errors.margin.astype(np.float64).round(6), pa.float64()),
        }
    )


def error_rows(table: pa.Table) -> pa.Table:
    """Of `label_table` the labels that are taken for wrong, the worst first."""
    found = table.filter(table["is_error"]).sort_by("rank")
    return found.drop_columns(["is_error"])


def noise_document(noise: NoiseEstimate, class_names: Sequence[str]) -> dict[str, Any]:
    """The noise as plain values; matrices are lists of rows."""
    interval = noise.noise_matrix_interval
    return {
        "share_wrong": noise.share_wrong,
        "share_wrong_interval": list(noise.share_wrong_interval),
        "confidence": noise.confidence,
        "classes": list(class_names),
        "class_share_wrong": noise.class_share_wrong.tolist(),
        "class_share_wrong_interval": noise.class_share_wrong_interval.T.tolist(),
        "noise_matrix": noise.noise_matrix.tolist(),
        "noise_matrix_low": None if interval is None else interval[0].tolist(),
        "noise_matrix_high": None if interval is None else interval[1].tolist(),
        "joint": noise.joint.tolist(),
    }


def store_label_errors(
    catalogue: Catalogue,
    annotation_ids: NDArray[np.int64],
    category_index: NDArray[np.int64],
    errors: LabelErrors,
) -> None:
    """Keep verdict, quality, suggested class and margin of every judged label of a project.

    Args:
        annotation_ids: int64 [n], of the labels.
        category_index: int64 [k], place of each class among the task's categories.
    """
    values = np.stack(
        [
            errors.is_error.astype(np.float64),
            errors.quality,
            category_index[errors.suggested].astype(np.float64),
            errors.margin.astype(np.float64),
        ],
        axis=1,
    )
    catalogue.write_features(LABEL_ERROR_SET, COLUMNS, "annotation", annotation_ids, values)
