"""Suppression gives exactly what the greedy rule, written as a loop, gives."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilth.ops.boxes import pairwise_iou
from tilth.ops.nms import non_maximum_suppression


def greedy_loop(boxes, scores, class_index, iou_threshold):
    scores, class_index = scores.tolist(), class_index.tolist()
    rows = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    clashes = (pairwise_iou(boxes, boxes) > iou_threshold).tolist()
    kept = []
    for row in rows:
        rivals = [other for other in kept if class_index[other] == class_index[row]]
        if not any(clashes[other][row] for other in rivals):
            kept.append(row)
    return kept


def crowded_boxes(count, seed, classes=2, extent=60.0):
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=draw) * extent
    boxes = torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=draw) * 25], dim=1)
    # Few distinct scores, so that ties are common.
    scores = torch.randint(0, 20, (count,), generator=draw) / 20
    return boxes, scores, torch.randint(0, classes, (count,), generator=draw)


@given(
    count=st.integers(0, 60),
    seed=st.integers(0, 10_000),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
)
def test_matches_greedy_loop(count, seed, threshold):
    boxes, scores, class_index = crowded_boxes(count, seed)
    kept = non_maximum_suppression(boxes, scores, class_index, iou_threshold=threshold)
    assert kept.tolist() == greedy_loop(boxes, scores, class_index, threshold)


def test_matches_greedy_loop_over_several_blocks():
    boxes, scores, class_index = crowded_boxes(1300, 3, extent=400.0)
    expected = greedy_loop(boxes, scores, class_index, 0.4)
    kept = non_maximum_suppression(
        boxes, scores, class_index, iou_threshold=0.4, max_kept=len(boxes)
    )
    assert len(expected) > 100
    assert kept.tolist() == expected


def test_a_long_chain_of_suppressions_is_exact():
    # Each box suppresses the next alone, so the answer is every second one: the worst case for
    # the fixed point.
    left = torch.arange(0.0, 300.0, 3.0)
    boxes = torch.stack([left, torch.zeros(100), left + 10, torch.ones(100)], dim=1)
    scores = torch.linspace(1, 0.5, 100)
    same = torch.zeros(100, dtype=torch.int64)
    kept = non_maximum_suppression(boxes, scores, same, iou_threshold=0.5)
    assert kept.tolist() == list(range(0, 100, 2))


def test_classes_do_not_suppress_each_other():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 3)
    scores = torch.tensor([0.5, 0.9, 0.7])
    kept = non_maximum_suppression(boxes, scores, torch.tensor([0, 1, 0]), iou_threshold=0.5)
    assert kept.tolist() == [1, 2]


def test_of_equal_scores_the_first_row_stays():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 4)
    same = torch.zeros(4, dtype=torch.int64)
    kept = non_maximum_suppression(boxes, torch.full((4,), 0.5), same, iou_threshold=0.5)
    assert kept.tolist() == [0]


def test_keeps_no_more_than_asked():
    boxes, scores, class_index = crowded_boxes(200, 0, extent=1000.0)
    every = non_maximum_suppression(boxes, scores, class_index, iou_threshold=0.5)
    few = non_maximum_suppression(boxes, scores, class_index, iou_threshold=0.5, max_kept=7)
    assert few.tolist() == every[:7].tolist()


@pytest.mark.parametrize("threshold", [0.45, 0.7])
def test_thousands_of_weak_boxes_take_no_loop(threshold):
    boxes, _, class_index = crowded_boxes(5000, 1, classes=3, extent=500.0)
    scores = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    started = time.process_time()
    kept = non_maximum_suppression(boxes, scores, class_index, iou_threshold=threshold)
    assert len(kept) == 300
    # About 10 ms on one core; a Python step per box would take seconds.
    assert time.process_time() - started < 1.0
