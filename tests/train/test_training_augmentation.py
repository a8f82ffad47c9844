"""Boxes follow the pixels that they were drawn around, whatever a sample goes through."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_pictures import labelled, smooth_pictures
from PIL import Image
from single_pictures import single_picture

from tilth.data.images import read_image
from tilth.data.records import Geometry
from tilth.train.augment import draw_sample_pixels
from tilth.train.augment_geometry import picture_matrix, tiles_of
from tilth.train.augment_parameters import PictureParameters, SampleParameters
from tilth.train.augment_pixels import colour_table, recoloured, roughened, show_through
from tilth.train.augment_settings import LIGHT, NO_AUGMENT, AugmentSettings
from tilth.train.loading import DetectionBatches

SIZES = [(97, 64), (64, 97), (80, 80), (120, 50), (33, 90)]
BENT = AugmentSettings(
    vertical_flip_probability=0.3,
    jitter=0.2,
    rotation_degrees=25.0,
    shear_degrees=10.0,
    perspective=0.2,
    hue=0.0,
    saturation_factor=1.0,
    exposure_factor=1.0,
    close_mosaic=0.0,
)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    return smooth_pictures(tmp_path_factory.mktemp("smooth"), SIZES)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Black pictures with one white square each, and its box."""
    folder = tmp_path_factory.mktemp("squares")
    paths, boxes = [], []
    for row, (width, height) in enumerate(SIZES):
        image = np.zeros((height, width, 3), dtype=np.uint8)
        x0, y0, x1, y1 = width // 4, height // 3, width // 4 + 14, height // 3 + 17
        image[y0:y1, x0:x1] = 255
        paths.append(folder / f"{row}.png")
        Image.fromarray(image).save(paths[-1])
        boxes.append((row, 0, (x0, y0, x1, y1), False, Geometry.BOX))
    return paths, labelled(SIZES, boxes)


def _batches(pictures, settings, *, size=96, **options):
    paths, dataset = pictures
    return DetectionBatches(
        paths, dataset, size=size, batch_size=5, seed=0, settings=settings, **options
    )


def _sample(batches, parameters):
    pixels = np.empty((parameters.size, parameters.size, 3), dtype=np.uint8)
    return pixels, draw_sample_pixels(pixels, parameters, batches, batches.settings)


def _plain_sample(paths, parameters, settings):
    """Float [s, s, 3]: pixel by pixel, from the stored pictures, without any colour change."""
    size = parameters.size
    tiles = tiles_of(parameters.cut, size)
    sample = np.zeros((size, size, 3))
    for corner, (one, tile) in enumerate(zip(parameters.pictures, tiles, strict=True)):
        image = read_image(paths[one.row]).astype(np.float64)
        height, width = image.shape[:2]
        matrix = picture_matrix(
            one, (width, height), size, "letterbox", corner=corner if len(tiles) > 1 else None
        )
        back = np.linalg.inv(matrix)
        for y in range(tile[1], tile[3]):
            for x in range(tile[0], tile[2]):
                u, v, w = back @ (x + 0.5, y + 0.5, 1)
                sample[y, x] = _bilinear(image, u / w - 0.5, v / w - 0.5)
    return sample


def _bilinear(image, x, y, fill=127.0):
    height, width = image.shape[:2]
    left, top = int(np.floor(x)), int(np.floor(y))
    total = np.zeros(3)
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - abs(x - column)) * (1 - abs(y - row))
        inside = 0 <= row < height and 0 <= column < width
        total += weight * (image[row, column] if inside else fill)
    return total


@pytest.mark.parametrize("position", range(6))
@pytest.mark.parametrize("settings", [BENT, replace(BENT, mosaic=1.0)], ids=["single", "mosaic"])
def test_pixels_match_a_plain_warp_of_the_stored_picture(smooth, settings, position):
    # At this size pictures are kept larger than they are stored: nothing is lost before the warp.
    batches = _batches(smooth, replace(settings, fill="grey"), size=128)
    pixels, _ = _sample(batches, batches.parameters_of(position))
    plain = _plain_sample(smooth[0], batches.parameters_of(position), batches.settings)
    difference = np.abs(pixels - plain).max(axis=2)
    # Two interpolations instead of one, and half a pixel more or less at the pictures' edges.
    assert np.median(difference) <= 2
    assert np.mean(difference > 12) < 0.05


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("settings", [LIGHT, NO_AUGMENT])
def test_light_samples_are_those_of_runs_made_before(smooth, settings, size):
    paths, dataset = smooth
    batches = _batches(smooth, settings, size=size)
    for step in range(6):
        batch = batches.batch(step)
        images = (batch["images"] * 255).round().byte().permute(0, 2, 3, 1).numpy()
        for place, row in enumerate(batch["media_index"].tolist()):
            expected, boxes, kept = single_picture(
                paths[row],
                dataset.annotations.boxes_xyxy[dataset.rows_of(row)],
                size=size,
                seed=0,
                position=5 * step + place,
                settings=settings,
            )
            np.testing.assert_array_equal(images[place], expected)
            own = batch["boxes_xyxy"][batch["image_index"] == place].numpy()
            np.testing.assert_array_equal(own, boxes[kept].astype(np.float32))


def _white(pixels):
    rows, columns = np.nonzero(pixels.min(axis=2) > 135)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@given(position=st.integers(0, 3_000))
def test_upright_boxes_lie_around_the_moved_pixels(squares, position):
    settings = replace(LIGHT, vertical_flip_probability=0.5, scale=0.4, jitter=0.2)
    settings = replace(settings, brightness=0, saturation=0, hue=0)
    batches = _batches(squares, settings)
    pixels, targets = _sample(batches, batches.parameters_of(position))
    for box in targets.boxes_xyxy:
        assert np.abs(box - _white(pixels)).max() <= 1.5


@given(position=st.integers(0, 3_000))
def test_bent_boxes_enclose_the_moved_pixels(squares, position):
    batches = _batches(squares, replace(BENT, mosaic=0.0))
    pixels, targets = _sample(batches, batches.parameters_of(position))
    for box in targets.boxes_xyxy:
        white = _white(pixels)
        assert (box[:2] <= white[:2] + 1.5).all()
        assert (box[2:] >= white[2:] - 1.5).all()
        assert np.abs(box - white).max() <= 6  # corners of a turned square may be cut by blur


@given(position=st.integers(0, 3_000), bound=st.booleans())
def test_boxes_of_a_mosaic_are_inside_and_worth_learning(squares, position, bound):
    settings = replace(BENT, mosaic=1.0, mosaic_bound=bound, min_visible=0.5, min_side=3.0)
    batches = _batches(squares, settings)
    parameters = batches.parameters_of(position)
    pixels, targets = _sample(batches, parameters)
    tiles = np.array(tiles_of(parameters.cut, 96))
    for box in targets.boxes_xyxy:
        assert (box >= 0).all()
        assert (box <= 96).all()
        assert (box[2:] - box[:2] >= 3).all()
        in_a_tile = ((box[:2] >= tiles[:, :2]) & (box[2:] <= tiles[:, 2:])).all(axis=1).any()
        assert in_a_tile or not bound
        x0, y0, x1, y1 = np.rint(box).astype(int)
        assert (pixels[y0:y1, x0:x1].min(axis=2) > 100).any()  # something of it is seen


def test_half_of_darknets_mosaic_pictures_are_pushed_into_their_corner():
    sides = (-0.3, -0.3, -0.3, -0.3)  # the picture shrinks, with padding all around
    for corner, expected in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        one = PictureParameters(row=0, sides=sides, is_pushed=True)
        matrix = picture_matrix(one, (100, 80), 64, "stretch", corner=corner)
        outer = matrix @ (100 * expected[0], 80 * expected[1], 1)
        np.testing.assert_allclose(outer[:2], np.array(expected) * 64, atol=1e-9)
        still = replace(one, is_pushed=False)
        inner = picture_matrix(still, (100, 80), 64, "stretch", corner=corner) @ (0, 0, 1)
        np.testing.assert_allclose(inner[:2], 64 * 0.3 / 1.6)


def test_jitter_moves_each_side_by_its_share():
    one = PictureParameters(row=0, sides=(0.1, -0.2, 0.3, 0.05))
    matrix = picture_matrix(one, (200, 100), 64, "stretch")
    np.testing.assert_allclose(matrix @ (20, -20, 1), (0, 0, 1), atol=1e-9)
    np.testing.assert_allclose(matrix @ (140, 95, 1), (64, 64, 1), atol=1e-9)


def test_stretching_fills_the_square_exactly_as_a_resize_does(smooth):
    batches = _batches(smooth, NO_AUGMENT, size=48, resize="stretch")
    batch = batches.batch(0)
    for place, row in enumerate(batch["media_index"].tolist()):
        image = read_image(smooth[0][row])
        resized = cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA)
        pixels = (batch["images"][place] * 255).permute(1, 2, 0).numpy()
        assert np.abs(pixels - resized).mean() < 3
        scale = 48 / np.array(SIZES[row] * 2)
        boxes = smooth[1].annotations.boxes_xyxy[smooth[1].rows_of(row)] * scale
        own = batch["boxes_xyxy"][batch["image_index"] == place].numpy()
        np.testing.assert_allclose(own, boxes, rtol=1e-5)


def test_mixture_shows_both_and_weighs_their_boxes(smooth):
    batches = _batches(smooth, NO_AUGMENT)
    first = SampleParameters(size=96, pictures=(PictureParameters(row=0),))
    second = SampleParameters(size=96, pictures=(PictureParameters(row=1),))
    mixed, targets = _sample(batches, replace(first, other=second, share=0.25))
    (one, first_targets), (two, second_targets) = _sample(batches, first), _sample(batches, second)
    assert np.abs(mixed - (0.25 * one + 0.75 * two)).max() <= 0.51
    assert targets.weights.tolist() == [0.25] * 2 + [0.75] * 2
    expected = np.concatenate([first_targets.boxes_xyxy, second_targets.boxes_xyxy])
    np.testing.assert_array_equal(targets.boxes_xyxy, expected)


def test_what_is_cut_out_is_plain_and_no_longer_asked_for(squares):
    batches = _batches(squares, NO_AUGMENT)
    whole = SampleParameters(size=96, pictures=(PictureParameters(row=2),))
    _, targets = _sample(batches, whole)
    x0, y0, x1, y1 = targets.boxes_xyxy[0]
    hidden = replace(whole, cutouts=((x0 / 96, y0 / 96, x1 / 96, y1 / 96),))
    covered, left = _sample(batches, hidden)
    assert len(left.boxes_xyxy) == 0
    assert (covered[round(y0) : round(y1), round(x0) : round(x1)] == 127).all()
    grazed = replace(whole, cutouts=((x0 / 96, y0 / 96, x1 / 96, (y0 + 3) / 96),))
    _, left = _sample(batches, grazed)
    np.testing.assert_array_equal(left.boxes_xyxy, targets.boxes_xyxy)


def test_colour_table_matches_levels_by_hand():
    one = PictureParameters(row=0, hue=0.5, saturation=2.0, brightness=0.5, contrast=2.0)
    table = colour_table(one)[0]
    assert table[10].tolist() == [100, 20, 0]
    assert table[170].tolist()[:2] == [80, 255]  # round the circle, and no further than full
    assert table[200, 2] == 136  # (200 - 127.5) * 2 + 127.5 = 272.5, halved
    assert colour_table(PictureParameters(row=0))[0, :180, 0].tolist() == list(range(180))


def test_hue_alone_keeps_grey_grey_and_turns_red():
    grey = np.full((8, 8, 3), 90, dtype=np.uint8)
    red = np.zeros((8, 8, 3), dtype=np.uint8)
    red[..., 0] = 200
    turn = PictureParameters(row=0, hue=1 / 3)
    np.testing.assert_array_equal(recoloured(grey, turn), grey)
    assert recoloured(red, turn)[0, 0].tolist() == [0, 200, 0]
    assert red[0, 0].tolist() == [200, 0, 0]  # the original is untouched


def test_noise_has_its_deviation_and_its_seed():
    def noisy(seed):
        sample = np.full((128, 128, 3), 120, dtype=np.uint8)
        roughened(
            sample, SampleParameters(size=128, pictures=(), noise_levels=9.0, noise_seed=seed)
        )
        return sample

    assert noisy(1).std() == pytest.approx(9.0, rel=0.03)
    assert noisy(1).mean() == pytest.approx(120, abs=0.2)
    np.testing.assert_array_equal(noisy(1), noisy(1))
    assert not np.array_equal(noisy(1), noisy(2))


def test_compression_and_blur_stay_near_the_picture(smooth):
    image = np.ascontiguousarray(read_image(smooth[0][2]))
    for change in ({"jpeg_quality": 50}, {"blur_sigma": 1.0}):
        sample = image.copy()
        roughened(sample, SampleParameters(size=80, pictures=(), **change))
        assert 0 < np.abs(sample.astype(int) - image).mean() < 6


def test_showing_through_is_a_weighted_sum():
    first, second = np.full((4, 4, 3), 200, np.uint8), np.full((4, 4, 3), 100, np.uint8)
    show_through(first, second, 0.7)
    assert (first == 170).all()
