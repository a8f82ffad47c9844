"""The greedy rule of the COCO protocol, for all pictures, thresholds and size ranges at once.

Detections of one picture and class choose one after the other, best score first; different pictures
have nothing to do with each other. So step k settles the k-th detection of every picture together,
and there are as many steps as the fullest picture has detections that overlap anything.

Source: Lin et al., 2014, Microsoft COCO: Common Objects in Context, arXiv 1405.0312v3; the rule
    itself is the program pycocotools (cocoeval.py) that its authors publish.
Follows: COCOeval.evaluateImg -> `greedy_matches`.
Symbols: thresholds = iouThrs [t]; is_ignored = gtIg, truths that are not to be found in a size
    range [a, m]; matched_to = dtMatches [t, a, n].
Differs: nothing but the order of the work.
Checked by: `test_equals_pycocotools_on_random_sets`, `test_matches_plain_greedy_twin`
"""

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray

from tilth.metrics.overlapping_pairs import OverlappingPairs

__all__ = ["greedy_matches"]


def greedy_matches(
    pairs: OverlappingPairs,
    turn: Int64[np.ndarray, "n"],
    *,
    thresholds: Float[np.ndarray, "t"],
    is_ignored: Bool[np.ndarray, "a m"],
    is_crowd: Bool[np.ndarray, "m"],
) -> Int64[np.ndarray, "t a n"]:
    """The truth that each detection is matched to, -1 for none.

    A detection takes the free truth it overlaps most, of those that count before those that are
    ignored; of equal overlaps the later truth. A crowd stays free.

    Args:
        pairs: those that overlap by the least threshold or more; others can never match.
        turn: of each detection in its picture and class, 0 for the best score. Detections of equal
            turn must be of different pictures or classes.
    """
    shape = (len(thresholds), len(is_ignored))
    matched_to = np.full((*shape, len(turn)), -1, dtype=np.int64)
    is_taken = np.zeros((*shape, len(is_crowd)), dtype=bool)
    # 1 must be reachable in spite of rounding.
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None, None]
    by_turn = np.lexsort((pairs.truth_row, pairs.detection_row, turn[pairs.detection_row]))
    turns = turn[pairs.detection_row[by_turn]]
    for rows in np.split(by_turn, np.flatnonzero(np.diff(turns)) + 1):
        if not len(rows):
            continue
        truths, overlap = pairs.truth_row[rows], pairs.overlap[rows]
        detections = pairs.detection_row[rows]
        starts = np.flatnonzero(np.append(True, np.diff(detections) != 0))
        fits = (~is_taken[..., truths] | is_crowd[truths]) & (overlap >= limits)
        ignored = is_ignored[:, truths]
        chosen = _last_best(overlap, fits & ~ignored, starts)
        chosen = np.where(chosen >= 0, chosen, _last_best(overlap, fits & ignored, starts))
        found = np.where(chosen >= 0, truths[chosen], -1)
        matched_to[..., detections[starts]] = found
        t, a, d = np.nonzero(found >= 0)
        is_taken[t, a, found[t, a, d]] = True
    return matched_to


def _last_best(
    overlap: NDArray[np.float64], is_usable: NDArray[np.bool_], starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each run of pairs the last of the usable ones that overlap most, -1 for none: [t, a, d].

    ``is_usable`` is [t, a, p]; runs begin at ``starts`` [d].
    """
    value = np.where(is_usable, overlap, -1.0)
    best = np.maximum.reduceat(value, starts, axis=-1)
    lengths = np.diff(np.append(starts, len(overlap)))
    is_best = is_usable & (value == np.repeat(best, lengths, axis=-1))
    return np.maximum.reduceat(np.where(is_best, np.arange(len(overlap)), -1), starts, axis=-1)
