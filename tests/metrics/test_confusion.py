"""The table of classes taken for each other, against one counted by hand and a plain twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scored_sets import NO_DETECTIONS, make_detections, make_truth, random_set

from tilth.data.records import Geometry
from tilth.metrics.confusion import confusion_matrix

# Three classes and two pictures. Picture 0: a cat found, a dog taken for a cat, a bird missed.
# Picture 1: a crowd of birds, a dog found twice.
CAT, DOG, BIRD, NOTHING = range(4)
TRUTH = make_truth(
    [0, 0, 0, 1, 1],
    [CAT, DOG, BIRD, BIRD, DOG],
    [(0, 0, 10, 10), (20, 0, 40, 20), (50, 50, 60, 60), (0, 0, 100, 100), (200, 0, 220, 20)],
    num_media=2,
    num_classes=3,
    crowd=[False, False, False, True, False],
)
FOUND = make_detections(
    [0, 0, 0, 0, 1, 1, 1, 1],
    [CAT, CAT, BIRD, DOG, BIRD, DOG, DOG, CAT],
    [
        (0, 0, 10, 9),  # the cat, IoU 0.9
        (21, 0, 40, 20),  # the dog, IoU 0.95, called a cat
        (56, 50, 66, 60),  # beside the bird, IoU 0.25
        (50, 50, 60, 60),  # the bird, called a dog, too weak to count
        (30, 30, 50, 50),  # one of the crowd
        (200, 0, 220, 20),  # the dog
        (200, 0, 220, 19),  # the dog again
        (300, 300, 310, 310),  # nothing
    ],
    [0.9, 0.8, 0.7, 0.1, 0.6, 0.9, 0.8, 0.5],
)
BY_HAND = [
    # cat, dog, bird, missed
    [1, 0, 0, 0],
    [1, 1, 0, 0],
    [0, 0, 0, 1],
    [1, 1, 1, 0],  # of nothing that is labelled
]


def test_a_hand_counted_example():
    assert confusion_matrix(TRUTH, FOUND).tolist() == BY_HAND


def test_order_of_detections_does_not_matter():
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(FOUND))
        assert confusion_matrix(TRUTH, FOUND.take(order)).tolist() == BY_HAND


def test_thresholds_are_those_that_were_asked_for():
    weak = confusion_matrix(TRUTH, FOUND, score_threshold=0.05)
    assert weak[BIRD].tolist() == [0, 1, 0, 0]  # the bird is called a dog now
    loose = confusion_matrix(TRUTH, FOUND, iou_threshold=0.2)
    assert loose[BIRD].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("seed", range(6))
def test_rows_are_truths_and_columns_detections(seed):
    truth, detections = random_set(seed)
    matrix = confusion_matrix(truth, detections, score_threshold=0.3)
    single = ~truth.annotations.is_crowd
    truths = np.bincount(truth.annotations.category_index[single], minlength=3)
    assert matrix[:3].sum(axis=1).tolist() == truths.tolist()
    strong = detections.score >= 0.3
    found = np.bincount(detections.category_index[strong], minlength=3)
    assert (matrix[:, :3].sum(axis=0) <= found).all()  # what lies in a crowd counts nowhere
    assert matrix[NOTHING, NOTHING] == 0


@pytest.mark.parametrize("seed", range(4))
def test_matches_a_plain_twin(seed):
    truth, detections = random_set(seed, crowd_share=0.0)
    assert confusion_matrix(truth, detections).tolist() == _plain(truth, detections).tolist()


def _plain(truth, detections):
    matrix = np.zeros((4, 4), dtype=int)
    for picture in range(len(truth.media)):
        truths = list(range(*truth.offsets[picture : picture + 2]))
        found = [
            row
            for row in range(len(detections))
            if detections.media_index[row] == picture and detections.score[row] >= 0.25
        ]
        while True:
            best = (0.45, 0.0, -1, -1)
            for t in truths:
                for d in found:
                    box = truth.annotations.boxes_xyxy[t]
                    overlap = _iou(box, detections.boxes_xyxy[d])
                    if (overlap, detections.score[d]) > best[:2] and overlap >= 0.45:
                        best = (overlap, detections.score[d], t, d)
            if best[2] < 0:
                break
            _, _, t, d = best
            matrix[truth.annotations.category_index[t], detections.category_index[d]] += 1
            truths.remove(t)
            found.remove(d)
        for t in truths:
            matrix[truth.annotations.category_index[t], 3] += 1
        for d in found:
            matrix[3, detections.category_index[d]] += 1
    return matrix


def _iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_nothing_found_is_all_missed_and_labels_without_a_box_are_none():
    assert confusion_matrix(TRUTH, NO_DETECTIONS)[:, NOTHING].tolist() == [1, 2, 1, 0]
    annotations = replace(
        TRUTH.annotations, geometry=np.full(len(TRUTH.annotations), Geometry.LABEL, np.uint8)
    )
    assert confusion_matrix(replace(TRUTH, annotations=annotations), NO_DETECTIONS).sum() == 0
