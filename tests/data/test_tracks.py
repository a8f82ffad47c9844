"""Objects between key frames, against a plain twin, and back to few key frames."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.tracks import Track, interpolate, keyframes_of
from tilth.errors import DataError


def track(frames: list[int], boxes: list[list[float]], outside: list[bool] | None = None) -> Track:
    return Track(
        frames=np.array(frames, np.int64),
        shapes=np.array(boxes, np.float64).reshape(len(frames), -1),
        outside=np.array(outside or [False] * len(frames), np.bool_),
        keyframe=np.ones(len(frames), np.bool_),
    )


def plain_twin(keys: Track, num_frames: int) -> dict[int, list[float]]:
    """Frame by frame, as CVAT's page says it."""
    seen = {}
    for frame in range(num_frames):
        before = [row for row, at in enumerate(keys.frames) if at <= frame]
        if not before or keys.outside[before[-1]]:
            continue
        row = before[-1]
        box = keys.shapes[row]
        if row + 1 < len(keys.frames) and not keys.outside[row + 1]:
            span = keys.frames[row + 1] - keys.frames[row]
            share = (frame - keys.frames[row]) / span
            box = box + (keys.shapes[row + 1] - box) * share
        seen[frame] = box.tolist()
    return seen


key_frames = st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True).map(sorted)


@st.composite
def tracks(draw: st.DrawFn) -> Track:
    frames = draw(key_frames)
    count = len(frames)
    boxes = draw(
        st.lists(
            st.lists(st.integers(0, 100), min_size=4, max_size=4), min_size=count, max_size=count
        )
    )
    outside = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return track(frames, boxes, outside)


def as_dict(seen: Track) -> dict[int, list[float]]:
    return dict(zip(seen.frames.tolist(), seen.shapes.tolist(), strict=True))


@given(keys=tracks(), num_frames=st.integers(1, 40))
def test_interpolation_equals_the_plain_twin(keys: Track, num_frames: int) -> None:
    ours, theirs = as_dict(interpolate(keys, num_frames)), plain_twin(keys, num_frames)
    assert ours.keys() == theirs.keys()
    for frame, box in ours.items():
        assert box == pytest.approx(theirs[frame], abs=1e-9)


@given(keys=tracks(), num_frames=st.integers(31, 40))
def test_key_frames_give_the_track_back(keys: Track, num_frames: int) -> None:
    seen = interpolate(keys, num_frames)
    again = interpolate(keyframes_of(seen, num_frames=num_frames), num_frames)
    assert again.frames.tolist() == seen.frames.tolist()
    np.testing.assert_allclose(again.shapes, seen.shapes, atol=1e-5)


def test_a_straight_way_needs_its_two_ends() -> None:
    keys = track([0, 10], [[0, 0, 10, 10], [20, 0, 30, 10]])
    seen = interpolate(keys, 11)
    drawn = Track(
        frames=seen.frames,
        shapes=seen.shapes,
        outside=seen.outside,
        keyframe=np.zeros(11, np.bool_),
    )
    assert keyframes_of(drawn, num_frames=11).frames.tolist() == [0, 10]
    ended = keyframes_of(drawn, num_frames=20)
    assert (ended.frames.tolist(), ended.outside.tolist()) == ([0, 10, 11], [False, False, True])


@given(
    steps=st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=60),
    tolerance_px=st.sampled_from([0.25, 1.0, 4.0]),
)
def test_no_edge_is_off_by_more_than_the_tolerance(
    steps: list[list[int]], tolerance_px: float
) -> None:
    seen = track([*range(len(steps))], np.cumsum(steps, axis=0).tolist())
    seen = replace(seen, keyframe=np.zeros(len(steps), np.bool_))
    few = keyframes_of(seen, tolerance_px=tolerance_px, num_frames=len(steps))
    again = interpolate(few, len(steps))
    np.testing.assert_array_equal(again.frames, seen.frames)
    assert np.abs(again.shapes - seen.shapes).max() <= tolerance_px + 1e-9
    ends = few.frames.tolist()
    for start, end in pairwise(ends):  # none could have been longer
        if end + 1 < len(steps):
            longer = track([start, end + 1], seen.shapes[[start, end + 1]].tolist())
            between = interpolate(longer, end + 2).shapes - seen.shapes[start : end + 2]
            assert np.abs(between).max() > tolerance_px - 1e-9


def test_a_parked_car_needs_one_look_a_frame() -> None:
    count = 200_000  # all frames against all others would take hours
    seen = Track(
        frames=np.arange(count),
        shapes=np.tile([3.0, 4.0, 50.0, 60.0], (count, 1)),
        outside=np.zeros(count, np.bool_),
        keyframe=np.zeros(count, np.bool_),
    )
    assert keyframes_of(seen, num_frames=count).frames.tolist() == [0, count - 1]


def test_a_video_of_too_many_frames_is_refused() -> None:
    with pytest.raises(DataError, match="too many"):
        interpolate(track([0], [[0, 0, 1, 1]]), 10**12)


def test_the_last_box_holds_or_ends() -> None:
    keys = track([2, 4], [[0, 0, 1, 1], [2, 2, 3, 3]])
    assert interpolate(keys, 8).frames.tolist() == [2, 3, 4, 5, 6, 7]
    assert interpolate(keys, 8, holds=False).frames.tolist() == [2, 3, 4]
    assert interpolate(keys, 3).frames.tolist() == [2]
    assert interpolate(keys, 2).frames.tolist() == []
    assert interpolate(keys, 8).keyframe.tolist() == [True, False, True, False, False, False]


def test_polygons_move_corner_by_corner() -> None:
    seen = interpolate(track([0, 2], [[0, 0, 4, 0, 4, 4], [2, 0, 6, 0, 6, 4]]), 2)
    assert seen.shapes.tolist() == [[0, 0, 4, 0, 4, 4], [1, 0, 5, 0, 5, 4]]


@pytest.mark.parametrize("frames", [[3, 3], [4, 2], [-1, 2]])
def test_frames_that_do_not_rise_are_refused(frames: list[int]) -> None:
    with pytest.raises(DataError, match="do not rise"):
        interpolate(track(frames, [[0, 0, 1, 1]] * 2), 9)


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        interpolate(track([0], [[0, 0, np.nan, 1]]), 9)
