"""Masks, polygons and boxes become each other without a pixel moving."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_masks

from tilth.data import masks, rle
from tilth.errors import DataError

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


def test_real_polygons_fill_nearly_as_pycocotools_fills_them(shared_data: Path) -> None:
    """Not equal: pycocotools rounds corners to a fifth of a pixel and lets the line decide."""
    labels = shared_data / "formats/coco128/instances_train2017.json"
    file = json.loads(labels.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in file["images"]}
    overlaps, areas, difference = [], [], 0.0
    for label in file["annotations"]:
        if not isinstance(label["segmentation"], list):
            continue
        height, width = sizes[label["image_id"]]
        text = json.dumps(label["segmentation"]).encode()
        ours = json.loads(masks.polygons_to_rle(text, height, width))
        theirs = coco_masks.merge(coco_masks.frPyObjects(label["segmentation"], height, width))
        ours["counts"] = ours["counts"].encode()
        overlaps.append(float(coco_masks.iou([ours], [theirs], [0])[0, 0]))
        areas.append(float(coco_masks.area(theirs)))
        difference += float(coco_masks.area(ours)) - areas[-1]
    assert len(overlaps) == 929
    assert np.mean(overlaps) > 0.990
    assert np.average(overlaps, weights=areas) > 0.9985
    assert min(overlaps) > 0.85
    assert abs(difference) < 1e-4 * sum(areas), "no larger and no smaller on the whole"


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


def signed_area(part: list[float]) -> float:
    x, y = np.array(part[0::2], float), np.array(part[1::2], float)
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@given(mask=any_mask)
def test_polygons_have_the_area_of_the_pixels_and_one_part_for_each_of_four_neighbours(
    mask: np.ndarray,
) -> None:
    parts = json.loads(masks.rle_to_polygons(as_json(mask)))
    assert sum(map(signed_area, parts)) == mask.sum()
    count, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    assert len(parts) == count - 1


@given(mask=any_mask)
def test_pycocotools_fills_traced_polygons_alike_bridges_included(mask: np.ndarray) -> None:
    parts = json.loads(masks.rle_to_polygons(as_json(mask)))
    if parts:
        theirs = coco_masks.merge(coco_masks.frPyObjects(parts, *mask.shape))
        np.testing.assert_array_equal(coco_masks.decode(theirs).astype(np.bool_), mask)


@pytest.mark.parametrize("size", [1, 4, 9])
@pytest.mark.parametrize("odd", [0, 1])
def test_a_checkerboard_survives(size: int, odd: int) -> None:
    mask = np.indices((size, size + 1)).sum(axis=0) % 2 == odd
    again = masks.polygons_to_rle(masks.rle_to_polygons(as_json(mask)), *mask.shape)
    np.testing.assert_array_equal(as_mask(again), mask)


def test_holes_that_touch_at_a_corner_are_one_hole_of_the_ring() -> None:
    mask = np.ones((4, 4), np.bool_)
    mask[1, 1] = mask[2, 2] = False
    (part,) = json.loads(masks.rle_to_polygons(as_json(mask)))
    assert signed_area(part) == 14
    corners = list(zip(part[0::2], part[1::2], strict=True))
    assert corners.count((2, 2)) == 2, "one way round both holes, through the place they share"


def test_runs_that_go_on_in_the_next_column_keep_their_place() -> None:
    text = b'{"size":[3,4],"counts":[2,5,5]}'  # from the last row of column 0 to the first of 2
    np.testing.assert_array_equal(
        as_mask(masks.polygons_to_rle(masks.rle_to_polygons(text), 3, 4)), as_mask(text)
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"[" * 5000,
        b'{"size":[2,2],"counts":[]}',
        b'{"size":[2,2],"counts":[-1,5]}',
        b'{"size":[2,2],"counts":[9223372036854775807,9223372036854775807,6]}',
        b'{"size":[2,2],"counts":[' + b"9" * 400 + b"]}",
        b'{"size":[1e999,2],"counts":[4]}',
        b'{"size":[NaN,2],"counts":[4]}',
        b'{"size":[-2,-2],"counts":[4]}',
        b'{"size":[4611686018427387904,4],"counts":[0]}',
        b'{"size":[2,2],"counts":[[4]]}',
        b'{"size":[2,2],"counts":{"a":1}}',
        b'{"size":[2,2],"counts":["x"]}',
        b'{"size":[2,2],"counts":"\xff"}',
    ],
)
def test_what_is_no_mask_is_refused(text: bytes) -> None:
    with pytest.raises(DataError):
        masks.rle_to_polygons(text)


def test_hostile_shapes_are_refused_before_memory_is_taken() -> None:
    zigzag = [[value for at in range(20_000) for value in (at % 2 * 1e6, at)]]
    boxed = np.array([0.0, 1.0, 1e9, 2e9])
    tall = json.dumps({"size": [10**9, 4], "counts": [5 * 10**8, 1, 35 * 10**8 - 1]}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="beyond the size"):
            masks.polygons_to_rle(json.dumps(zigzag).encode(), 10**6, 10**6)
        with pytest.raises(DataError, match="beyond the size"):
            masks.box_to_rle(boxed, 10**9, 10**9)
        with pytest.raises(DataError, match="not finite"):
            masks.box_to_rle(np.array([0.0, np.nan, 1.0, 1.0]), 8, 8)
        one_pixel = json.loads(masks.rle_to_polygons(tall))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert one_pixel == [[0, 5 * 10**8, 1, 5 * 10**8, 1, 5 * 10**8 + 1, 0, 5 * 10**8 + 1]]
    assert peak < 50e6
