"""What the numbers of an Ultralytics row mean, and rows made of boxes and outlines."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.formats._bridges import Ring, joined, taken_apart
from tilth.data.formats._columns import report_rows
from tilth.data.formats._polygon_columns import Polygons, polygons_of_json
from tilth.data.formats._text_columns import column, lines_of
from tilth.data.formats._yolo_rows import YoloRows, pixels, shares_of
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry
from tilth.errors import LabelError

__all__ = [
    "Kinds",
    "kinds_of",
    "outlines",
    "outside_rows",
    "report_shares",
    "row_lines",
    "with_one_outline",
]

_BLOCK = 20_000  # labels whose corners are numbers at one time
_BOX = 4
_LEAST_OUTLINE = 6  # three corners
_KEY_POINT = 3  # x, y and whether it is seen: 0, 1 or 2
_BOX_TOLERANCE_PX = 0.011  # to which COCO rounds the box of a polygon
_COORDINATES = np.array([0, 1, 2, 1, 2, 3, 0, 3])  # of a box: its corners, clockwise


@dataclass(frozen=True)
class Kinds:
    """What each row is.

    Attributes:
        usable: bool [m].
        is_outline: bool [m]; the others are boxes.
        length: int64 [m]: numbers of the shape itself.
        score: float64 [m], NaN where there is none.
        track: float64 [m], NaN where there is none.
    """

    usable: NDArray[np.bool_]
    is_outline: NDArray[np.bool_]
    length: NDArray[np.int64]
    score: NDArray[np.float64]
    track: NDArray[np.float64]

    def keep(self, rows: NDArray[np.bool_]) -> Kinds:
        """The rows where bool [m] is true."""
        return Kinds(**{name: values[rows] for name, values in vars(self).items()})

    def attributes(self) -> list[bytes | None] | None:
        """The number of the track, as JSON."""
        if np.isnan(self.track).all():
            return None
        return [None if track != track else b'{"track_id":%d}' % track for track in self.track]


def kinds_of(rows: YoloRows, kind: str, last: str, report: LabelReport) -> Kinds:
    """Tell boxes from outlines by how many numbers there are, and what more there is.

    Args:
        kind: "auto", "boxes", "polygons" or "pose".
        last: what a number is that is one too many: "auto", "confidence" or "track_id".

    Raises:
        LabelError: rows that look like key points, unless ``kind`` says what they are.
    """
    counts = rows.counts
    if kind == "auto" and _looks_like_key_points(rows):
        raise LabelError(
            "rows that look like a box and key points (x, y, 0 to 2)",
            where=rows.place(0),
            fix="take the boxes alone: --option rows=pose; or, if they are outlines: rows=polygons",
        )
    boxes = counts >= _BOX if kind in ("boxes", "pose") else counts <= _BOX + 1
    boxes |= _tracked_boxes(rows) if kind == "auto" else False
    length = np.where(boxes, _BOX, counts - counts % 2)
    extra = np.where(boxes, counts - _BOX, counts % 2)
    many = extra > 2
    if kind == "pose":
        report_rows(report, "key points", "left out, the box kept", extra > 0, rows.place)
        extra[:], many[:] = 0, False
    report_rows(report, "row with numbers beyond its box", "left out", many, rows.place)
    first = rows.first[:-1]
    score, track = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    one, two = np.flatnonzero(extra == 1), np.flatnonzero(extra == 2)
    value = rows.numbers[first[one] + length[one]]
    if _are_tracks(value, last, report):
        track[one] = value
    else:
        score[one] = value
    score[two], track[two] = rows.numbers[first[two] + _BOX], rows.numbers[first[two] + _BOX + 1]
    odd = (score < 0) | (score > 1) | (track < 0) | (track != np.floor(track)) & ~np.isnan(track)
    kind_of_fault = "number after the shape that is neither a confidence nor a track"
    report_rows(report, kind_of_fault, "left out", odd & ~many, rows.place)
    _note_oriented(counts[~boxes], report)
    return Kinds(~many & ~odd, ~boxes, length, score, track)


def _looks_like_key_points(rows: YoloRows) -> bool:
    """All rows have one length, and every third number after a box is 0, 1 or 2."""
    counts = rows.counts
    if not len(counts) or counts[0] < _BOX + _KEY_POINT or (counts != counts[0]).any():
        return False
    if (counts[0] - _BOX) % _KEY_POINT:
        return False
    seen = rows.numbers.reshape(len(rows), -1)[:, _BOX + 2 :: _KEY_POINT]
    return bool(np.isin(seen, (0, 1, 2)).all())


def _tracked_boxes(rows: YoloRows) -> NDArray[np.bool_]:
    """bool [m]: box, confidence and track, which are as many numbers as a triangle has.

    Only where all rows of that length end with a whole number, and one of them with more than 1,
    which no share is.
    """
    six = rows.counts == _LEAST_OUTLINE
    track = rows.numbers[rows.first[:-1][six] + 5]
    whole = bool(len(track)) and bool((track == np.floor(track)).all() and (track > 1).any())
    return six if whole else np.zeros(len(rows), np.bool_)


def _are_tracks(values: NDArray[np.float64], last: str, report: LabelReport) -> bool:
    if last != "auto" or not len(values):
        return last == "track_id"
    whole = bool((values == np.floor(values)).all() and (values > 1).any())
    what = "whole numbers: tracks" if whole else "from 0 to 1: confidences"
    report.notes.append(f"{len(values)} rows have a number after their shape, {what}")
    return whole


def _note_oriented(counts: NDArray[np.int64], report: LabelReport) -> None:
    if len(counts) and (counts // 2 == 4).all():
        report.notes.append(
            f"all {len(counts)} outlines have four corners, as oriented boxes do: read as polygons"
        )


def report_shares(rows: YoloRows, kinds: Kinds, report: LabelReport) -> None:
    """Report what Ultralytics would read differently, or not at all."""
    at = np.flatnonzero((rows.numbers < 0) | (rows.numbers > 1))
    row = np.searchsorted(rows.first, at, side="right") - 1
    bad = np.zeros(len(rows), np.bool_)
    bad[row[at - rows.first[row] < kinds.length[row]]] = True  # not what comes after the shape
    kind = "label with a number outside 0 to 1"
    report_rows(report, kind, "kept as it is; Ultralytics leaves its picture out", bad, rows.place)
    with_outline = np.zeros(len(rows.files), np.bool_)
    with_outline[rows.file[kinds.is_outline]] = True
    mixed = ~kinds.is_outline & with_outline[rows.file]
    kind = "box in a file with outlines"
    report_rows(
        report, kind, "kept as a box; Ultralytics takes it for two corners", mixed, rows.place
    )


def outlines(
    rows: YoloRows, kinds: Kinds, media: MediaColumns, report: LabelReport
) -> tuple[NDArray[np.float64], RaggedBytes, NDArray[np.float64]]:
    """Boxes float64 [k, 4] of the k outlines; of all rows their JSON and areas (NaN for boxes)."""
    if not kinds.is_outline.any():
        return np.zeros((0, 4)), RaggedBytes.empty(len(rows)), np.full(len(rows), np.nan)
    boxes, areas = np.zeros((len(rows), 4)), np.full(len(rows), np.nan)
    stream, lengths, split = io.BytesIO(), np.zeros(len(rows) + 1, np.int64), 0
    for start in range(0, len(rows), _BLOCK):
        at = start + np.flatnonzero(kinds.is_outline[start : start + _BLOCK])
        polygons = _outlines_of(rows, at, kinds.length[at], media)
        boxes[at], areas[at] = polygons.boxes_xyxy(), polygons.areas()
        texts = list(polygons.to_json())
        for row in _crossing_themselves(polygons).tolist():
            parts = taken_apart(_rings(polygons, row)[0])
            texts[row] = _json(parts)
            split += len(parts) > 1
        block = RaggedBytes.of(texts)
        stream.write(block.data)
        lengths[1 + at] = block.lengths
    if split:
        report.notes.append(f"{split} outlines with bridges of no width: taken apart into parts")
    return boxes[kinds.is_outline], RaggedBytes(stream.getvalue(), np.cumsum(lengths)), areas


def _outlines_of(
    rows: YoloRows, at: NDArray[np.int64], lengths: NDArray[np.int64], media: MediaColumns
) -> Polygons:
    """The numbers of these rows, in pixels."""
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.arange(first[-1]) + np.repeat(rows.first[:-1][at] - first[:-1], lengths)
    file = np.repeat(rows.file[at], lengths // 2)
    side = np.stack([media.width[file], media.height[file]], axis=1).ravel()
    return Polygons(pixels(rows.numbers[flat], side), first, np.arange(len(at) + 1))


def _crossing_themselves(polygons: Polygons) -> NDArray[np.int64]:
    """Rows of several parts, or whose first corner comes again before the end."""
    starts, ends = polygons.part_first[:-1], polygons.part_first[1:]
    x, y = polygons.numbers[0::2], polygons.numbers[1::2]
    part = np.repeat(np.arange(len(starts)), (ends - starts) // 2)
    corner = np.arange(len(x)) - starts[part] // 2
    last = (ends - starts)[part] // 2 - 1
    again = (x == x[starts[part] // 2]) & (y == y[starts[part] // 2]) & (corner > 2)
    again &= corner < last
    row = np.searchsorted(polygons.row_first, part[again], side="right") - 1
    return np.union1d(np.flatnonzero(polygons.parts > 1), row)


def _rings(polygons: Polygons, row: int) -> list[Ring]:
    bounds = polygons.part_first[polygons.row_first[row] : polygons.row_first[row + 1] + 1]
    parts = [
        polygons.numbers[start:end].tolist()
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    ]
    return [list(zip(part[0::2], part[1::2], strict=True)) for part in parts]


def _json(rings: Sequence[Ring]) -> bytes:
    return msgspec.json.encode([[number for corner in ring for number in corner] for ring in rings])


def with_one_outline(dataset: Dataset, report: LabelReport) -> AnnotationColumns:
    """The labels as they will be read from rows of one outline each, in files of one kind."""
    labels = dataset.annotations
    packed = RaggedBytes.of(labels.segmentation)
    if not (labels.geometry == Geometry.POLYGON).any():
        return replace(labels, segmentation=packed)
    changed: dict[int, bytes | None] = {}
    boxes, areas = labels.boxes_xyxy.copy(), labels.area.copy()
    geometry = labels.geometry.copy()
    found = _Found()
    for start in range(0, len(labels), _BLOCK):
        at = start + np.flatnonzero(geometry[start : start + _BLOCK] == Geometry.POLYGON)
        texts = [packed[row] for row in at.tolist()]
        polygons = polygons_of_json(texts)
        for row in _scrappy(polygons).tolist():
            found.scraps.append(int(at[row]))
            texts[row] = changed[int(at[row])] = _without_scraps(texts[row])
        whole = np.array([text is not None for text in texts], np.bool_)
        geometry[at[~whole]] = Geometry.BOX
        at, texts = at[whole], [text for text in texts if text is not None]
        polygons = polygons_of_json(texts) if found.scraps else polygons
        boxes[at], areas[at] = polygons.boxes_xyxy(), polygons.areas()
        for row in _crossing_themselves(polygons).tolist():
            parts = _rings(polygons, row)
            back = taken_apart(joined(parts))
            found.bridged += len(parts) > 1
            found.stuck += [int(at[row])] if len(back) != len(parts) else []
            changed[int(at[row])] = _json(back)
    found.moved = np.any(np.abs(boxes - labels.boxes_xyxy) > _BOX_TOLERANCE_PX, axis=1)
    found.report(labels, report)
    labels = replace(
        labels,
        geometry=geometry,
        boxes_xyxy=boxes,
        area=areas,
        segmentation=_changed(packed, changed),
    )
    return _boxes_beside_outlines(labels, report)


@dataclass
class _Found:
    """Rows of what one outline a row cannot hold."""

    scraps: list[int] = field(default_factory=list)
    stuck: list[int] = field(default_factory=list)
    bridged: int = 0
    moved: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def report(self, labels: AnnotationColumns, report: LabelReport) -> None:
        if self.bridged:
            text = f"{self.bridged} labels of several parts: joined by bridges of no width"
            report.notes.append(text)
        for kind, action, rows in (
            (
                "part of fewer than three corners",
                "left out; a label without another part becomes its box",
                self.scraps,
            ),
            (
                "outline whose parts a reader cannot tell apart",
                "becomes one outline of the same inside, or parts",
                self.stuck,
            ),
            (
                "box that is not the box around its outline",
                "becomes that",
                np.flatnonzero(self.moved).tolist(),
            ),
        ):
            report.add(kind, action, [f"label {labels.id[row]}" for row in rows])


def _scrappy(polygons: Polygons) -> NDArray[np.int64]:
    """Rows without a part, or with one of fewer than three corners, which is a box in its row."""
    lengths = np.diff(polygons.part_first)
    scrap = np.flatnonzero((lengths < _LEAST_OUTLINE) | (lengths % 2 == 1))
    rows = np.searchsorted(polygons.row_first, scrap, side="right") - 1
    return np.union1d(rows, np.flatnonzero(polygons.parts == 0))


def _without_scraps(text: bytes | None) -> bytes | None:
    parts = msgspec.json.decode(text or b"[]")
    whole = [part for part in parts if len(part) >= _LEAST_OUTLINE and len(part) % 2 == 0]
    return msgspec.json.encode(whole) if whole else None


def _changed(texts: RaggedBytes, changes: dict[int, bytes | None]) -> RaggedBytes:
    """The texts with some of them replaced, copied once and in long pieces."""
    if not changes:
        return texts
    stream, lengths, after = io.BytesIO(), texts.lengths, 0
    for row in sorted(changes):
        new = changes[row] or b""
        stream.write(texts.data[texts.offsets[after] : texts.offsets[row]])
        stream.write(new)
        lengths[row], after = len(new), row + 1
    stream.write(texts.data[texts.offsets[after] : texts.offsets[-1]])
    return RaggedBytes(stream.getvalue(), np.concatenate([[0], np.cumsum(lengths)]))


def _boxes_beside_outlines(labels: AnnotationColumns, report: LabelReport) -> AnnotationColumns:
    """In a picture with an outline, boxes become rectangles."""
    is_outline = np.asarray(labels.geometry == Geometry.POLYGON)
    if is_outline.all() or not is_outline.any():
        return labels
    pictures = np.zeros(int(labels.media_index.max()) + 1, np.bool_)
    pictures[labels.media_index[is_outline]] = True
    beside = np.asarray(~is_outline & pictures[labels.media_index])
    if not beside.any():
        return labels
    kind = "box in a picture with outlines"
    report_rows(report, kind, "becomes a polygon", beside, lambda row: f"label {labels.id[row]}")
    rows = np.flatnonzero(beside)
    corners = labels.boxes_xyxy[rows][:, _COORDINATES].ravel()
    rectangles = Polygons(corners, np.arange(len(rows) + 1) * 8, np.arange(len(rows) + 1))
    texts = dict(zip(rows.tolist(), rectangles.to_json(), strict=True))
    return replace(
        labels,
        geometry=np.where(beside, np.uint8(Geometry.POLYGON), labels.geometry),
        segmentation=_changed(RaggedBytes.of(labels.segmentation), texts),
    )


def outside_rows(dataset: Dataset) -> NDArray[np.bool_]:
    """bool [m]: labels with a number outside 0 to 1."""
    outside = np.zeros(len(dataset.annotations), np.bool_)
    for start in range(0, len(outside), _BLOCK):
        first, numbers = _shares_in_rows(dataset, slice(start, min(start + _BLOCK, len(outside))))
        at = np.flatnonzero((numbers < 0) | (numbers > 1))
        outside[start + np.searchsorted(first, at, side="right") - 1] = True
    return outside


def _shares_in_rows(dataset: Dataset, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The numbers of the rows' shapes, and int64 [m + 1] where each row begins."""
    labels, media = dataset.annotations, dataset.media
    media_rows = labels.media_index[rows]
    width, height = media.width[media_rows], media.height[media_rows]
    is_outline = labels.geometry[rows] == Geometry.POLYGON
    if not is_outline.any():
        shares = shares_of(labels.boxes_xyxy[rows], width, height)
        return np.arange(len(shares) + 1) * _BOX, shares.ravel()
    at, plain = np.flatnonzero(is_outline), np.flatnonzero(~is_outline)
    polygons = _one_ring_each([labels.segmentation[rows.start + row] for row in at.tolist()])
    counts = np.full(len(is_outline), _BOX, np.int64)
    counts[at] = np.diff(polygons.number_first)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    numbers = np.empty(first[-1])
    boxes = shares_of(labels.boxes_xyxy[rows][plain], width[plain], height[plain])
    numbers[first[:-1][plain, None] + np.arange(_BOX)] = boxes
    inside = np.repeat(is_outline, counts)
    corners = np.repeat(at, counts[at] // 2)
    side = np.stack([width[corners], height[corners]], axis=1).ravel()
    numbers[inside] = polygons.numbers / side
    return first, numbers


def _one_ring_each(texts: list[bytes | None]) -> Polygons:
    polygons = polygons_of_json(texts)
    several = np.flatnonzero(polygons.parts > 1).tolist()
    if not several:
        return polygons
    for row in several:
        texts[row] = _json([joined(_rings(polygons, row))])
    return polygons_of_json(texts)


def row_lines(dataset: Dataset, rows: slice, *, scores: bool) -> pa.LargeStringArray:
    """The rows as lines."""
    labels = dataset.annotations
    first, numbers = _shares_in_rows(dataset, rows)
    columns = [column(labels.category_index[rows])]
    if len(numbers) == _BOX * (len(first) - 1) and (np.diff(first) == _BOX).all():
        columns += [column(numbers[at::_BOX]) for at in range(_BOX)]
    else:
        lists = pa.LargeListArray.from_arrays(pa.array(first), column(numbers))
        columns.append(pc.binary_join(lists, pa.scalar(" ", pa.large_string())))
    if scores:
        score = labels.score[rows]
        columns.append(pc.if_else(pa.array(~np.isnan(score)), column(score), None))
    return lines_of(columns)
