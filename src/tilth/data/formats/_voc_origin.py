"""What the corners of a Pascal VOC set mean: pixels from 1, or edges from 0, by evidence."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.formats._columns import report_rows
from tilth.data.formats._labelmap import LABELMAP
from tilth.data.formats._voc_objects import VocObjects
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes

__all__ = ["pixel_edges", "shifted_attributes"]

Origin = Literal["auto", "voc1", "zero"]
_MEANING = {"voc1": "pixels from 1, both ends inside", "zero": "pixel edges from 0"}


def pixel_edges(
    objects: VocObjects,
    width: NDArray[np.int32],
    height: NDArray[np.int32],
    origin: Origin,
    stated: str | None,
    report: LabelReport,
) -> tuple[NDArray[np.float64], float]:
    """Boxes as pixel edges float64 [m, 4], and what was taken from xmin and ymin for that.

    Args:
        width, height: int32 [n], of the pictures; 0 where not known.
        stated: the origin that the set itself states, if it does.
        report: takes a note of the decision and of the evidence for it.
    """
    corners = np.concatenate([np.empty((0, 4)), *objects.records.corners])
    decided, evidence = str(origin), "as given"
    if origin == "auto" and stated:
        decided, evidence = stated, f"{LABELMAP} says so"
    elif origin == "auto":
        decided, evidence = _evidence(corners, width[objects.file], height[objects.file])
    report.notes.append(f"origin {decided} ({_MEANING[decided]}): {evidence}")
    if decided == "zero":
        return corners, 0.0
    points = (corners[:, :2] == corners[:, 2:]).all(axis=1)
    kind, action = "box whose corners are one pixel", "kept, one pixel wide: both ends are inside"
    report_rows(report, kind, action, points, objects.place)
    return corners - [1.0, 1.0, 0.0, 0.0], 1.0


def _evidence(
    corners: NDArray[np.float64], width: NDArray[np.int32], height: NDArray[np.int32]
) -> tuple[str, str]:
    """The origin, and why."""
    usable = np.isfinite(corners).all(axis=1)
    corners, width, height = corners[usable], width[usable], height[usable]
    if not len(corners):
        return "zero", "there is no box to tell by"
    fractions = int((corners != np.floor(corners)).any(axis=1).sum())
    if fractions:
        return "zero", f"{fractions} of {len(corners)} boxes have corners that are no whole numbers"
    smallest = corners.min()
    if smallest < 1:
        return "zero", f"the smallest corner is {smallest:g}"
    at_border = ((corners[:, 2] == width) & (width > 0)) | (
        (corners[:, 3] == height) & (height > 0)
    )
    ends = int(at_border.sum())
    if not ends:
        return "zero", "no box ends at xmax = width or ymax = height: nothing speaks for voc1"
    return "voc1", (
        f"only whole numbers, the smallest is {smallest:g},"
        f" and {ends} of {len(corners)} boxes end at xmax = width or ymax = height"
    )


def shifted_attributes(objects: VocObjects, rows: NDArray[np.int64], shift: float) -> RaggedBytes:
    """The attributes of these rows; the corners of parts are moved as those of the objects."""
    texts = [text or b"" for _, text in objects.labels]
    if not any(texts):
        return RaggedBytes.empty(len(rows))
    if shift:
        texts = [_shifted_parts(t, shift) if b'"parts":[{' in t else t for t in texts]
    label = objects.label[rows]
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(np.array([len(text) for text in texts], np.int64)[label], out=offsets[1:])
    return RaggedBytes(b"".join(map(texts.__getitem__, label.tolist())), offsets)


def _shifted_parts(text: bytes, shift: float) -> bytes:
    attributes = msgspec.json.decode(text)
    for part in attributes["parts"]:
        box = part.get("box") if isinstance(part, dict) else None
        if isinstance(box, list) and len(box) == 4:
            part["box"] = [box[0] - shift, box[1] - shift, *box[2:]]
    return msgspec.json.encode(attributes)
