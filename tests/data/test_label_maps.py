"""A label map comes apart into the masks of its values, and masks lie over each other, whole."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tilth.data import label_maps, rle
from tilth.data.label_maps import label_map, lay_over, runs_of_values
from tilth.data.runs import Runs, all_to_json, join, runs_from_json, runs_to_json
from tilth.errors import DataError

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
masks = sizes.flatmap(lambda size: st.lists(arrays.arrays(np.bool_, size), min_size=1, max_size=5))


def runs_of(mask: np.ndarray) -> Runs:
    return runs_of_values(mask.astype(np.uint8)).get(
        1, Runs(np.empty(0, np.int64), np.empty(0, np.int64))
    )


def as_mask(runs: Runs, shape: tuple[int, ...]) -> np.ndarray:
    flat = np.zeros(shape[0] * shape[1], np.bool_)
    for start, end in zip(*runs, strict=True):
        flat[start:end] = True
    return flat.reshape(shape[1], shape[0]).T


@given(values=arrays.arrays(st.sampled_from([np.uint8, np.uint16, np.int32]), sizes))
def test_every_value_is_found_with_its_pixels_in_one_pass(values: np.ndarray) -> None:
    found = runs_of_values(values)
    assert list(found) == np.unique(values).tolist()
    for value, runs in found.items():
        np.testing.assert_array_equal(as_mask(runs, values.shape), values == value)


@given(values=arrays.arrays(np.uint16, sizes, elements=st.integers(0, 3)))
def test_a_map_that_is_taken_apart_and_put_together_is_the_same(values: np.ndarray) -> None:
    found = runs_of_values(values)
    found.pop(0, None)
    again = label_map(list(found.values()), list(found), *values.shape, np.uint16)
    np.testing.assert_array_equal(again, values)


@given(shapes=masks)
def test_the_last_shape_is_on_top_and_every_hidden_pixel_is_counted(
    shapes: list[np.ndarray],
) -> None:
    owner = np.full(shapes[0].shape, -1)
    hidden: Counter[tuple[int, int]] = Counter()
    for at, mask in enumerate(shapes):  # pixel by pixel, as one would paint them
        hidden.update((at, int(below)) for below in owner[mask] if below >= 0)
        owner[mask] = at
    layers = lay_over([runs_of(mask) for mask in shapes])
    assert layers.hidden == dict(hidden)
    for at, runs in enumerate(layers.seen):
        np.testing.assert_array_equal(as_mask(runs, owner.shape), owner == at)


@given(shapes=masks)
def test_shapes_join_to_their_union(shapes: list[np.ndarray]) -> None:
    joined = join([runs_of(mask) for mask in shapes])
    union = np.any(shapes, axis=0)
    np.testing.assert_array_equal(as_mask(joined, union.shape), union)
    assert (joined.starts[1:] > joined.ends[:-1]).all(), "none touches the next"
    assert joined.area == union.sum()


@given(mask=arrays.arrays(np.bool_, sizes))
def test_runs_say_the_box_area_and_text_of_their_mask(mask: np.ndarray) -> None:
    runs, height = runs_of(mask), mask.shape[0]
    counts = rle.encode(mask)
    assert runs.box_xyxy(height).tolist() == rle.box_xyxy(counts, height).tolist()
    text = runs_to_json(runs, *mask.shape)
    assert json.loads(text)["counts"] == rle.to_text(counts).decode()
    again, *size = runs_from_json(text)
    assert tuple(size) == mask.shape
    assert again.starts.tolist() == runs.starts.tolist()
    assert again.ends.tolist() == runs.ends.tolist()


@given(shapes=masks)
def test_the_texts_of_all_shapes_at_once_are_those_of_each(shapes: list[np.ndarray]) -> None:
    height, width = shapes[0].shape
    each = [runs_to_json(runs_of(mask), height, width) for mask in shapes]
    assert all_to_json([runs_of(mask) for mask in shapes], height, width) == each
    for text, mask in zip(each, shapes, strict=True):
        assert json.loads(text)["counts"] == rle.to_text(rle.encode(mask)).decode()


def test_shapes_that_overlap_have_no_place_in_one_map() -> None:
    both = Runs(np.array([0]), np.array([3]))
    with pytest.raises(DataError, match="overlap"):
        label_map([both, both], [1, 2], 2, 2, np.uint8)
    with pytest.raises(DataError, match="leave their picture"):
        label_map([Runs(np.array([0]), np.array([5]))], [1], 2, 2, np.uint8)


def test_a_huge_map_is_refused_and_huge_shapes_lie_over_each_other_without_pixels() -> None:
    far = 10**18
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="beyond the size"):
            label_map([], [], 10**9, 10**9, np.uint16)
        layers = lay_over(
            [Runs(np.array([0]), np.array([far])), Runs(np.array([7]), np.array([far // 2]))]
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert layers.hidden == {(1, 0): far // 2 - 7}
    assert layers.seen[0].ends.tolist() == [7, far]
    assert peak < 10e6


def test_noise_is_refused_as_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_maps, "MAX_MAP_RUNS", 10)
    with pytest.raises(DataError, match="too often"):
        runs_of_values(np.indices((4, 4)).sum(axis=0) % 2)
