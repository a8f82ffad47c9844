"""Masks, polygons and boxes become each other without a pixel moving."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_masks

from tilth.data import masks, rle
from tilth.errors import DataError

COCO128 = (
    Path(__file__).resolve().parents[3] / "shared/data/formats/coco128/instances_train2017.json"
)
any_mask = arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def as_json(mask: np.ndarray) -> bytes:
    height, width = mask.shape
    counts = rle.to_text(rle.encode(mask)).decode()
    return json.dumps({"size": [height, width], "counts": counts}).encode()


def as_mask(segmentation: bytes) -> np.ndarray:
    counts, height, width = rle.from_json(segmentation)
    return rle.decode(counts, height, width)


def plain_fill(parts: list[list[float]], height: int, width: int) -> np.ndarray:
    """Pixel by pixel: is the centre inside a part, by the even-odd rule?"""
    mask = np.zeros((height, width), np.bool_)
    for part in parts:
        corners = list(zip(part[0::2], part[1::2], strict=True))
        for row in range(height):
            for column in range(width):
                x, y = column + 0.5, row + 0.5
                inside = False
                for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
                    (ax, ay), (bx, by) = sorted([(ax, ay), (bx, by)])
                    if ax < x <= bx and ay + (by - ay) / (bx - ax) * (x - ax) <= y:
                        inside = not inside
                mask[row, column] |= inside
    return mask


@given(mask=any_mask)
def test_a_mask_that_becomes_polygons_and_a_mask_again_is_the_same(mask: np.ndarray) -> None:
    polygons = masks.rle_to_polygons(as_json(mask))
    again = masks.polygons_to_rle(polygons, *mask.shape)
    assert json.loads(again) == json.loads(as_json(mask))


@given(
    parts=st.lists(st.lists(st.integers(-20, 60), min_size=6, max_size=14), max_size=3),
    size=st.tuples(st.integers(1, 10), st.integers(1, 10)),
)
def test_filling_equals_the_plain_twin(parts: list[list[int]], size: tuple[int, int]) -> None:
    # Eighths of a pixel, off the centres: on a centre either answer is right.
    placed = [[value / 8 + 1 / 16 for value in part[: len(part) // 2 * 2]] for part in parts]
    filled = as_mask(masks.polygons_to_rle(json.dumps(placed).encode(), *size))
    np.testing.assert_array_equal(filled, plain_fill(placed, *size))


@given(box=st.lists(st.integers(-16, 96), min_size=4, max_size=4))
def test_a_box_is_filled_as_its_rectangle(box: list[int]) -> None:
    x0, x1 = sorted((box[0] / 8 + 1 / 16, box[1] / 8 + 1 / 16))
    y0, y1 = sorted((box[2] / 8 + 1 / 16, box[3] / 8 + 1 / 16))
    rectangle = json.dumps([[x0, y0, x1, y0, x1, y1, x0, y1]]).encode()
    ours = masks.box_to_rle(np.array([x0, y0, x1, y1]), 9, 7)
    assert json.loads(ours) == json.loads(masks.polygons_to_rle(rectangle, 9, 7))


def test_a_ring_with_a_hole_keeps_its_area() -> None:
    mask = np.ones((5, 5), np.bool_)
    mask[1:4, 1:4] = False
    mask[2, 2] = True  # an island in the hole
    parts = json.loads(masks.rle_to_polygons(as_json(mask)))
    assert len(parts) == 2
    areas = []
    for part in parts:
        x, y = np.array(part[0::2]), np.array(part[1::2])
        areas.append(abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2)
    assert sorted(areas) == [1.0, 16.0]


def test_pixels_that_touch_at_a_corner_are_parts_of_their_own() -> None:
    parts = json.loads(masks.rle_to_polygons(as_json(np.eye(3, dtype=np.bool_))))
    corners = [sorted(zip(part[0::2], part[1::2], strict=True)) for part in parts]
    assert corners == [[(i, i), (i, i + 1), (i + 1, i), (i + 1, i + 1)] for i in range(3)]


def test_an_empty_mask_has_no_polygons() -> None:
    assert masks.rle_to_polygons(as_json(np.zeros((4, 4), np.bool_))) == b"[]"
    assert not as_mask(masks.polygons_to_rle(b"[]", 4, 4)).any()
    assert not as_mask(masks.polygons_to_rle(b"[[1,1,2,2]]", 4, 4)).any()


@pytest.mark.skipif(not COCO128.is_file(), reason=f"{COCO128} is not there")
def test_real_polygons_fill_nearly_as_pycocotools_fills_them() -> None:
    """Not equal: pycocotools rounds corners to a fifth of a pixel and draws the line itself."""
    file = json.loads(COCO128.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in file["images"]}
    overlaps = []
    for label in file["annotations"]:
        if label["area"] < 1000 or not isinstance(label["segmentation"], list):
            continue
        height, width = sizes[label["image_id"]]
        text = json.dumps(label["segmentation"]).encode()
        ours = json.loads(masks.polygons_to_rle(text, height, width))
        theirs = coco_masks.merge(coco_masks.frPyObjects(label["segmentation"], height, width))
        ours["counts"] = ours["counts"].encode()
        overlaps.append(float(coco_masks.iou([ours], [theirs], [0])[0, 0]))
    assert len(overlaps) > 300
    assert np.mean(overlaps) > 0.995
    assert min(overlaps) > 0.95


@pytest.mark.parametrize(
    "polygons",
    [
        b"{}",
        b"[1,2,3]",
        b"[[1,2,null,4,5,6]]",
        b"[" * 5000,
        b"[[0,0,1e300,0,1e300,1e300]]",
        b"\xff",
        b"",
    ],
)
def test_what_is_no_polygon_is_refused(polygons: bytes) -> None:
    with pytest.raises(DataError):
        masks.polygons_to_rle(polygons, 8, 8)


def test_sizes_beyond_all_pictures_are_refused_without_allocating() -> None:
    huge = b"[[0,0,1000000000,0,1000000000,1000000000]]"
    with pytest.raises(DataError, match="beyond the size"):
        masks.polygons_to_rle(huge, 10**9, 10**9)
    assert as_mask(masks.polygons_to_rle(huge, 8, 8)).any(), "cut off at the picture"
    text = json.dumps({"size": [10**9, 10**9], "counts": [0, 10**18]}).encode()
    with pytest.raises(DataError, match="beyond the size"):
        masks.rle_to_polygons(text)
    with pytest.raises(DataError, match="do not fill"):
        masks.rle_to_polygons(b'{"size":[4,4],"counts":[3,4]}')
