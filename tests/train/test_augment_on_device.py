"""The tensor twin makes the samples that OpenCV makes, to a few grey levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled_pictures import smooth_pictures

from tilth.train.augment_on_device import rendered
from tilth.train.augment_settings import DARKNET, LIGHT, NO_AUGMENT, AugmentSettings
from tilth.train.loading import DetectionBatches

EVERYTHING = AugmentSettings(
    vertical_flip_probability=0.3,
    jitter=0.2,
    rotation_degrees=20.0,
    shear_degrees=10.0,
    perspective=0.2,
    contrast=0.3,
    mosaic=0.6,
    mixup=0.6,
    cutout=0.6,
    blur=0.6,
)
SETTINGS = {
    "as they are": NO_AUGMENT,
    "light": LIGHT,
    "default": AugmentSettings(),
    "darknet": DARKNET,
    "everything": EVERYTHING,
}


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    sizes = [(97, 64), (64, 97), (80, 80), (120, 50), (33, 90), (64, 64)]
    return smooth_pictures(tmp_path_factory.mktemp("smooth"), sizes)


def _pair(smooth, settings):
    made = []
    for on_device in (False, True):
        paths, dataset = smooth
        settings = replace(settings, on_device=on_device)
        made.append(
            DetectionBatches(paths, dataset, size=64, batch_size=6, seed=0, settings=settings)
        )
    return made


@pytest.mark.parametrize("name", SETTINGS)
def test_pixels_agree_within_a_few_levels(smooth, name):
    plain, twin = _pair(smooth, SETTINGS[name])
    for step in range(2):
        expected = plain.batch(step)["images"]
        images = rendered(twin.batch(step))["images"]
        assert images.shape == expected.shape
        assert images.is_contiguous(memory_format=torch.channels_last)
        difference = (images - expected).abs().mul(255)
        # OpenCV's hue has 180 steps: up to some 8 levels where colours are full.
        assert difference.mean() < 1.5
        assert (difference > 10).float().mean() < 0.002


@pytest.mark.parametrize("name", SETTINGS)
def test_targets_are_the_same(smooth, name):
    plain, twin = _pair(smooth, SETTINGS[name])
    for step in range(2):
        expected, got = plain.batch(step), twin.batch(step)
        for column in ("boxes_xyxy", "class_index", "image_index", "box_weights", "media_index"):
            torch.testing.assert_close(got[column], expected[column], rtol=0, atol=0)
        assert got["names"] == expected["names"]


def test_first_tensor_has_a_row_for_every_sample(smooth):
    """The loop counts samples by it."""
    _, twin = _pair(smooth, EVERYTHING)
    batch = twin.batch(0)
    first = next(value for value in batch.values() if isinstance(value, torch.Tensor))
    assert len(first) == 6


def test_a_batch_that_has_its_images_comes_back_as_it_is(smooth):
    plain, _ = _pair(smooth, LIGHT)
    batch = plain.batch(0)
    assert rendered(batch) is batch


def test_pictures_travel_in_8_bits(smooth):
    _, twin = _pair(smooth, DARKNET)
    batch = twin.batch(0)
    assert batch["tile_pixels"].dtype == torch.uint8
    assert "images" not in batch


def test_half_precision_around_it_does_not_coarsen_the_pixels(smooth):
    _, twin = _pair(smooth, LIGHT)
    batch = twin.batch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = rendered(batch)["images"]
    assert inside.dtype == torch.float32
    np.testing.assert_array_equal(inside.numpy(), rendered(batch)["images"].numpy())
