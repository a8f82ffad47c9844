"""Detections out of a file, from whatever detector: COCO's results JSON, or labels with scores.

A results file is a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``;
its numbers are the ids of the label file that was given to the detector. Any label format that
holds scores will do as well; its pictures are known by their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.formats import load_format
from tilth.data.formats._guess import guess_format
from tilth.data.records import Geometry
from tilth.errors import DataError, LabelError

__all__ = ["read_detections"]

COCO_RESULTS = "coco_results"
_HEAD_BYTES = 4096


class _Result(msgspec.Struct):
    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


def read_detections(
    path: Path, truth: Dataset, *, format_name: str | None = None, images: Path | None = None
) -> tuple[Detections, int]:
    """Detections with the rows of ``truth``, and how many are of pictures that it does not have.

    Args:
        format_name: "coco_results" or a label format; recognised where it is left out.
        images: the folder of the pictures, for formats that count in shares of them.

    Raises:
        LabelError: the file cannot be read, or a detection has no score.
        DataError: its pictures or classes are not those of ``truth``.
        SettingsError: no such format.
    """
    if format_name is None and _is_results(path):
        format_name = COCO_RESULTS
    if format_name == COCO_RESULTS:
        return _from_results(path, truth)
    name = format_name or guess_format(path)
    reader = load_format(name)
    found, _ = reader.read(path, media_root=images, options=reader.ReadOptions())
    return _from_labels(path, found, truth)


def _is_results(path: Path) -> bool:
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES).lstrip()
    return head.startswith(b"[") and (b'"image_id"' in head or head[1:].strip() in (b"", b"]"))


def _from_results(path: Path, truth: Dataset) -> tuple[Detections, int]:
    try:
        results = msgspec.json.decode(path.read_bytes(), type=list[_Result])
    except OSError as error:
        raise LabelError(
            "the file of detections cannot be read", where=str(path), got=error.strerror
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LabelError(
            "not a file of detections",
            where=str(path),
            expected="a list of image_id, category_id, bbox and score (COCO's results format)",
            got=str(error),
        ) from error
    # Some detectors write the name of a picture, without its suffix, where it has no number.
    media: dict[int | str, int] = {_stem(uri): row for row, uri in enumerate(truth.media.uri)}
    media |= {number: row for row, number in enumerate(truth.media.id.tolist())}
    classes = {category.origin_id: row for row, category in enumerate(truth.categories)}
    unknown = Counter(r.category_id for r in results if r.category_id not in classes)
    if unknown:
        raise _foreign("category", next(iter(unknown)), sum(unknown.values()), path, list(classes))
    kept = [result for result in results if result.image_id in media]
    if results and not kept:
        raise _foreign("picture", results[0].image_id, len(results), path, list(media))
    boxes = np.array([result.bbox for result in kept], dtype=np.float64).reshape(-1, 4)
    detections = Detections(
        media_index=np.array([media[result.image_id] for result in kept], dtype=np.int64),
        category_index=np.array([classes[result.category_id] for result in kept], dtype=np.int64),
        boxes_xyxy=np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]),
        score=np.array([result.score for result in kept], dtype=np.float32),
    )
    return detections, len(results) - len(kept)


def _from_labels(path: Path, found: Dataset, truth: Dataset) -> tuple[Detections, int]:
    labels = found.annotations
    boxes = np.flatnonzero(labels.geometry != Geometry.LABEL)
    if np.isnan(labels.score[boxes]).any():
        row = int(boxes[np.flatnonzero(np.isnan(labels.score[boxes]))[0]])
        raise LabelError(
            "a detection without a score cannot be ranked",
            where=f"{path}: {found.media.uri[int(labels.media_index[row])]}",
            got=f"{int(np.isnan(labels.score[boxes]).sum())} of {len(boxes)} boxes without one",
            fix="write detections in a format that holds scores: tilth formats",
        )
    classes = {category.name: row for row, category in enumerate(truth.categories)}
    foreign = [category.name for category in found.categories if category.name not in classes]
    used = {found.categories[row].name for row in np.unique(labels.category_index[boxes])}
    if used & set(foreign):
        name = min(used & set(foreign))
        raise _foreign("category", name, len(boxes), path, list(classes))
    media_row = _media_rows(found, truth)
    category_row = np.array([classes.get(c.name, -1) for c in found.categories], dtype=np.int64)
    rows = boxes[media_row[labels.media_index[boxes]] >= 0]
    if len(boxes) and not len(rows):
        raise _foreign("picture", found.media.uri[0], len(boxes), path, list(truth.media.uri))
    detections = Detections(
        media_index=media_row[labels.media_index[rows]],
        category_index=category_row[labels.category_index[rows]],
        boxes_xyxy=labels.boxes_xyxy[rows],
        score=labels.score[rows],
    )
    return detections, len(boxes) - len(rows)


def _media_rows(found: Dataset, truth: Dataset) -> NDArray[np.int64]:
    """The row of ``truth`` for each picture of ``found``, -1 for none.

    The end of the path decides, as the folders before it may be others elsewhere; a name without
    its suffix will do where the format keeps no suffix.
    """
    tables: list[dict[str, list[int]]] = [{}, {}]
    for row, uri in enumerate(truth.media.uri):
        for table, key in zip(tables, (_name(uri), _stem(uri)), strict=True):
            table.setdefault(key, []).append(row)
    rows = []
    for uri in found.media.uri:
        same = tables[0].get(_name(uri)) or tables[1].get(_stem(uri), [])
        rows.append(_nearest(uri, same, truth.media.uri))
    return np.array(rows, dtype=np.int64)


def _nearest(uri: str, rows: Sequence[int], uris: Sequence[str]) -> int:
    """Of the rows the one whose path ends most like ``uri``; -1 where that is not one alone."""
    if len(rows) < 2:
        return rows[0] if rows else -1
    own = PurePosixPath(uri).parent.parts[::-1]
    shared = []
    for row in rows:
        pairs = zip(own, PurePosixPath(uris[row]).parent.parts[::-1], strict=False)
        shared.append(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
    best = max(shared)
    return rows[shared.index(best)] if shared.count(best) == 1 else -1


def _name(uri: str) -> str:
    return PurePosixPath(uri).name


def _stem(uri: str) -> str:
    return PurePosixPath(uri).stem


def _foreign(
    kind: str, first: object, count: int, path: Path, known: Sequence[object]
) -> DataError:
    return DataError(
        f"detections of a {kind} that the labels do not have",
        where=str(path),
        expected=f"{', '.join(map(str, known[:5]))}{', ...' if len(known) > 5 else ''}",
        got=f"{first} ({count} such detections)",
        fix="score detections against the labels that they were made for",
    )
