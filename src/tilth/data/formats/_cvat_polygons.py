"""Polygons as CVAT holds them: one part each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.formats._columns import report_rows
from tilth.data.masks import polygons_to_rle
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry

__all__ = ["single_polygons"]


def single_polygons(dataset: Dataset, report: LabelReport) -> Dataset:
    """Polygons of several parts as masks, or boxes where the size of the picture is not known."""
    labels, media = dataset.annotations, dataset.media
    rows = [
        row
        for row in np.flatnonzero(labels.geometry == Geometry.POLYGON).tolist()
        if b"],[" in (labels.segmentation[row] or b"").replace(b" ", b"")
    ]
    if not rows:
        return dataset
    several = np.zeros(len(labels), dtype=np.bool_)
    several[rows] = True
    sized = (media.width > 0)[labels.media_index] & (media.height > 0)[labels.media_index]

    def place(row: int) -> str:
        return f"label {labels.id[row]}"

    kind = "polygon of several parts"
    report_rows(report, kind, "becomes a mask", several & sized, place)
    report_rows(report, kind, "becomes a box", several & ~sized, place)
    return _replaced(dataset, rows, sized)


def _replaced(dataset: Dataset, rows: list[int], sized: NDArray[np.bool_]) -> Dataset:
    labels, media = dataset.annotations, dataset.media
    geometry, shapes, area = labels.geometry.copy(), list(labels.segmentation), labels.area.copy()
    for row in rows:
        media_row = labels.media_index[row]
        box = labels.boxes_xyxy[row]
        geometry[row] = Geometry.RLE if sized[row] else Geometry.BOX
        if sized[row]:
            size = int(media.height[media_row]), int(media.width[media_row])
            shapes[row] = polygons_to_rle(shapes[row] or b"[]", *size)
        else:
            shapes[row], area[row] = None, (box[2] - box[0]) * (box[3] - box[1])
    changed = replace(labels, geometry=geometry, segmentation=RaggedBytes.of(shapes), area=area)
    return replace(dataset, annotations=changed)
