"""Every detection and truth has one state, and the states agree with a plain greedy twin."""

from __future__ import annotations

import numpy as np
import pytest
from scored_sets import NO_DETECTIONS, make_detections, make_truth, random_set

from tilth.metrics.matching import match


def plain_iou(first, second, *, over_first_alone):
    wide = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    high = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return wide * high / (areas[0] if over_first_alone else sum(areas) - wide * high)


def plain_match(truth, detections, iou_threshold, score_threshold):
    """The COCO rule, one detection at a time: single objects first, crowds for what is left."""
    known = truth.annotations
    result = np.full(len(detections), -1)
    taken = set()
    for row in np.argsort(-detections.score, kind="stable"):
        if detections.score[row] < score_threshold:
            continue
        for crowd in (False, True):
            rivals = [
                (
                    plain_iou(
                        detections.boxes_xyxy[row], known.boxes_xyxy[other], over_first_alone=crowd
                    ),
                    other,
                )
                for other in range(len(known))
                if known.media_index[other] == detections.media_index[row]
                and known.category_index[other] == detections.category_index[row]
                and known.is_crowd[other] == crowd
                and (crowd or other not in taken)
            ]
            best = max(rivals, default=(0.0, -1))
            if best[0] >= iou_threshold:
                result[row] = best[1]
                taken.add(best[1])
                break
    return result


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("iou_threshold", "score_threshold"), [(0.5, 0.0), (0.7, 0.4)])
def test_matches_plain_greedy_twin(seed, iou_threshold, score_threshold):
    truth, detections = random_set(seed, num_media=6, num_classes=2, crowd_share=0.2)
    ours = match(truth, detections, iou_threshold=iou_threshold, score_threshold=score_threshold)
    expected = plain_match(truth, detections, iou_threshold, score_threshold)
    assert (expected >= 0).sum() > 5
    np.testing.assert_array_equal(ours.annotation_row, expected)


@pytest.mark.parametrize("seed", range(5))
def test_states_exclude_each_other_and_add_up(seed):
    truth, detections = random_set(seed)
    ours = match(truth, detections, score_threshold=0.3)
    in_crowd = ours.is_considered & ~ours.is_true_positive & ~ours.is_false_positive
    assert not (ours.is_true_positive & ours.is_false_positive).any()
    assert not (ours.is_true_positive & ~ours.is_considered).any()
    assert truth.annotations.is_crowd[ours.annotation_row[in_crowd]].all()
    assert not ours.is_missed[truth.annotations.is_crowd].any()
    singles = (~truth.annotations.is_crowd).sum()
    assert ours.is_true_positive.sum() + ours.is_missed.sum() == singles


def test_a_weak_detection_leaves_its_object_missed():
    box = [0, 0, 40, 40]
    truth = make_truth([0], [0], [box], num_media=1, num_classes=1)
    detections = make_detections([0], [0], [box], [0.2])
    assert not match(truth, detections).is_missed.any()
    strict = match(truth, detections, score_threshold=0.25)
    assert strict.is_missed.all()
    assert not strict.is_false_positive.any()


def test_more_than_a_hundred_detections_are_all_judged():
    truth = make_truth([0], [0], [[0, 0, 40, 40]], num_media=1, num_classes=1)
    boxes = [[100 + row, 100, 110 + row, 110] for row in range(150)] + [[0, 0, 40, 40]]
    detections = make_detections([0] * 151, [0] * 151, boxes, np.linspace(0.9, 0.1, 151))
    assert match(truth, detections).is_true_positive[-1]
    assert not match(truth, detections, max_detections=100).is_true_positive[-1]


def test_no_detections_miss_everything_but_crowds():
    truth, _ = random_set(0, crowd_share=0.3)
    ours = match(truth, NO_DETECTIONS)
    np.testing.assert_array_equal(ours.is_missed, ~truth.annotations.is_crowd)
    assert len(ours.annotation_row) == 0
