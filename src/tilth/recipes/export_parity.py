"""Whether an exported detector computes what the detector computes, and how long each takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tilth.errors import TilthError
from tilth.models.detection_network import detect
from tilth.ops.nms import Suppression

__all__ = ["detection_parity", "milliseconds", "raw_parity"]

TIMED_SECONDS = 1.0
TIMED_RUNS = (3, 30)


@torch.no_grad()
def raw_parity(
    model: nn.Module, exported: nn.Module, batches: Sequence[Tensor], *, tolerance: float
) -> list[dict[str, Any]]:
    """The largest differences of all boxes and scores, one row a batch.

    A box's difference counts relative to the box's largest coordinate plus one pixel, since sizes
    are exponentials.

    Raises:
        TilthError: one is above ``tolerance``.
    """
    rows = []
    for images in batches:
        boxes, scores = model.decode(model(images))  # type: ignore[operator]
        their_boxes, their_scores = exported.decode(exported(images))  # type: ignore[operator]
        apart = (boxes - their_boxes).abs()
        relative = apart / (1 + boxes.abs().amax(dim=-1, keepdim=True))
        row = {
            "batch": len(images),
            "boxes_max_abs": float(apart.max()),
            "boxes_max_relative": float(relative.max()),
            "scores_max_abs": float((scores - their_scores).abs().max()),
        }
        for what in ("boxes_max_relative", "scores_max_abs"):
            if not row[what] <= tolerance:  # also where it is no number
                raise _differs(f"batch of {len(images)}", tolerance, f"{what} {row[what]:.3g}")
        rows.append(row)
    return rows


def detection_parity(
    raw: nn.Module,
    run: Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]],
    batches: Sequence[Tensor],
    *,
    suppression: Suppression,
    score_threshold: float,
    tolerance: float,
) -> list[dict[str, Any]]:
    """Compare a graph that suppresses with `detect` on the raw one: same boxes, same order.

    Args:
        raw: the exported network without suppression, already found equal to the detector.
        run: from pictures to ``num_detections``, boxes, scores and classes of the graph.

    Raises:
        TilthError: a picture has other detections.
    """
    rows = []
    for images in batches:
        expected = detect(
            raw,
            images,
            score_threshold=score_threshold,
            iou_threshold=suppression.iou_threshold,
            max_detections=suppression.max_detections,
            class_agnostic=suppression.class_agnostic,
        )
        counts, boxes, scores, classes = run(images.numpy())
        for row, of_picture in enumerate(expected):
            count = int(counts[row])
            theirs = boxes[row][:count], scores[row][:count], classes[row][:count]
            ours = tuple(part.numpy() for part in of_picture)
            if not _same_detections(ours, theirs, tolerance):
                place = f"picture {row} of a batch of {len(images)}"
                got = f"{count} detections, {len(ours[0])} by the detector"
                raise _differs(place, tolerance, got)
        rows.append({"batch": len(images), "detections": [len(each[0]) for each in expected]})
    return rows


def _same_detections(ours: Sequence[Any], theirs: Sequence[Any], tolerance: float) -> bool:
    """Equal in order; only such as are equally strong may have changed places."""
    (boxes, scores, classes), (their_boxes, their_scores, their_classes) = ours, theirs
    if len(boxes) != len(their_boxes):
        return False
    if not len(boxes):
        return True
    if not np.abs(scores - their_scores).max() <= tolerance:  # also where one is no number
        return False
    apart = np.abs(boxes[:, None] - their_boxes[None]).max(axis=2)
    scale = 1 + np.abs(boxes).max(axis=1)[:, None]
    same = (apart <= tolerance * scale) & (classes[:, None] == their_classes[None])
    same &= np.abs(scores[:, None] - their_scores[None]) <= tolerance
    return bool(same.any(axis=0).all() and same.any(axis=1).all())


@torch.no_grad()
def milliseconds(network: nn.Module, picture: Tensor) -> dict[str, float]:
    """Median milliseconds of one picture from the square to boxes and scores, after a warm-up.

    ``cpu_ms`` adds the time of all threads, and is what a busy machine does not change.
    """
    wall, processor = [], []
    least, most = TIMED_RUNS
    started = time.perf_counter()
    for number in range(most + 1):
        before = time.perf_counter(), time.process_time()
        network.decode(network(picture))  # type: ignore[operator]
        if number:  # the first warms up
            wall.append(time.perf_counter() - before[0])
            processor.append(time.process_time() - before[1])
        if len(wall) >= least and time.perf_counter() - started > TIMED_SECONDS:
            break
    return {
        "ms": round(1000 * statistics.median(wall), 3),
        "cpu_ms": round(1000 * statistics.median(processor), 3),
    }


def _differs(where: str, tolerance: float, got: str) -> TilthError:
    return TilthError(
        "the exported detector does not compute what the detector computes; nothing was written",
        where=where,
        expected=f"differences of at most {tolerance:g}",
        got=got,
        fix="try another version of onnxruntime, and please report it",
    )
