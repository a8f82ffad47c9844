"""Boxes follow the pixels that they were drawn around."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingsError
from tilth.seeding import generator
from tilth.train.jitter import NO_JITTER, JitterSettings, jitter

FILL = 127


def _picture_with_a_square(x0=40, y0=24, x1=72, y1=56, size=96):
    image = np.full((size, size, 3), FILL, dtype=np.uint8)
    image[y0:y1, x0:x1] = (255, 0, 0)
    return image, np.array([[x0, y0, x1, y1]], dtype=np.float64)


def _extent(image):
    """Edges of what is red, to half a pixel."""
    red = image[..., 0].astype(int) - image[..., 1] > 128
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@given(seed=st.integers(0, 10_000))
def test_moved_box_lies_around_the_moved_pixels(seed):
    image, boxes = _picture_with_a_square()
    settings = replace(NO_JITTER, flip_probability=0.5, scale=0.4, translate=0.1)
    changed, moved, kept = jitter(image, boxes, generator(seed), settings, fill=FILL)
    assert kept.all()
    assert np.abs(moved[0] - _extent(changed)).max() <= 1.0


def test_mirror_image_is_exact():
    image, boxes = _picture_with_a_square()
    image[:] = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    settings = replace(NO_JITTER, flip_probability=1.0)
    changed, moved, _ = jitter(image, boxes, generator(0), settings, fill=FILL)
    np.testing.assert_array_equal(changed, image[:, ::-1])
    np.testing.assert_array_equal(moved, [[96 - 72, 24, 96 - 40, 56]])


def test_switched_off_changes_nothing():
    image, boxes = _picture_with_a_square()
    changed, moved, kept = jitter(image, boxes, generator(0), NO_JITTER, fill=FILL)
    np.testing.assert_array_equal(changed, image)
    np.testing.assert_array_equal(moved, boxes)
    assert kept.all()


def test_same_seed_same_picture_and_the_original_is_untouched():
    image, boxes = _picture_with_a_square()
    before = image.copy()
    first = jitter(image, boxes, generator(3), JitterSettings(), fill=FILL)
    second = jitter(image, boxes, generator(3), JitterSettings(), fill=FILL)
    other = jitter(image, boxes, generator(4), JitterSettings(), fill=FILL)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])
    np.testing.assert_array_equal(image, before)


def test_one_option_less_leaves_the_others_as_they_were():
    image, boxes = _picture_with_a_square()
    _, with_colour, _ = jitter(image, boxes, generator(5), JitterSettings(), fill=FILL)
    plain = JitterSettings(brightness=0, saturation=0, hue=0)
    _, without, _ = jitter(image, boxes, generator(5), plain, fill=FILL)
    np.testing.assert_array_equal(with_colour, without)


def test_brightness_scales_grey():
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    settings = replace(NO_JITTER, brightness=0.5)
    levels = set()
    for seed in range(40):
        changed, _, _ = jitter(image, np.zeros((0, 4)), generator(seed), settings, fill=FILL)
        assert changed.std() == 0
        levels.add(int(changed[0, 0, 0]))
    assert min(levels) >= 50
    assert max(levels) <= 150
    assert len(levels) > 20


def test_hue_alone_keeps_grey_grey_and_turns_red():
    grey, (red, boxes) = np.full((8, 8, 3), 90, dtype=np.uint8), _picture_with_a_square()
    settings = replace(NO_JITTER, hue=0.5)
    still, _, _ = jitter(grey, np.zeros((0, 4)), generator(1), settings, fill=FILL)
    turned, _, _ = jitter(red, boxes, generator(1), settings, fill=FILL)
    np.testing.assert_array_equal(still, grey)
    assert not np.array_equal(turned, red)


@given(seed=st.integers(0, 2_000))
def test_kept_boxes_are_inside_and_at_least_a_pixel(seed):
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(0, 64, (20, 2, 2)), axis=1)
    boxes = corners.reshape(20, 4)
    settings = JitterSettings(scale=0.9, translate=0.9, min_visible=0.3)
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    _, moved, kept = jitter(image, boxes, generator(seed), settings, fill=FILL)
    sides = moved[:, 2:] - moved[:, :2]
    assert ((moved >= 0) & (moved <= 64)).all()
    assert (sides[kept] >= 1).all()


def test_box_outside_the_picture_is_dropped():
    boxes = np.array([[-50.0, 0, -10, 30], [60.0, 10, 90, 40], [10, 10, 10.5, 40]])
    settings = replace(NO_JITTER, min_visible=0.2)
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    _, moved, kept = jitter(image, boxes, generator(0), settings, fill=FILL)
    assert kept.tolist() == [False, False, False]  # outside; 4 of 30 columns; thinner than 1 pixel
    settings = replace(NO_JITTER, min_visible=0.1)
    _, moved, kept = jitter(image, boxes, generator(0), settings, fill=FILL)
    assert kept.tolist() == [False, True, False]
    assert moved[1].tolist() == [60, 10, 64, 40]


@pytest.mark.parametrize(
    ("name", "value"), [("scale", 1.0), ("hue", 0.6), ("flip_probability", -0.1), ("translate", 2)]
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=f"'{name}'"):
        JitterSettings(**{name: value})
