"""From what became of each detection to precision and recall, over any choice of pictures.

The detections were matched once, by one protocol or another (`coco_protocol`, `voc_protocol`); what
follows is the same for both but for how the curve of precision over recall is summed up:

    "coco"    at 101 recalls, 0 to 1
    "voc07"   at 11 recalls, the rule of Pascal VOC until 2009 (TAO: SAMPLE)
    "area"    the whole area under the curve, Pascal VOC from 2010 and Darknet (TAO: INTEGRATE)

each time with the best precision that is reached at that recall or beyond it.

Source: Lin et al., 2014, Microsoft COCO: Common Objects in Context, arXiv 1405.0312v3, whose
    program is pycocotools; Everingham, Van Gool, Williams, Winn, Zisserman, 2010, The Pascal Visual
    Object Classes (VOC) Challenge, IJCV 88, doi 10.1007/s11263-009-0275-4, section 4.2, whose
    development kit has the area since 2010.
Follows: COCOeval.accumulate, VOCap -> `accumulate`.
Symbols: precision = [thresholds, points, classes, areas], -1 where a class has no truth; recall =
    [thresholds, classes, areas, limits], likewise; LIMITS = maxDets; weights = how often each
    picture is counted.
Differs: precision is worked out only where a detection is right, as the envelope changes nowhere
    else; a picture that is drawn twice counts each of its detections twice on the spot, where
    copies of it would be gone through one after the other, which only equal scores can tell apart.
Checked by: `test_equals_pycocotools_on_random_sets`, `test_resampling_equals_evaluating_copies`,
    `test_voc_modes_match_a_plain_twin`
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMITS", "RECALLS", "Accumulated", "Evaluation", "Interpolation", "accumulate"]

Interpolation = Literal["coco", "voc07", "area"]

RECALLS = np.linspace(0.0, 1.0, 101)
ELEVEN_RECALLS = np.linspace(0.0, 1.0, 11)
EVERY_DETECTION = 2**62
LIMITS = (1, 10, EVERY_DETECTION)  # the COCO protocol has dropped all beyond 100 before


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What became of every detection, in the order in which the protocol goes through them.

    Attributes:
        class_starts: int64 [c + 1]; rows of one class lie together, best score first.
        media_index, turn: int64 [n], picture of each row, and its place there by score.
        is_right: bool [t, a, n], matched to an object that counts.
        is_wrong: bool [t, a, n], matched to nothing; of the others nothing is counted.
        num_truths: int64 [pictures, c, a], objects that count.
    """

    class_starts: NDArray[np.int64]
    media_index: NDArray[np.int64]
    turn: NDArray[np.int64]
    is_right: NDArray[np.bool_]
    is_wrong: NDArray[np.bool_]
    num_truths: NDArray[np.int64]

    @property
    def num_pictures(self) -> int:
        """Pictures of the truth, with detections or without."""
        return len(self.num_truths)

    @cached_property
    def _columns(self) -> dict[tuple[int, int], _Column]:
        """What is asked for again and again when pictures are resampled, by class and area."""
        return {}

    def _column(self, row: int, area: int) -> _Column:
        if (row, area) not in self._columns:
            own = slice(*self.class_starts[row : row + 2])
            self._columns[row, area] = _Column.of(
                self.is_right[:, area, own], self.is_wrong[:, area, own], self.turn[own]
            )
        return self._columns[row, area]


@dataclass(frozen=True, kw_only=True, eq=False)
class Accumulated:
    """Precision at the points of the curve, and the final recall.

    Attributes:
        precision: float64 [t, r, c, a] for IoU thresholds, points, classes, area ranges (all,
            small, medium, large); the mean over the points is the average precision ("area" has
            one point, which is the area). -1 where there is no truth.
        recall: float64 [t, c, a, 3] of the best 1, the best 10 and all detections of a picture and
            class; -1 where there is no truth.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def accumulate(
    evaluation: Evaluation,
    pictures: NDArray[np.int64] | None = None,
    *,
    interpolation: Interpolation = "coco",
    all_areas: bool = True,
) -> Accumulated:
    """Precision and recall over all pictures, or over a choice of them.

    Args:
        pictures: int64 [k], rows of ``truth.media``, repeats allowed; all of them by default.
        all_areas: False leaves the size ranges out, for speed.
    """
    num_areas = evaluation.is_right.shape[1] if all_areas else 1
    counts = np.ones(evaluation.num_pictures, dtype=np.int64)
    if pictures is not None:
        counts = np.bincount(pictures, minlength=evaluation.num_pictures)
    truths = np.tensordot(counts, evaluation.num_truths[..., :num_areas], axes=1)  # [c, a]
    weights = None if pictures is None else counts[evaluation.media_index]
    num_points = {"coco": len(RECALLS), "voc07": len(ELEVEN_RECALLS), "area": 1}[interpolation]
    shape = (len(evaluation.is_right), len(truths), num_areas)
    precision = np.full((shape[0], num_points, *shape[1:]), -1.0)
    recall = np.full((*shape, len(LIMITS)), -1.0)
    for row, area in zip(*map(np.ndarray.tolist, np.nonzero(truths)), strict=True):
        total = int(truths[row, area])
        heavy = None if weights is None else weights[slice(*evaluation.class_starts[row : row + 2])]
        column = evaluation._column(row, area)
        precision[:, :, row, area] = _points(*column.curve(heavy), total, interpolation)
        for place, limit in enumerate(LIMITS):
            recall[:, row, area, place] = column.num_right(limit, heavy) / total
    return Accumulated(precision=precision, recall=recall)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Column:
    """One class and area, without what never changes: most detections are wrong at any threshold.

    Attributes:
        places: int64 [p], rows that are right at some threshold.
        is_right: bool [t, p].
        turn: int64 [p].
        is_wrong: bool [n], of rows that are the same at all thresholds.
        varying: int64 [v], the other rows, of which is_wrong_there, bool [t, v].
        before: int64 [p], how many of ``varying`` come up to each place.
    """

    places: NDArray[np.int64]
    is_right: NDArray[np.bool_]
    turn: NDArray[np.int64]
    is_wrong: NDArray[np.bool_]
    varying: NDArray[np.int64]
    is_wrong_there: NDArray[np.bool_]
    before: NDArray[np.int64]

    @classmethod
    def of(
        cls, is_right: NDArray[np.bool_], is_wrong: NDArray[np.bool_], turn: NDArray[np.int64]
    ) -> _Column:
        places = np.flatnonzero(is_right.any(axis=0))
        is_always, is_ever = is_wrong.all(axis=0), is_wrong.any(axis=0)
        varying = np.flatnonzero(is_always != is_ever)
        return cls(
            places=places,
            is_right=np.ascontiguousarray(is_right[:, places]),
            turn=turn[places],
            is_wrong=np.asarray(is_always),
            varying=varying,
            is_wrong_there=np.ascontiguousarray(is_wrong[:, varying]),
            before=np.searchsorted(varying, places, side="right"),
        )

    def curve(
        self, weights: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Right and wrong detections so far, int64 [t, p], at each of the places."""
        right = _running(self.is_right, None if weights is None else weights[self.places])
        same = _running(self.is_wrong[None], weights)[:, self.places]
        there = _running(self.is_wrong_there, None if weights is None else weights[self.varying])
        there = np.hstack([np.zeros((len(there), 1), dtype=np.int64), there])
        return right, same + there[:, self.before]

    def num_right(self, limit: int, weights: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """int64 [t], of the best ``limit`` detections of each picture."""
        counted = self.turn < limit
        marks = self.is_right[:, counted]
        return marks.sum(axis=1) if weights is None else marks @ weights[self.places[counted]]


def _points(
    right: NDArray[np.int64],
    wrong: NDArray[np.int64],
    num_truths: int,
    interpolation: Interpolation,
) -> NDArray[np.float64]:
    """float64 [t, r]: the best precision at each recall or beyond it, or the area under it."""
    recall = right / num_truths
    # COCO's program adds the spacing of 1; before the first detection there is nothing to divide.
    spacing = np.spacing(1) if interpolation == "coco" else 0.0
    precision = right / np.maximum(wrong + right + spacing, np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if interpolation == "area":
        steps = np.diff(recall, axis=1, prepend=0.0)
        return (steps * envelope).sum(axis=1, keepdims=True)
    envelope = np.hstack([envelope, np.zeros((len(envelope), 1))])
    wanted = RECALLS if interpolation == "coco" else ELEVEN_RECALLS
    reached = [np.searchsorted(own, wanted, side="left") for own in recall]
    return np.take_along_axis(envelope, np.array(reached), axis=1)


def _running(marks: NDArray[np.bool_], weights: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.cumsum(marks if weights is None else marks * weights, axis=1, dtype=np.int64)
