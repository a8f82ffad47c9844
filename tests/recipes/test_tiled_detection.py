"""Tiles find what the whole picture loses, once each, in the memory of a few tiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from bright_detector import bright_detector, picture_with
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingsError
from tilth.recipes.tiled_detection import detect_tiled, tile_corners


@given(
    side=st.integers(1, 3000), tile=st.integers(32, 900), overlap=st.sampled_from([0.0, 0.2, 0.5])
)
def test_tiles_cover_every_pixel_and_overlap(side, tile, overlap):
    corners = tile_corners(side, tile, overlap)
    assert corners[0] == 0
    assert max(corners[-1] + tile, tile) >= side
    assert corners[-1] == max(0, side - tile)  # none reaches outside
    for before, after in pairwise(corners):
        assert after > before
        assert before + tile - after >= int(tile * overlap) - 1


def found_boxes(image, **choices):
    found = detect_tiled(bright_detector(), image, tile=128, **choices)
    return sorted(found.boxes_xyxy.round().astype(int).tolist())


def test_small_objects_of_a_large_picture_are_found():
    small = [(100, 90, 106, 96), (700, 500, 706, 506), (40, 590, 46, 596)]
    image = picture_with(small, width=800, height=600)
    assert not len(detect_tiled(bright_detector(), image, tile=1000))
    found = found_boxes(image)
    assert len(found) == 3
    np.testing.assert_allclose(found, sorted(map(list, small)), atol=2)


def test_an_object_on_a_seam_is_found_once():
    # Tiles of 128 in 400: it lies across the end of one and the beginning of the next.
    objects = [(110, 40, 140, 60), (250, 250, 290, 270)]
    found = found_boxes(picture_with(objects, width=400, height=400), overlap=0.3)
    assert len(found) == 2
    np.testing.assert_allclose(found, sorted(map(list, objects)), atol=3)


def test_an_object_larger_than_a_tile_is_found_in_the_whole():
    found = found_boxes(picture_with([(50, 60, 350, 340)], width=400, height=400))
    assert len(found) == 1
    np.testing.assert_allclose(found[0], [50, 60, 350, 340], atol=7)


def test_a_picture_that_fits_a_tile_is_looked_at_once():
    detector = bright_detector()
    image = picture_with([(10, 10, 30, 30)], width=100, height=90)
    found = detect_tiled(detector, image, tile=128)
    assert len(found) == 1
    assert found.media_index.tolist() == [0]


def test_twelve_thousand_pixels_stay_within_the_memory_of_a_batch():
    image = np.full((12_000, 12_000, 3), 20, np.uint8)
    image[11_900:11_960, 7_000:7_050] = 240
    detector = bright_detector(size=320)
    found = detect_tiled(detector, image, tile=2048, batch_size=4)
    assert found.boxes_xyxy.round().tolist() == [pytest.approx([7000, 11900, 7050, 11960], abs=8)]
    assert detector.model.largest_batch == 4


@pytest.mark.parametrize(("tile", "overlap"), [(8, 0.2), (128, 1.0), (128, -0.1)])
def test_tiles_that_cover_nothing_are_refused(tile, overlap):
    with pytest.raises(SettingsError, match="cover nothing"):
        detect_tiled(bright_detector(), picture_with([]), tile=tile, overlap=overlap)
