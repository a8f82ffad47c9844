"""Suppression gives exactly what the greedy rule, written as a loop, gives."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingsError
from tilth.ops.nms import Suppression, non_maximum_suppression, strongest_boxes


def plain_overlap(first, second, kind, beta):
    """IoU, less Darknet's distance term: one pair, no tensors."""
    wide = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    high = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - wide * high
    overlap = wide * high / union
    if kind == "iou":
        return overlap
    across = max(first[2], second[2]) - min(first[0], second[0])
    down = max(first[3], second[3]) - min(first[1], second[1])
    shift = [
        (first[axis] + first[axis + 2] - second[axis] - second[axis + 2]) / 2 for axis in (0, 1)
    ]
    return overlap - ((shift[0] ** 2 + shift[1] ** 2) / (across**2 + down**2)) ** beta


def greedy_loop(boxes, scores, class_index, iou_threshold, *, kind="iou", beta=0.6, agnostic=False):
    boxes, scores, class_index = boxes.tolist(), scores.tolist(), class_index.tolist()
    kept = []
    for row in sorted(range(len(scores)), key=lambda row: (-scores[row], row)):
        rivals = [other for other in kept if agnostic or class_index[other] == class_index[row]]
        overlaps = [plain_overlap(boxes[other], boxes[row], kind, beta) for other in rivals]
        if not any(overlap > iou_threshold for overlap in overlaps):
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
    threshold=st.sampled_from([0.0, 0.31, 0.52, 0.9]),
    kind=st.sampled_from(["iou", "diou"]),
    beta=st.sampled_from([0.6, 1.0]),
    agnostic=st.booleans(),
)
def test_matches_greedy_loop(count, seed, threshold, kind, beta, agnostic):
    boxes, scores, class_index = crowded_boxes(count, seed)
    choices = {"kind": kind, "beta": beta}
    kept = non_maximum_suppression(
        boxes,
        scores,
        class_index,
        iou_threshold=threshold,
        class_agnostic=agnostic,
        **choices,
    )
    expected = greedy_loop(boxes, scores, class_index, threshold, agnostic=agnostic, **choices)
    assert kept.tolist() == expected


def test_distance_keeps_a_neighbour_that_overlap_drops():
    # Two people side by side, and the first of them once more: plain overlap cannot tell.
    boxes = torch.tensor([[0.0, 0, 30, 90], [9, 0, 39, 90], [0, 9, 30, 99]])
    scores, same = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64)
    plain = non_maximum_suppression(boxes, scores, same, iou_threshold=0.5)
    spared = non_maximum_suppression(boxes, scores, same, iou_threshold=0.5, kind="diou")
    assert (plain.tolist(), spared.tolist()) == ([0], [0, 1])
    as_in_the_paper = non_maximum_suppression(
        boxes, scores, same, iou_threshold=0.5, kind="diou", beta=1.0
    )
    assert as_in_the_paper.tolist() == [0]


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


def test_strongest_boxes_are_those_above_the_score_best_first():
    boxes = torch.arange(12.0).view(3, 4)
    scores = torch.tensor([[0.2, 0.9], [0.5, 0.2], [0.1, 0.2]])
    found = strongest_boxes(boxes, scores, score_threshold=0.15)
    assert found[0].tolist() == boxes[[0, 1, 0, 1, 2]].tolist()
    assert found[1].tolist() == pytest.approx([0.9, 0.5, 0.2, 0.2, 0.2])
    assert found[2].tolist() == [1, 0, 0, 1, 1]
    few = strongest_boxes(boxes, scores, score_threshold=0.15, max_candidates=2)
    assert few[2].tolist() == [1, 0]
    assert len(strongest_boxes(boxes, scores, score_threshold=0.9)[1]) == 0


@pytest.mark.parametrize("wrong", [{"iou_threshold": 1.5}, {"beta": 0.0}, {"max_detections": 0}])
def test_a_suppression_that_cannot_be_used_is_refused(wrong):
    with pytest.raises(SettingsError, match="suppression"):
        Suppression(**wrong)


@pytest.mark.parametrize("threshold", [0.45, 0.7])
def test_thousands_of_weak_boxes_take_no_loop(threshold):
    boxes, _, class_index = crowded_boxes(5000, 1, classes=3, extent=500.0)
    scores = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    started = time.process_time()
    kept = non_maximum_suppression(boxes, scores, class_index, iou_threshold=threshold)
    assert len(kept) == 300
    # About 10 ms on one core; a Python step per box would take seconds.
    assert time.process_time() - started < 1.0


def test_thirty_thousand_boxes_take_a_fraction_of_a_second():
    boxes, _, class_index = crowded_boxes(30_000, 2, classes=80, extent=600.0)
    scores = torch.rand(30_000, generator=torch.Generator().manual_seed(0))
    started = time.process_time()
    kept = non_maximum_suppression(boxes, scores, class_index, iou_threshold=0.5, kind="diou")
    assert len(kept) == 300
    assert time.process_time() - started < 0.5  # about 20 ms on one core
