"""Every number of a picture against a plain NumPy/SciPy twin, and what each number means."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from tilth.curate.image_metrics import (
    IMAGE_METRIC_NAMES,
    IMAGE_METRICS,
    image_metrics,
    working_scale,
)
from tilth.errors import MediaError


def measured(image_rgb: np.ndarray) -> dict[str, float]:
    return dict(zip(IMAGE_METRIC_NAMES, image_metrics(image_rgb).tolist(), strict=True))


def photograph(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Smooth coloured noise: the statistics of a photograph without a photograph."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, sigma=(height / 12, width / 12, 0.3))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)


def plain_working_level(image_rgb: np.ndarray) -> np.ndarray:
    pixels = image_rgb.astype(np.int64)
    # OpenCV's fixed-point luma, 15 bits, rounded.
    grey = (pixels @ np.array([9798, 19235, 3735]) + (1 << 14)) >> 15
    while max(grey.shape) > 320:
        height, width = grey.shape[0] // 2, grey.shape[1] // 2
        blocks = grey[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
        grey = (blocks.sum(axis=(1, 3)) + 2) >> 2
    return grey


def plain_metrics(image_rgb: np.ndarray) -> dict[str, float]:
    red, green, blue = np.moveaxis(image_rgb.astype(np.float64), 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    level = plain_working_level(image_rgb)
    share = np.bincount(level.ravel(), minlength=256) / level.size
    cumulative = np.cumsum(share)
    kernel = np.array([[2, 0, 2], [0, -8, 0], [2, 0, 2]])
    rg, yb = red - green, (red + green) / 2 - blue
    values = {"width": image_rgb.shape[1], "height": image_rgb.shape[0]}
    for name, plane in (("red", red), ("green", green), ("blue", blue)):
        values |= {f"{name}_mean": plane.mean(), f"{name}_std": plane.std()}
    present = share[share > 0]
    low, high = np.argmax(cumulative >= 0.05), np.argmax(cumulative >= 0.95)
    return values | {
        "grey_std": luma.std(),
        "grey_entropy": -(present * np.log2(present)).sum(),
        "brightness": luma.mean() / 255,
        "contrast": (high - low) / 255,
        "sharpness": scipy.ndimage.convolve(level, kernel, mode="mirror").var(),
        "colourfulness": np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()),
    }


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (97, 131), (120, 160), (333, 501), (700, 350)])
@pytest.mark.parametrize("kind", ["photograph", "noise", "grey", "flat"])
def test_metrics_match_plain_oracle(size: tuple[int, int], kind: str) -> None:
    image = {
        "photograph": lambda: (
            photograph(3, *size) if min(size) > 1 else np.full((1, 1, 3), 7, "u1")
        ),
        "noise": lambda: np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8),
        "grey": lambda: np.repeat(
            np.random.default_rng(5).integers(0, 256, (*size, 1), dtype=np.uint8), 3, axis=2
        ),
        "flat": lambda: np.full((*size, 3), (10, 200, 30), dtype=np.uint8),
    }[kind]()
    ours, plain = measured(image), plain_metrics(image)
    for name, value in plain.items():
        # The fixed-point luma may round one level away from ours in one pixel of a thousand.
        tolerance = 2e-3 if name in ("grey_entropy", "sharpness", "contrast") else 1e-5
        assert ours[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


def plain_hash(image_rgb: np.ndarray) -> int:
    level = plain_working_level(image_rgb)
    while max(level.shape) > 64:
        height, width = level.shape[0] // 2, level.shape[1] // 2
        blocks = level[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
        level = (blocks.sum(axis=(1, 3)) + 2) >> 2
    lowest = scipy.fft.dctn(level.astype(np.float64), norm="forward")[1:9, 1:9].ravel()
    bits = lowest > np.sort(lowest)[31] + 0.01
    return int("".join("01"[int(bit)] for bit in bits), 2)


def hash_bits(image_rgb: np.ndarray) -> int:
    values = measured(image_rgb)
    return (int(values["phash_high"]) << 32) | int(values["phash_low"])


def distance(first: np.ndarray, second: np.ndarray) -> int:
    return (hash_bits(first) ^ hash_bits(second)).bit_count()


@pytest.mark.parametrize("seed", range(8))
def test_perceptual_hash_is_the_dct_hash(seed: int) -> None:
    image = photograph(seed, 240, 320)
    assert (hash_bits(image) ^ plain_hash(image)).bit_count() <= 2


@pytest.mark.parametrize("seed", range(6))
def test_perceptual_hash_knows_a_copy_and_tells_pictures_apart(seed: int) -> None:
    image = photograph(seed, 480, 640)
    smaller = cv2.resize(image, (400, 300), interpolation=cv2.INTER_AREA)
    encoded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)
    brighter = cv2.convertScaleAbs(image, alpha=0.8, beta=20)
    assert distance(image, smaller) <= 6
    assert distance(image, encoded) <= 6
    assert distance(image, brighter) <= 6
    assert distance(image, photograph(seed + 100, 480, 640)) >= 16


def test_halves_of_the_hash_are_exact_in_float64() -> None:
    high, low = image_metrics(photograph(1))[-2:]
    assert high == np.uint32(high)
    assert low == np.uint32(low)
    assert int(high).bit_count() + int(low).bit_count() in range(24, 33)


def test_colourfulness_of_two_colours_by_hand() -> None:
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    image[:, 0] = (255, 0, 0)
    image[:, 1] = (0, 0, 255)
    # rg: 255, 0 -> mean 127.5, std 127.5. yb: 127.5, -255 -> mean -63.75, std 191.25.
    expected = np.hypot(127.5, 191.25) + 0.3 * np.hypot(127.5, 63.75)
    assert measured(image)["colourfulness"] == pytest.approx(expected)


def test_grey_pictures_are_colourless_and_flat_ones_say_nothing() -> None:
    flat = measured(np.full((40, 50, 3), 77, dtype=np.uint8))
    for name in ("red_std", "grey_std", "grey_entropy", "contrast", "sharpness", "colourfulness"):
        assert flat[name] == pytest.approx(0.0, abs=1e-6), name
    assert flat["phash_high"] == flat["phash_low"] == 0


def test_blur_lowers_sharpness_and_noise_raises_entropy() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert measured(cv2.blur(noise, (5, 5)))["sharpness"] < measured(noise)["sharpness"] / 10
    assert measured(noise)["grey_entropy"] > measured(photograph(0))["grey_entropy"] / 2
    assert measured(noise)["grey_entropy"] > 7.0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_every_metric_is_finite_and_in_its_range(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    values = measured(image)
    assert np.isfinite(list(values.values())).all()
    assert 0 <= values["grey_entropy"] <= 8
    assert 0 <= values["brightness"] <= 1
    assert 0 <= values["contrast"] <= 1
    assert min(values.values()) >= 0


def test_threads_do_not_disturb_each_other() -> None:
    images = [photograph(seed, 60 + seed, 90) for seed in range(12)] * 5
    alone = [image_metrics(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(image_metrics, images))
    np.testing.assert_array_equal(alone, together)


def test_a_view_with_strides_measures_like_its_copy() -> None:
    image = photograph(2, 100, 120)
    np.testing.assert_array_equal(
        image_metrics(image[10:80, 5:77]), image_metrics(image[10:80, 5:77].copy())
    )


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
)
def test_refuses_what_is_not_a_picture(image: np.ndarray) -> None:
    with pytest.raises(MediaError):
        image_metrics(image)


def test_every_metric_has_a_unit() -> None:
    assert tuple(IMAGE_METRICS) == IMAGE_METRIC_NAMES
    assert all(IMAGE_METRICS.values())


@given(st.integers(2, 20_000), st.integers(2, 20_000))
def test_working_scale_is_the_first_that_fits(width: int, height: int) -> None:
    scale = working_scale(width, height)
    assert max(width // scale, height // scale) <= 320 or min(width, height) // scale == 1
    assert scale == 1 or max(width // (scale // 2), height // (scale // 2)) > 320
