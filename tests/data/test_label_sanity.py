"""Labels in another convention are noticed, and good ones raise no alarm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.formats import load_format
from tilth.data.label_sanity import label_warnings
from tilth.data.records import Category, Geometry


def _set(boxes_xyxy, *, classes=None, size=(640, 480), num_classes=2):
    """One picture for every two boxes."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    m = len(boxes)
    n = max(1, -(-m // 2))
    media = MediaColumns(
        id=np.arange(n),
        uri=[f"{row}.jpg" for row in range(n)],
        width=np.full(n, size[0], dtype=np.int32),
        height=np.full(n, size[1], dtype=np.int32),
        split=np.zeros(n, dtype=np.int8),
        parent_id=np.full(n, -1),
    )
    annotations = AnnotationColumns(
        id=np.arange(m),
        media_index=np.arange(m) // 2,
        category_index=np.arange(m) % num_classes if classes is None else np.asarray(classes),
        boxes_xyxy=boxes,
        area=np.ones(m),
        is_crowd=np.zeros(m, dtype=bool),
        score=np.full(m, np.nan, dtype=np.float32),
        source=np.zeros(m, dtype=np.uint8),
        review_state=np.zeros(m, dtype=np.uint8),
        geometry=np.full(m, Geometry.BOX, dtype=np.uint8),
        segmentation=[None] * m,
        attributes=[None] * m,
    )
    names = ["background", "dog", "cat", "bird"][:num_classes]
    categories = tuple(Category(name=name, origin_id=row) for row, name in enumerate(names))
    return Dataset(categories=categories, media=media, annotations=annotations)


def _good(count=200, *, seed=0, size=(640, 480)):
    random = np.random.default_rng(seed)
    sides = random.uniform(20, 200, (count, 2))
    start = random.uniform(0, 1, (count, 2)) * (np.array(size) - sides)
    return np.concatenate([start, start + sides], axis=1)


def _only(dataset):
    (warning,) = label_warnings(dataset)
    return warning


@given(seed=st.integers(0, 500))
def test_good_labels_raise_no_alarm(seed):
    assert label_warnings(_set(_good(seed=seed))) == ()


def test_real_labels_raise_no_alarm(shared_data):
    folder = shared_data / "coco-person"
    if not folder.is_dir():
        pytest.skip("no coco-person")
    dataset, _ = load_format("coco").read(folder / "instances.json", media_root=folder / "images")
    assert label_warnings(dataset) == ()


def test_shares_instead_of_pixels():
    warning = _only(_set(_good() / [640, 480, 640, 480]))
    assert "shares of its width and height" in warning.message
    assert (warning.count, warning.total, warning.first) == (200, 200, "first in 0.jpg")


def test_sizes_taken_for_corners_turn_boxes_inside_out():
    good = _good()
    as_read = np.concatenate([good[:, :2], good[:, 2:] - good[:, :2]], axis=1)
    messages = " ".join(str(warning) for warning in label_warnings(_set(as_read)))
    assert "are the last two numbers widths and heights" in messages


def test_corners_taken_for_sizes_reach_beyond_the_picture():
    good = _good()
    as_read = np.concatenate([good[:, :2], good[:, :2] + good[:, 2:]], axis=1)
    assert "were corners read as sizes?" in _only(_set(as_read)).message


def test_centres_taken_for_corners():
    random = np.random.default_rng(0)
    sides = random.uniform(60, 300, (300, 2))
    centres = sides / 2 + random.uniform(0, 1, (300, 2)) * (np.array([640, 480]) - sides)
    as_read = np.concatenate([centres, centres + sides], axis=1)
    assert "were centres read as corners?" in _only(_set(as_read)).message


def test_boxes_outside_their_picture_are_counted():
    boxes = _good()
    boxes[10:20] -= 1000
    warning = _only(_set(boxes))
    assert "beyond their picture; they are cut" in warning.message
    assert (warning.count, warning.first) == (10, "first in 5.jpg")


def test_a_box_on_the_border_is_no_box_beyond_it():
    boxes = _good()
    boxes[:, 2:] = [640.9, 480.9]
    assert label_warnings(_set(boxes)) == ()


def test_sizes_that_nobody_knows_are_not_judged():
    assert label_warnings(_set(_good() * 50, size=(0, 0))) == ()


def test_tiny_boxes():
    boxes = _good()
    boxes[:, 2:] = boxes[:, :2] + 1.2
    assert "less than two pixels" in _only(_set(boxes)).message


def test_boxes_of_the_whole_picture():
    warning = _only(_set(np.tile([0.0, 0, 640, 480], (50, 1))))
    assert "cover the whole picture" in warning.message


def test_the_same_box_everywhere():
    boxes = _good()
    boxes[::3] = [100, 100, 200, 200]
    warning = _only(_set(boxes))
    assert "exactly the same" in warning.message
    assert warning.count == 67


def test_boxes_without_an_inside_and_without_a_number():
    boxes = _good()
    boxes[7, 2] = boxes[7, 0]
    assert _only(_set(boxes)).message == "boxes have no inside; they are left out"
    boxes[8, 1] = np.nan
    assert "not finite" in _only(_set(boxes)).message


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([1, 2, 3], "count classes from 1"),
        ([0, 1, 2], "the last class has no box"),
        ([0, 3], "cannot learn them"),
    ],
)
def test_classes_that_nothing_is_of(classes, said):
    numbers = np.resize(classes, 200)
    assert said in _only(_set(_good(), classes=numbers, num_classes=4)).message


def test_one_class_alone_and_no_box_at_all_are_fine():
    assert label_warnings(_set(_good(), classes=np.zeros(200, int), num_classes=1)) == ()
    assert label_warnings(_set(np.zeros((0, 4)))) == ()


def test_labels_of_whole_pictures_are_not_judged_as_boxes():
    dataset = _set(np.zeros((50, 4)))
    labels = replace(dataset.annotations, geometry=np.full(50, Geometry.LABEL, dtype=np.uint8))
    assert label_warnings(replace(dataset, annotations=labels)) == ()


def test_a_warning_reads_as_one_line():
    text = str(_only(_set(_good() / 1000)))
    assert text.endswith("(200 of 200; first in 0.jpg)")
    assert "\n" not in text
