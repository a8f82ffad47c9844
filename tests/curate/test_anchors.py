"""Planted sizes of boxes are found, and the numbers are those of the boxes themselves."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from curate_sets import dataset_of
from hypothesis import given
from hypothesis import strategies as st

from tilth.curate.anchors import box_sizes, fit_anchors, measure_anchors, size_iou
from tilth.data.formats import load_format
from tilth.errors import DataError, EmptyDatasetError

PERSONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco-person"
# Of yolov4.cfg, pixels at 608.
COCO_ANCHORS = np.array(
    [
        *[(12, 16), (19, 36), (40, 28), (36, 75), (76, 55)],
        *[(72, 146), (142, 110), (192, 243), (459, 401)],
    ],
    dtype=float,
)


def with_boxes(boxes, *, sizes=((96, 72),), pictures=None):
    """Pictures of these sizes with these boxes, all in the first one unless told otherwise."""
    boxes = np.asarray(boxes, dtype=float)
    counts = np.bincount(
        np.zeros(len(boxes), int) if pictures is None else pictures, minlength=len(sizes)
    )
    dataset = dataset_of(counts.tolist())
    media = replace(
        dataset.media,
        width=np.array([width for width, _ in sizes], np.int32),
        height=np.array([height for _, height in sizes], np.int32),
    )
    return replace(dataset, media=media, annotations=replace(dataset.annotations, boxes_xyxy=boxes))


sides = st.floats(0.5, 300.0)


@given(first=st.tuples(sides, sides), second=st.tuples(sides, sides))
def test_size_iou_is_the_iou_of_boxes_with_one_corner(first, second):
    wide, high = min(first[0], second[0]), min(first[1], second[1])
    union = first[0] * first[1] + second[0] * second[1] - wide * high
    found = size_iou(np.array([first]), np.array([second]))
    assert found[0, 0] == pytest.approx(wide * high / union)
    assert size_iou(np.array([first]), np.array([first]))[0, 0] == pytest.approx(1.0)


def test_boxes_are_measured_at_the_size_of_the_network():
    dataset = with_boxes(
        [[0, 0, 20, 10], [0, 0, 20, 10]], sizes=((100, 50), (40, 80)), pictures=[0, 1]
    )
    letterboxed = box_sizes(dataset, size=200)
    stretched = box_sizes(dataset, size=200, resize="stretch")
    assert letterboxed.tolist() == [[40, 20], [50, 25]]
    assert stretched.tolist() == [[40, 40], [100, 25]]


def test_crowds_and_boxes_without_area_are_left_out():
    dataset = with_boxes([[0, 0, 20, 10], [0, 0, 30, 30], [5, 5, 5, 9]])
    crowds = np.array([False, True, False])
    dataset = replace(dataset, annotations=replace(dataset.annotations, is_crowd=crowds))
    assert box_sizes(dataset, size=96).tolist() == [[20, 10]]


def test_a_picture_of_unknown_size_is_named():
    dataset = with_boxes([[0, 0, 20, 10]], sizes=((0, 0),))
    with pytest.raises(DataError, match="size of their picture") as caught:
        box_sizes(dataset, size=96)
    assert caught.value.where == "pictures/000.jpg"
    assert caught.value.fix.startswith("tilth metrics")


@pytest.mark.parametrize("count", [600, 60_000])
def test_planted_sizes_are_found(count):
    planted = np.array([[8.0, 20.0], [30.0, 30.0], [60.0, 150.0], [200.0, 90.0]])
    rng = np.random.default_rng(0)
    sizes = planted[rng.integers(0, 4, count)] * np.exp(rng.normal(0, 0.08, (count, 2)))
    found = fit_anchors(sizes, 4, seed=1, restarts=4)
    np.testing.assert_allclose(found.anchors, planted, rtol=0.03)
    assert found.counts.sum() == count
    assert found.best_possible_recall == 1.0
    assert found.mean_best_iou > 0.87
    assert found.mean_best_iou == pytest.approx(np.average(found.mean_iou, weights=found.counts))


def test_the_numbers_are_those_of_a_plain_loop():
    rng = np.random.default_rng(3)
    sizes, anchors = np.exp(rng.uniform(0, 6, (50, 2))), np.exp(rng.uniform(1, 5, (4, 2)))
    found = measure_anchors(sizes, anchors)
    ordered = sorted(anchors.tolist(), key=lambda anchor: anchor[0] * anchor[1])
    assert found.anchors.tolist() == ordered
    best_iou, within, counts = [], 0, [0] * 4
    for wide, high in sizes:
        each = []
        for a, b in ordered:
            shared = min(wide, a) * min(high, b)
            each.append(shared / (wide * high + a * b - shared))
        best_iou.append(max(each))
        counts[each.index(max(each))] += 1
        within += any(max(wide / a, a / wide, high / b, b / high) < 4 for a, b in ordered)
    assert found.mean_best_iou == pytest.approx(np.mean(best_iou))
    assert found.best_possible_recall == within / 50
    assert found.counts.tolist() == counts


def test_more_anchors_fit_better_and_a_seed_repeats():
    sizes = np.exp(np.random.default_rng(0).uniform(1, 5, (500, 2)))
    fits = [fit_anchors(sizes, k, seed=2, restarts=3) for k in (1, 3, 9)]
    means = [fit.mean_best_iou for fit in fits]
    assert means == sorted(means)
    again = fit_anchors(sizes, 9, seed=2, restarts=3)
    np.testing.assert_array_equal(again.anchors, fits[-1].anchors)


def test_a_million_boxes_take_seconds():
    sizes = np.exp(np.random.default_rng(0).normal(3.5, 1.0, (1_000_000, 2))).clip(1, 416)
    started = time.process_time()
    found = fit_anchors(sizes, 9, restarts=1)
    assert time.process_time() - started < 10  # about 2 s on one core
    assert found.counts.sum() == 1_000_000


def test_too_few_boxes_are_refused():
    with pytest.raises(EmptyDatasetError, match="no box"):
        fit_anchors(np.zeros((0, 2)), 3)
    with pytest.raises(DataError, match="fewer sizes") as caught:
        fit_anchors(np.full((9, 2), 4.0), 3)
    assert caught.value.got == "1"


@pytest.mark.skipif(not PERSONS.is_dir(), reason="the person set is not here")
def test_the_person_set_is_fitted_as_well_as_the_reference():
    dataset, _ = load_format("coco").read(PERSONS / "instances.json", media_root=PERSONS / "images")
    sizes = box_sizes(dataset, size=416)
    assert len(sizes) == 9184
    published = measure_anchors(sizes, COCO_ANCHORS * 416 / 608)
    fitted = fit_anchors(sizes, 9, restarts=5)
    assert fitted.mean_best_iou >= 0.64
    assert published.mean_best_iou < fitted.mean_best_iou - 0.04
