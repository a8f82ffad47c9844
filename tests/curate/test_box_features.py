"""Box features against a plain twin, and boxes that no one should draw but some files hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.curate.box_features import BOX_FEATURE_NAMES, CLUSTER_FEATURE_NAMES, box_features
from tilth.errors import DataError


def noise(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def column(name: str) -> int:
    return BOX_FEATURE_NAMES.index(name)


def test_matches_plain_oracle_on_whole_pixel_boxes() -> None:
    image = noise()
    boxes = np.array([[0, 0, 60, 40], [5, 6, 25, 30], [58, 1, 60, 3], [10, 10, 11, 11]], float)
    values = box_features(image, boxes)
    for row, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        crop = image[y0:y1, x0:x1].astype(np.int64)
        grey = (crop @ np.array([9798, 19235, 3735]) + (1 << 14)) >> 15
        share = np.bincount(grey.ravel()) / grey.size
        share = share[share > 0]
        expected = [
            *crop.reshape(-1, 3).mean(axis=0),
            grey.std(),
            -(share * np.log2(share)).sum(),
            (x1 - x0) * (y1 - y0) / 2400,
            (x1 - x0) / (y1 - y0),
            (x0 + x1) / 120,
            (y0 + y1) / 80,
        ]
        np.testing.assert_allclose(values[row, :9], expected, rtol=1e-9, atol=0.01)


def test_first_six_are_the_features_of_the_source() -> None:
    assert CLUSTER_FEATURE_NAMES == (
        "red_mean",
        "green_mean",
        "blue_mean",
        "grey_std",
        "grey_entropy",
        "relative_area",
    )


def test_a_pixel_belongs_to_a_box_when_its_centre_does() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[1, 1] = 200
    inside = box_features(image, np.array([[0.6, 0.6, 1.6, 1.6]]))[0]
    beside = box_features(image, np.array([[1.6, 1.6, 2.6, 2.6]]))[0]
    assert inside[0] == 200
    assert beside[0] == 0


def test_overlap_is_the_largest_iou_with_a_neighbour() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [9, 0, 19, 10], [30, 30, 31, 31]], float)
    overlap = box_features(noise(), boxes)[:, column("max_overlap")]
    np.testing.assert_allclose(overlap, [1 / 3, 60 / 140, 60 / 140, 0])
    assert box_features(noise(), boxes[:1])[0, column("max_overlap")] == 0


def test_two_equal_boxes_overlap_fully() -> None:
    boxes = np.array([[1, 1, 5, 5], [1, 1, 5, 5]], float)
    assert box_features(noise(), boxes)[:, column("max_overlap")].tolist() == [1, 1]


def test_border_and_outside() -> None:
    boxes = np.array(
        [[20, 10, 40, 30], [0, 10, 40, 30], [-20, 10, 20, 30], [-5, -5, 65, 45], [70, 50, 80, 60]],
        float,
    )
    values = box_features(noise(), boxes)
    assert values[:, column("border_sides")].tolist() == [0, 1, 1, 4, 2]
    np.testing.assert_allclose(
        values[:, column("outside_share")], [0, 0, 0.5, 1 - 2400 / 3500, 1.0]
    )
    assert values[3, column("relative_area")] == 1.0
    assert values[4, column("relative_area")] == 0.0


def test_a_box_outside_takes_the_nearest_pixel() -> None:
    image = noise()
    values = box_features(image, np.array([[100, 100, 120, 120], [-9, -9, -9, -9]], float))
    assert values[0, :3].tolist() == image[-1, -1].tolist()
    assert values[1, :3].tolist() == image[0, 0].tolist()


def test_no_boxes_give_no_rows() -> None:
    assert box_features(noise(), np.empty((0, 4))).shape == (0, len(BOX_FEATURE_NAMES))


coordinate = st.floats(-200, 300, allow_nan=False, width=32)


@given(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=6))
def test_every_feature_is_finite_for_any_ordered_box(corners: list[tuple[float, ...]]) -> None:
    raw = np.array(corners, dtype=np.float64).reshape(-1, 2, 2)
    boxes = np.concatenate([raw.min(axis=1), raw.max(axis=1)], axis=1)
    values = box_features(noise(), boxes)
    assert np.isfinite(values).all()
    for name in ("relative_area", "outside_share", "max_overlap"):
        assert ((values[:, column(name)] >= 0) & (values[:, column(name)] <= 1)).all()


@pytest.mark.parametrize("box", [[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [5, 0, 1, 1], [0, 5, 1, 1]])
def test_refuses_boxes_that_mean_nothing(box: list[float]) -> None:
    with pytest.raises(DataError, match="box 1"):
        box_features(noise(), np.array([[0, 0, 1, 1], box]))
