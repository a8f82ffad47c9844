"""What a comparison of labels with detections leaves behind: numbers in the catalogue, and a list.

In the catalogue every compared label has a row of the feature set `LABEL_SET`, and every picture
one of `PICTURE_SET`; a label that is edited afterwards reads as not compared, as features do.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tilth.curate.box_pairs import AgreementSettings, Finding
from tilth.curate.label_agreement import Agreement
from tilth.data.atomic import atomic_writer
from tilth.data.catalogue import Catalogue
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.errors import SettingsError

__all__ = [
    "LABEL_SET",
    "PICTURE_SET",
    "finding_rows",
    "picture_rows",
    "store_agreement",
    "write_findings",
]

LABEL_SET = "label_agreement"
PICTURE_SET = "picture_agreement"
LABEL_COLUMNS = ("finding", "error_score", "iou", "detection_score")
PICTURE_COLUMNS = ("error_score",)


def store_agreement(
    catalogue: Catalogue, dataset: Dataset, detections: Detections, agreement: Agreement
) -> None:
    """Keep finding and score of every compared label, and the score of every picture."""
    count = len(dataset.annotations)
    values = np.zeros((count, len(LABEL_COLUMNS)))
    values[:, 1] = agreement.label_scores
    values[:, 2:] = np.nan
    rows = agreement.annotation_row
    of_label = np.flatnonzero(rows >= 0)
    values[rows[of_label], 0] = agreement.finding[of_label]
    values[rows[of_label], 2] = agreement.iou[of_label]
    accused = of_label[agreement.detection_row[of_label] >= 0]
    values[rows[accused], 3] = detections.score[agreement.detection_row[accused]]
    compared = np.flatnonzero(~np.isnan(agreement.label_scores))
    catalogue.write_features(
        LABEL_SET, LABEL_COLUMNS, "annotation", dataset.annotations.id[compared], values[compared]
    )
    catalogue.write_features(
        PICTURE_SET,
        PICTURE_COLUMNS,
        "media",
        dataset.media.id,
        agreement.picture_scores[:, None],
    )


def finding_rows(
    dataset: Dataset, detections: Detections, agreement: Agreement, *, least_score: float = 0.0
) -> list[dict[str, Any]]:
    """The findings as plain values, worst first; boxes are x0, y0, x1, y1 in pixels."""
    labels, rows = dataset.annotations, []
    for at in range(int((agreement.error_score >= least_score).sum())):
        label, found = int(agreement.annotation_row[at]), int(agreement.detection_row[at])
        rows.append(
            {
                "picture": dataset.media.uri[int(agreement.media_index[at])],
                "finding": Finding(int(agreement.finding[at])).name.lower(),
                "error_score": round(float(agreement.error_score[at]), 4),
                "label": int(labels.id[label]) if label >= 0 else None,
                "label_class": _class(dataset, labels.category_index, label),
                "label_box": _box(labels.boxes_xyxy, label),
                "detected_class": _class(dataset, detections.category_index, found),
                "detected_box": _box(detections.boxes_xyxy, found),
                "detection_score": round(float(detections.score[found]), 4) if found >= 0 else None,
                "iou": round(float(agreement.iou[at]), 4),
            }
        )
    return rows


def picture_rows(dataset: Dataset, agreement: Agreement) -> list[dict[str, Any]]:
    """The pictures with a finding, worst first."""
    order = np.argsort(-agreement.picture_scores, kind="stable")
    findings = np.bincount(agreement.media_index, minlength=len(dataset.media))
    return [
        {
            "picture": dataset.media.uri[row],
            "error_score": round(float(agreement.picture_scores[row]), 4),
            "findings": int(findings[row]),
        }
        for row in order.tolist()
        if findings[row]
    ]


def write_findings(
    path: Path,
    findings: Sequence[dict[str, Any]],
    pictures: Sequence[dict[str, Any]],
    settings: AgreementSettings,
) -> None:
    """Write the list, whole or not at all: everything as ``.json``, the findings as ``.csv``.

    Raises:
        SettingsError: another suffix.
        StorageError: the disk refused.
    """
    if path.suffix == ".json":
        says = {"settings": settings, "findings": findings, "pictures": pictures}
        content = orjson.dumps(says, option=orjson.OPT_INDENT_2) + b"\n"
    elif path.suffix == ".csv":
        content = _csv(findings).encode()
    else:
        raise SettingsError(
            "findings of this kind cannot be written",
            where=str(path),
            expected=".json or .csv",
            got=path.suffix or "no suffix",
        )
    with atomic_writer(path) as stream:
        stream.write(content)


def _csv(findings: Sequence[dict[str, Any]]) -> str:
    corners = ("x0", "y0", "x1", "y1")
    names = ("picture", "finding", "error_score", "label", "label_class", "detected_class")
    boxes = [f"{which}_{corner}" for which in ("label", "detected") for corner in corners]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "detection_score", "iou", *boxes])
    for row in findings:
        edges = [*(row["label_box"] or [None] * 4), *(row["detected_box"] or [None] * 4)]
        values = [*(row[name] for name in names), row["detection_score"], row["iou"], *edges]
        writer.writerow(["" if value is None else value for value in values])
    return text.getvalue()


def _class(dataset: Dataset, category_index: NDArray[np.int64], row: int) -> str | None:
    return dataset.categories[int(category_index[row])].name if row >= 0 else None


def _box(boxes_xyxy: NDArray[np.float64], row: int) -> list[float] | None:
    return [round(float(edge), 2) for edge in boxes_xyxy[row]] if row >= 0 else None
