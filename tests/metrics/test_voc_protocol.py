"""The modes of Pascal VOC give what its development kit's rule, written as loops, gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored_sets import NO_DETECTIONS, make_detections, make_truth, random_set

from tilth.errors import SettingsError
from tilth.metrics.average_precision import average_precision
from tilth.metrics.matching import match


def plain_overlap(first, second, *, over_first_alone=False):
    wide = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    high = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return wide * high / (areas[0] if over_first_alone else sum(areas) - wide * high)


def plain_curve(truth, detections, category, threshold, difficult):
    """Recall and precision behind every detection of a class, by VOCevaldet's steps."""
    known = truth.annotations
    own = [row for row in range(len(known)) if known.category_index[row] == category]
    counted = [row for row in own if not known.is_crowd[row] and row not in difficult]
    rows = [row for row in range(len(detections)) if detections.category_index[row] == category]
    rows.sort(key=lambda row: (-detections.score[row], detections.media_index[row], row))
    found, right, wrong, recall, precision = set(), 0, 0, [], []
    for row in rows:
        box, picture = detections.boxes_xyxy[row], detections.media_index[row]
        here = [other for other in own if known.media_index[other] == picture]
        best, best_overlap = None, 0.0
        for other in here:
            overlap = plain_overlap(box, known.boxes_xyxy[other])
            if not known.is_crowd[other] and overlap > best_overlap:
                best, best_overlap = other, overlap
        if best_overlap >= threshold:
            if best in difficult:
                continue
            right += best not in found
            wrong += best in found
            found.add(best)
        elif any(
            known.is_crowd[other]
            and plain_overlap(box, known.boxes_xyxy[other], over_first_alone=True) >= threshold
            for other in here
        ):
            continue
        else:
            wrong += 1
        recall.append(right / max(1, len(counted)))
        precision.append(right / (right + wrong))
    return recall, precision, len(counted)


def eleven_points(recall, precision):
    total = 0.0
    for wanted in np.linspace(0, 1, 11):
        reached = [p for r, p in zip(recall, precision, strict=True) if r >= wanted]
        total += max(reached, default=0.0) / 11
    return total


def whole_area(recall, precision):
    recall, precision = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    return sum(
        (recall[place] - recall[place - 1]) * precision[place] for place in range(1, len(recall))
    )


def with_difficult(truth, rows):
    marks = [
        b'{"difficult": true}' if row in rows else None for row in range(len(truth.annotations))
    ]
    return replace(truth, annotations=replace(truth.annotations, attributes=marks))


@given(
    seed=st.integers(0, 10_000),
    truths=st.sampled_from([1, 5, 60]),
    crowd_share=st.sampled_from([0.0, 0.2]),
    num_media=st.sampled_from([2, 12]),
)
def test_voc_modes_match_a_plain_twin(seed, truths, crowd_share, num_media):
    truth, detections = random_set(
        seed, truths=truths, num_classes=2, crowd_share=crowd_share, num_media=num_media
    )
    difficult = set(range(0, truths, 7)) if seed % 2 else set()
    truth = with_difficult(truth, difficult)
    for mode, summed in (("voc07", eleven_points), ("area", whole_area)):
        ours = average_precision(truth, detections, mode=mode)
        assert ours.mode == mode
        for category in range(2):
            *curve, count = plain_curve(truth, detections, category, 0.5, difficult)
            found = ours.per_class_ap50[f"class {category}"]
            assert found == (pytest.approx(summed(*curve), abs=1e-12) if count else None)
        values = [value for value in ours.per_class_ap50.values() if value is not None]
        assert ours.ap50 == (pytest.approx(np.mean(values)) if values else None)


@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_ap75_is_the_same_rule_at_its_threshold(threshold):
    truth, detections = random_set(4, num_classes=1)
    *curve, _ = plain_curve(truth, detections, 0, threshold, set())
    ours = average_precision(truth, detections, mode="area")
    assert {0.5: ours.ap50, 0.75: ours.ap75}[threshold] == pytest.approx(whole_area(*curve))


def test_a_second_choice_is_wrong_in_voc():
    # Both detections overlap the first truth most; COCO's rule gives the second one the other.
    boxes = [[0, 0, 100, 100], [0, 0, 100, 70]]
    truth = make_truth([0, 0], [0, 0], boxes, num_media=1, num_classes=1)
    detections = make_detections([0, 0], [0, 0], [[0, 0, 100, 98], [0, 0, 100, 95]], [0.9, 0.8])
    assert average_precision(truth, detections).ap50 == pytest.approx(1.0)
    ours = average_precision(truth, detections, mode="area")
    assert ours.ap50 == pytest.approx(0.5)
    by_rule = match(truth, detections, mode="area")
    assert by_rule.annotation_row.tolist() == [0, -1]
    assert by_rule.is_missed.tolist() == [False, True]


def test_a_difficult_object_is_neither_found_nor_missed():
    boxes = [[0, 0, 50, 50], [100, 0, 150, 50]]
    truth = with_difficult(make_truth([0, 0], [0, 0], boxes, num_media=1, num_classes=1), {0})
    detections = make_detections([0] * 3, [0] * 3, [boxes[0], boxes[0], boxes[1]], [0.9, 0.8, 0.7])
    for mode in ("voc07", "area"):
        assert average_precision(truth, detections, mode=mode).ap50 == pytest.approx(1.0)
    states = match(truth, detections, mode="area")
    assert states.is_true_positive.tolist() == [False, False, True]
    assert not states.is_false_positive.any()
    assert not states.is_missed.any()
    # COCO's protocol knows crowds alone.
    assert average_precision(truth, detections).ap50 < 1


def test_the_eleven_points_flatter_a_detector_that_misses_little():
    # Nine of ten found without an error: ten of the eleven points, and nine tenths of the area.
    boxes = [[60 * row, 0, 60 * row + 50, 50] for row in range(10)]
    truth = make_truth([0] * 10, [0] * 10, boxes, num_media=1, num_classes=1)
    detections = make_detections([0] * 9, [0] * 9, boxes[:9], np.linspace(0.9, 0.1, 9))
    by_mode = {m: average_precision(truth, detections, mode=m).ap50 for m in ("voc07", "area")}
    assert by_mode == {"voc07": pytest.approx(10 / 11), "area": pytest.approx(0.9)}


def test_voc_looks_at_all_detections_of_a_picture():
    truth = make_truth([0], [0], [[0, 0, 40, 40]], num_media=1, num_classes=1)
    boxes = [[100 + row, 100, 110 + row, 110] for row in range(150)] + [[0, 0, 40, 40]]
    detections = make_detections([0] * 151, [0] * 151, boxes, np.linspace(0.9, 0.1, 151))
    assert average_precision(truth, detections).ap50 == 0.0
    assert average_precision(truth, detections, mode="area").ap50 == pytest.approx(1 / 151)


def test_nothing_found_is_zero_and_nothing_to_find_is_no_number():
    truth, _ = random_set(0)
    assert average_precision(truth, NO_DETECTIONS, mode="area").ap50 == 0.0
    empty = make_truth([], [], [], num_media=3, num_classes=2)
    assert average_precision(empty, NO_DETECTIONS, mode="voc07", bootstrap=3).ap50 is None


def test_an_unknown_mode_is_refused():
    truth, detections = random_set(0)
    with pytest.raises(SettingsError, match="way to score") as caught:
        average_precision(truth, detections, mode="voc12")
    assert caught.value.expected == "coco, voc07, area"
