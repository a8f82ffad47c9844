"""Augmentation: pixels and boxes move together, and the seed decides everything."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.config import load_settings
from tilth.curate.augment import (
    Augmentation,
    AugmentParameters,
    augment,
    draw_parameters,
    warp_boxes,
    warp_image,
)
from tilth.errors import SettingsError

STILL = Augmentation(
    scale=(1, 1), translate=(0, 0), flip_probability=0, brightness=(1, 1), min_size_px=0
)
KEEP_ALL = Augmentation(min_visible=0.0, min_size_px=0.0)


def noise(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_settings_that_move_nothing_give_the_picture_back() -> None:
    image, boxes = noise(), np.array([[3.5, 2.25, 40, 50]])
    new = augment(image, boxes, 5, STILL)
    np.testing.assert_array_equal(new.image_rgb, image)
    np.testing.assert_array_equal(new.boxes_xyxy, boxes)
    assert new.kept_rows.tolist() == [0]


def test_a_mirror_is_exact_and_twice_is_nothing() -> None:
    image = noise()
    mirror = AugmentParameters(flip=True)
    np.testing.assert_array_equal(warp_image(image, mirror), image[:, ::-1])
    np.testing.assert_array_equal(warp_image(warp_image(image, mirror), mirror), image)
    boxes, _ = warp_boxes(np.array([[10, 20, 30, 40.0]]), 90, 60, mirror, KEEP_ALL)
    assert boxes.tolist() == [[60, 20, 80, 40]]


def test_shift_by_whole_pixels_is_exact_and_fills_with_the_mean() -> None:
    image = noise()
    moved = warp_image(image, AugmentParameters(shift_x=9 / 90, shift_y=-6 / 60))
    np.testing.assert_array_equal(moved[:-6, 9:], image[6:, :-9])
    expected = np.round(image.reshape(-1, 3).mean(axis=0))
    assert (np.abs(moved[-6:, :] - expected) <= 1).all()


def found_extent(image_rgb: np.ndarray) -> np.ndarray:
    """Pixel-edge corners of what is brighter than half way between background and object."""
    rows, columns = np.nonzero(image_rgb[:, :, 0] > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=float)


@pytest.mark.parametrize("seed", range(25))
def test_a_drawn_rectangle_is_found_where_its_box_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = 400, 300
    x0, y0 = rng.integers(60, 200), rng.integers(50, 140)
    box = np.array([x0, y0, x0 + rng.integers(40, 120), y0 + rng.integers(40, 100)], dtype=float)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 255
    settings = Augmentation(scale=(0.5, 1.4), aspect=(0.8, 1.2), brightness=(1.0, 1.0))
    new = augment(image, box[None], seed, settings)
    if len(new.kept_rows):
        np.testing.assert_allclose(new.boxes_xyxy[0], found_extent(new.image_rgb), atol=1.0)
    else:
        assert (new.image_rgb > 127).mean() < 0.02


@pytest.mark.parametrize("degrees", [-15.0, 4.0, 30.0, 90.0])
def test_the_hull_of_a_rotated_rectangle_is_its_extent(degrees: float) -> None:
    box = np.array([[150.0, 100, 250, 180]])
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    image[100:180, 150:250] = 255
    turn = AugmentParameters(rotation_degrees=degrees)
    boxes, _ = warp_boxes(box, 400, 300, turn, KEEP_ALL)
    np.testing.assert_allclose(boxes[0], found_extent(warp_image(image, turn)), atol=1.5)


parameters = st.builds(
    AugmentParameters,
    flip=st.booleans(),
    scale_x=st.floats(0.3, 3),
    scale_y=st.floats(0.3, 3),
    rotation_degrees=st.floats(-180, 180),
    shift_x=st.floats(-0.5, 0.5),
    shift_y=st.floats(-0.5, 0.5),
)


@given(parameters, st.integers(1, 999), st.integers(1, 999))
def test_the_affine_has_an_exact_inverse(drawn: AugmentParameters, width: int, height: int) -> None:
    matrix = np.vstack([drawn.affine(width, height), [0, 0, 1]])
    points = np.array([[0, 0, 1], [width, 0, 1], [width / 3, height / 2, 1]]).T
    np.testing.assert_allclose(np.linalg.solve(matrix, matrix @ points), points, atol=1e-7)


def test_boxes_come_back_through_the_opposite_parameters() -> None:
    boxes = np.array([[30.0, 20, 50, 40], [41, 33, 47, 38]])
    there = AugmentParameters(scale_x=0.5, scale_y=0.8, shift_x=0.05, shift_y=-0.1)
    back = AugmentParameters(scale_x=2.0, scale_y=1.25, shift_x=-0.05 / 0.5, shift_y=0.1 / 0.8)
    moved, _ = warp_boxes(boxes, 90, 60, there, KEEP_ALL)
    returned, _ = warp_boxes(moved, 90, 60, back, KEEP_ALL)
    np.testing.assert_allclose(returned, boxes, atol=1e-9)


@given(st.integers(0, 2**62))
def test_equal_seeds_give_equal_pictures_and_parameters_replay(seed: int) -> None:
    settings = Augmentation(
        contrast=(0.7, 1.3), saturation=(0.5, 1.5), hue_degrees=20, rotation_degrees=5
    )
    image, boxes = noise(30, 40), np.array([[5.0, 5, 20, 20]])
    first, second = augment(image, boxes, seed, settings), augment(image, boxes, seed, settings)
    np.testing.assert_array_equal(first.image_rgb, second.image_rgb)
    np.testing.assert_array_equal(first.boxes_xyxy, second.boxes_xyxy)
    replayed = AugmentParameters(**first.parameters.to_dict())
    np.testing.assert_array_equal(warp_image(image, replayed), first.image_rgb)


def test_changing_one_range_leaves_the_other_draws_alone() -> None:
    plain = draw_parameters(11, Augmentation())
    wider = draw_parameters(11, Augmentation(brightness=(0.2, 0.9)))
    assert dataclasses.replace(wider, brightness=plain.brightness) == plain
    assert wider.brightness != plain.brightness


@given(st.integers(0, 2**62))
def test_draws_stay_in_their_ranges(seed: int) -> None:
    settings = Augmentation(aspect=(0.9, 1.1), rotation_degrees=7, hue_degrees=9)
    drawn = draw_parameters(seed, settings)
    assert 0.5 <= drawn.scale_y <= 0.8
    assert 0.9 <= drawn.scale_x / drawn.scale_y <= 1.1 + 1e-12
    assert abs(drawn.shift_x) <= 0.125
    assert abs(drawn.shift_y) <= 0.125
    assert 1.1 <= drawn.brightness <= 1.5
    assert abs(drawn.rotation_degrees) <= 7
    assert abs(drawn.hue_degrees) <= 9


def test_shifts_and_mirrors_go_both_ways() -> None:
    drawn = [draw_parameters(seed, Augmentation()) for seed in range(200)]
    assert 60 < sum(one.flip for one in drawn) < 140
    assert 60 < sum(one.shift_x > 0 for one in drawn) < 140
    assert np.corrcoef([one.shift_x for one in drawn], [one.shift_y for one in drawn])[0, 1] < 0.3


def test_too_little_visible_too_small_or_without_area_is_dropped() -> None:
    boxes = np.array(
        [
            [60.0, 10, 90, 40],  # 0: 12 of 30 columns stay -> 40 %
            [70.0, 10, 90, 40],  # 1: 2 of 20 -> 10 %
            [10.0, 10, 13, 40],  # 2: 3 pixels wide
            [10.0, 10, 10, 40],  # 3: no area
            [89.0, 10, 90, 40],  # 4: leaves entirely
        ]
    )
    shift = AugmentParameters(shift_x=18 / 90)
    settings = Augmentation(min_visible=0.3, min_size_px=4)
    kept, rows = warp_boxes(boxes, 90, 60, shift, settings)
    assert rows.tolist() == [0]
    assert kept.tolist() == [[78, 10, 90, 40]]
    lenient = dataclasses.replace(settings, min_visible=0.1, min_size_px=2)
    assert warp_boxes(boxes, 90, 60, shift, lenient)[1].tolist() == [0, 1, 2]


@given(
    parameters,
    st.lists(st.tuples(*[st.floats(-50, 150)] * 4), min_size=1, max_size=5),
    st.floats(0, 1),
)
def test_kept_boxes_lie_inside_and_keep_what_was_asked(
    drawn: AugmentParameters, corners: list[tuple[float, ...]], min_visible: float
) -> None:
    raw = np.array(corners).reshape(-1, 2, 2)
    boxes = np.concatenate([raw.min(axis=1), raw.max(axis=1)], axis=1)
    settings = Augmentation(min_visible=min_visible, min_size_px=2.0)
    kept, rows = warp_boxes(boxes, 100, 80, drawn, settings)
    assert (np.diff(rows) > 0).all()
    assert (kept >= 0).all()
    assert (kept <= [100, 80, 100, 80]).all()
    assert (kept[:, 2:] - kept[:, :2] >= 2.0).all()


def test_brightness_multiplies_levels_and_saturates() -> None:
    image = np.array([[[10, 100, 250]]], dtype=np.uint8)
    assert warp_image(image, AugmentParameters(brightness=1.5)).tolist() == [[[15, 150, 255]]]


def test_contrast_turns_about_middle_grey() -> None:
    image = np.array([[[127, 27, 227]]], dtype=np.uint8)
    half = warp_image(image, AugmentParameters(contrast=0.5))
    np.testing.assert_allclose(half[0, 0], [127.25, 77.25, 177.25], atol=1)


def test_no_saturation_leaves_the_luma() -> None:
    grey = warp_image(noise(), AugmentParameters(saturation=0.0)).astype(int)
    luma = noise() @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey, np.repeat(luma[:, :, None], 3, axis=2), atol=1.0)


def test_hue_keeps_luma_and_a_full_turn_is_nothing() -> None:
    turned = AugmentParameters(hue_degrees=77.0).colour_matrix()[:, :3]
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(luma @ turned, luma, atol=1e-9)
    np.testing.assert_allclose(turned @ np.ones(3), np.ones(3), atol=1e-5)
    full = AugmentParameters(hue_degrees=360.0).colour_matrix()
    np.testing.assert_allclose(full[:, :3], np.eye(3), atol=1e-12)


def test_defaults_are_the_sources() -> None:
    settings = Augmentation()
    assert settings.scale == (0.5, 0.8)
    assert settings.brightness == (1.1, 1.5)
    assert settings.translate[1] * 480 == 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0.8, 0.5)},
        {"scale": (0.0, 1.0)},
        {"brightness": (-0.1, 1.0)},
        {"contrast": (float("nan"), 1.0)},
        {"flip_probability": 1.5},
        {"min_visible": -0.1},
        {"rotation_degrees": 200.0},
    ],
)
def test_refuses_settings_that_mean_nothing(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Augmentation(**wrong)  # type: ignore[arg-type]


def test_settings_load_from_toml_values_and_overrides() -> None:
    settings = load_settings(
        Augmentation, values={"scale": [0.6, 1.2]}, overrides=["min_visible=0.5"]
    )
    assert settings == Augmentation(scale=(0.6, 1.2), min_visible=0.5)
    with pytest.raises(SettingsError, match="scale"):
        load_settings(Augmentation, values={"scale": [2.0, 1.0]})
