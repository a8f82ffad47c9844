"""Detections are matched as COCO matches them, and pictures become small."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from drawn_sets import detected, labelled
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tilth.recipes.example_pictures import example_picture
from tilth.recipes.experiment import ExamplePicture
from tilth.recipes.report.picture_overlays import sorted_by_change, tally

GREY = np.full((60, 100, 3), 128, np.uint8)


def picture(truth, predictions, *, name: str = "p", image=GREY) -> ExamplePicture:
    """One arm, all boxes of class 0."""
    boxes, scores = predictions
    arms = {"arm": detected(boxes, scores, [0] * len(scores))}
    return example_picture(name, image, labelled([truth], [[0] * len(truth)]), arms)


def test_each_label_is_claimed_once_by_the_surest_detection() -> None:
    box = [10.0, 10.0, 30.0, 30.0]
    found = picture([box], ([box, [11.0, 10, 30, 30], [60.0, 10, 90, 40]], [0.6, 0.9, 0.5]))
    states = [(p.score, p.state) for p in found.predictions["arm"]]
    assert states == [(0.9, "true positive"), (0.6, "false positive"), (0.5, "false positive")]
    assert found.missed["arm"] == []


def test_another_class_does_not_match() -> None:
    box = [[10.0, 10.0, 30.0, 30.0]]
    found = example_picture("p", GREY, labelled([box], [[0]]), {"arm": detected(box, [0.9], [1])})
    assert found.predictions["arm"][0].state == "false positive"
    assert found.missed["arm"] == [0]


def test_iou_of_one_half_is_the_limit() -> None:
    truth = [[0.0, 0.0, 10.0, 10.0]]
    at, below = ([[0.0, 0.0, 10.0, 20.0]], [0.9]), ([[0.0, 0.0, 10.0, 20.1]], [0.9])
    assert tally(picture(truth, at), "arm") == (1, 0, 0)
    assert tally(picture(truth, below), "arm") == (0, 1, 1)


def test_a_detection_in_a_crowd_is_neither_right_nor_false() -> None:
    truth = labelled([[[0.0, 0.0, 40.0, 40.0], [50.0, 0.0, 60.0, 10.0]]], [[0, 0]])
    truth = replace(truth, annotations=replace(truth.annotations, is_crowd=np.array([True, False])))
    inside = detected([[0.0, 0.0, 20.0, 20.0]], [0.9], [0])
    found = example_picture("p", GREY, truth, {"arm": inside})
    assert found.predictions["arm"] == []
    assert found.missed["arm"] == [1]


def test_unsure_detections_are_left_out() -> None:
    box = [[10.0, 10.0, 30.0, 30.0]]
    assert picture(box, (box, [0.1])).predictions["arm"] == []


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2**16))
def test_found_and_missed_add_up_to_the_labels(labels: int, guesses: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 20, (labels + guesses, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0, 15, corner.shape)], axis=1)
    found, false, missed = tally(picture(boxes[:labels], (boxes[labels:], [0.5] * guesses)), "arm")
    assert found + missed == labels
    assert found + false == guesses


def test_pictures_are_small_and_boxes_keep_the_full_space() -> None:
    large = np.zeros((900, 1200, 3), np.uint8)
    made = picture([[0.0, 0.0, 1200.0, 900.0]], ([], []), image=large)
    assert (made.width, made.height) == (1200, 900)
    assert Image.open(io.BytesIO(made.jpeg)).size == (480, 360)
    assert made.truth[0].box_xyxy == [0.0, 0.0, 1200.0, 900.0]


def test_the_biggest_change_comes_first() -> None:
    from tilth.recipes.experiment import Arm

    box = [[10.0, 10.0, 30.0, 30.0]]
    nothing, right = detected([], [], []), detected(box, [0.9], [0])
    arms = [Arm(name="first", label="First"), Arm(name="last", label="Last")]

    def made(name: str, first, last) -> ExamplePicture:
        return example_picture(name, GREY, labelled([box], [[0]]), {"first": first, "last": last})

    same, gain, loss = made("a", right, right), made("b", nothing, right), made("c", right, nothing)
    names = [p.name for p in sorted_by_change([same, loss, gain], arms)]
    assert names == ["b", "c", "a"]
