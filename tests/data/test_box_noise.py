"""Wrong boxes on purpose: each fault is what it says, and the record knows every one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import small_dataset

from tilth.data.box_noise import inject_box_noise
from tilth.data.box_noise_places import moved_boxes, overlaps
from tilth.data.box_noise_record import BOX_NOISE_KINDS, BoxNoiseSettings
from tilth.data.dataset import Dataset
from tilth.data.digest import dataset_digest
from tilth.data.records import Geometry, ReviewState, Source
from tilth.errors import EmptyDatasetError, SettingsError

ALL = BoxNoiseSettings(missed=0.1, spurious=0.2, moved=0.3, swapped=0.15)


def boxes_only(num_media: int = 40, labels_each: int = 6) -> Dataset:
    """Boxes and polygons in pictures of 100 x 80 pixels, no crowd, of three classes."""
    dataset = small_dataset(num_media, labels_each)
    labels = dataset.annotations
    plain = replace(labels, is_crowd=np.zeros(len(labels), dtype=np.bool_))
    return replace(dataset, annotations=plain)


def by_id(dataset: Dataset) -> dict[int, int]:
    return {key: row for row, key in enumerate(dataset.annotations.id.tolist())}


def test_every_difference_is_in_the_record_and_nothing_else_changes() -> None:
    clean = boxes_only()
    noisy, noise = inject_box_noise(clean, ALL, seed=3)
    before, after = by_id(clean), by_id(noisy)
    a, b = clean.annotations, noisy.annotations
    told = dict(zip(noise.annotation_id.tolist(), noise.kind.tolist(), strict=True))
    assert len(told) == len(noise)
    for key in before.keys() | after.keys():
        if key not in after:
            assert told[key] == "missed"
        elif key not in before:
            assert told[key] == "spurious"
        else:
            old, new = before[key], after[key]
            same_box = np.array_equal(a.boxes_xyxy[old], b.boxes_xyxy[new])
            same_class = a.category_index[old] == b.category_index[new]
            expected = {(False, True): "moved", (True, False): "swapped"}.get(
                (same_box, bool(same_class))
            )
            assert told.get(key) == expected
            assert a.media_index[old] == b.media_index[new]
            assert a.attributes[old] == b.attributes[new]
            if expected != "moved":
                assert a.segmentation[old] == b.segmentation[new]
                assert a.geometry[old] == b.geometry[new]
                assert a.area[old] == b.area[new]
    assert (np.diff(b.media_index) >= 0).all()


def test_numbers_are_the_rates_of_the_boxes() -> None:
    clean = boxes_only()
    _, noise = inject_box_noise(clean, ALL, seed=3)
    count = len(clean.annotations)
    assert noise.num_boxes == count
    for name, number in noise.counts().items():
        assert abs(number - getattr(ALL, name) * count) < 1
    assert sum(noise.counts().values()) == round(0.55 * count) + round(0.2 * count)
    for name in BOX_NOISE_KINDS:
        _, alone = inject_box_noise(clean, BoxNoiseSettings(**{name: 0.17}))
        assert alone.counts()[name] == len(alone) == round(0.17 * count)
    assert noise.document()["realised_rates"]["moved"] == noise.counts()["moved"] / count


@given(
    rates=st.tuples(st.floats(0, 0.33), st.floats(0, 0.33), st.floats(0, 0.33), st.floats(0, 1)),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_a_box_has_one_fault_at_most(rates: tuple[float, ...], seed: int) -> None:
    missed, moved, swapped, spurious = rates
    clean = boxes_only(5, 4)
    noisy, noise = inject_box_noise(
        clean,
        BoxNoiseSettings(missed=missed, moved=moved, swapped=swapped, spurious=spurious),
        seed=seed,
    )
    assert len(np.unique(noise.annotation_id)) == len(noise)
    counts = noise.counts()
    assert len(noisy.annotations) == len(clean.annotations) - counts["missed"] + counts["spurious"]
    assert all(abs(counts[k] - getattr(noise.settings, k) * noise.num_boxes) <= 1 for k in counts)


def test_a_seed_gives_the_same_boxes_and_another_seed_others() -> None:
    clean = boxes_only()
    digests = [dataset_digest(inject_box_noise(clean, ALL, seed=seed)[0]) for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_the_given_data_set_stays_as_it_is() -> None:
    clean = boxes_only()
    digest = dataset_digest(clean)
    inject_box_noise(clean, ALL)
    assert dataset_digest(clean) == digest


def test_no_noise_changes_nothing() -> None:
    clean = boxes_only()
    noisy, noise = inject_box_noise(clean, BoxNoiseSettings())
    assert dataset_digest(noisy) == dataset_digest(clean)
    assert len(noise) == 0
    assert noise.rows(clean) == []


def test_more_missed_boxes_are_those_of_less_and_others() -> None:
    clean = boxes_only()
    less, more = (
        set(inject_box_noise(clean, BoxNoiseSettings(missed=rate))[1].annotation_id.tolist())
        for rate in (0.1, 0.4)
    )
    assert less < more


def test_moved_boxes_are_inside_their_picture_and_elsewhere() -> None:
    clean = boxes_only()
    noisy, noise = inject_box_noise(clean, BoxNoiseSettings(moved=1.0))
    boxes = noisy.annotations.boxes_xyxy
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [100, 80]).all()
    assert (noise.iou < 0.95).all()
    assert (noise.iou > 0.1).all()
    assert (noisy.annotations.geometry == Geometry.BOX).all()
    assert not any(noisy.annotations.segmentation)
    np.testing.assert_allclose(noisy.annotations.area, (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


@given(
    corner=st.tuples(st.floats(0, 90), st.floats(0, 70)),
    sides=st.tuples(st.floats(0.5, 100), st.floats(0.5, 80)),
    shift=st.floats(0, 2),
    scale=st.floats(0.05, 2),
    seed=st.integers(0, 20),
    known=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_every_moved_box_differs_and_has_an_inside(
    corner: tuple[float, float],
    sides: tuple[float, float],
    shift: float,
    scale: float,
    seed: int,
    known: bool,
) -> None:
    size = np.array([[100.0, 80.0]]) if known else np.full((1, 2), np.inf)
    high = np.minimum(np.add(corner, sides), size[0])
    box = np.array([[*corner, *high]])
    if not (box[:, 2:] > box[:, :2]).all():
        return
    moved = moved_boxes(box, size, shift=shift, scale=scale, draw=np.random.default_rng(seed))
    assert np.isfinite(moved).all()
    assert (moved[:, :2] >= 0).all()
    assert (moved[:, 2:] <= size).all()
    assert (moved[:, 2:] > moved[:, :2]).all()
    assert overlaps(box, moved)[0] < 1


def test_a_shift_is_between_half_the_setting_and_the_whole() -> None:
    box = np.tile([[40.0, 30.0, 60.0, 50.0]], (500, 1))
    moved = moved_boxes(
        box, np.full((500, 2), 200.0), shift=0.3, scale=0.0, draw=np.random.default_rng(0)
    )
    share = np.abs(moved[:, :2] - box[:, :2]) / 20
    assert (share >= 0.15 - 1e-9).all()
    assert (share <= 0.3 + 1e-9).all()
    grown = moved_boxes(
        box, np.full((500, 2), 200.0), shift=0.0, scale=0.5, draw=np.random.default_rng(0)
    )
    factor = (grown[:, 2:] - grown[:, :2]) / 20
    assert (np.abs(np.log(factor)) >= math.log(1.5) / 2 - 1e-9).all()
    assert (np.abs(np.log(factor)) <= math.log(1.5) + 1e-9).all()
    np.testing.assert_allclose(grown[:, :2] + grown[:, 2:], box[:, :2] + box[:, 2:])


def test_spurious_boxes_lie_where_no_object_is() -> None:
    clean = boxes_only(40, 2)
    noisy, noise = inject_box_noise(clean, BoxNoiseSettings(spurious=1.0, missed=0.5))
    labels, added = clean.annotations, noise.kind == "spurious"
    assert added.sum() == len(labels)
    sides = set(np.round(labels.boxes_xyxy[:, 2:] - labels.boxes_xyxy[:, :2], 6).ravel().tolist())
    for picture, box, iou in zip(
        noise.media_index[added], noise.new_boxes_xyxy[added], noise.iou[added], strict=True
    ):
        # Missed objects are objects: the truth is the clean set.
        objects = labels.boxes_xyxy[clean.rows_of(int(picture))]
        nearest = overlaps(np.tile(box, (len(objects), 1)), objects).max(initial=0)
        assert nearest == pytest.approx(iou)
        assert iou <= 0.1
        assert set(np.round(box[2:] - box[:2], 6).tolist()) <= sides
        assert (box >= 0).all()
        assert (box[2:] <= [100, 80]).all()
    row = by_id(noisy)[int(noise.annotation_id[added][0])]
    assert noisy.annotations.source[row] == Source.HUMAN
    assert noisy.annotations.review_state[row] == ReviewState.UNREVIEWED
    assert np.isnan(noisy.annotations.score[row])


def test_spurious_boxes_that_find_no_room_take_the_best_place() -> None:
    clean = boxes_only(2, 1)
    labels = clean.annotations
    whole = replace(
        labels,
        boxes_xyxy=np.array([[0.0, 0.0, 100.0, 80.0]]),
        media_index=np.array([0]),
    )
    everywhere = replace(clean, annotations=whole)
    _, noise = inject_box_noise(
        everywhere, BoxNoiseSettings(spurious=1.0), among=np.array([True, False])
    )
    assert noise.iou.tolist() == [1.0]


def test_crowds_and_classes_of_pictures_stay() -> None:
    clean = small_dataset(30, 6)
    labels = clean.annotations
    geometry = labels.geometry.copy()
    geometry[::6] = Geometry.LABEL
    clean = replace(clean, annotations=replace(labels, geometry=geometry))
    eligible = (geometry != Geometry.LABEL) & ~labels.is_crowd
    noisy, noise = inject_box_noise(clean, BoxNoiseSettings(missed=1.0))
    assert noise.num_boxes == eligible.sum()
    assert sorted(noisy.annotations.id.tolist()) == sorted(labels.id[~eligible].tolist())


def test_only_the_chosen_pictures_change() -> None:
    clean = boxes_only()
    among = np.arange(len(clean.media)) < 10
    _, noise = inject_box_noise(clean, ALL, among=among)
    assert (noise.media_index < 10).all()
    assert noise.num_boxes == clean.offsets[10]


def test_swapped_boxes_go_where_the_matrix_says() -> None:
    where = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    _, noise = inject_box_noise(boxes_only(), BoxNoiseSettings(swapped=0.5), swap_matrix=where)
    np.testing.assert_array_equal(noise.new_category, (noise.old_category + 1) % 3)
    _, noise = inject_box_noise(boxes_only(), BoxNoiseSettings(swapped=1.0))
    assert (noise.new_category != noise.old_category).all()
    shifts = np.bincount((noise.new_category - noise.old_category) % 3, minlength=3)
    assert shifts[0] == 0
    assert shifts[1:].min() > len(noise) / 3


def test_rows_of_the_record_are_plain() -> None:
    clean = boxes_only()
    _, noise = inject_box_noise(clean, ALL)
    rows = noise.rows(clean)
    assert len(rows) == len(noise)
    assert {row["fault"] for row in rows} == set(BOX_NOISE_KINDS)
    for row in rows:
        for which, fault in (("old", "spurious"), ("new", "missed")):
            is_none = row[f"{which}_box"] is None
            assert is_none == (row[f"{which}_class"] is None) == (row["fault"] == fault)
        assert row["picture"].startswith("pictures/")


@pytest.mark.parametrize(
    "wrong",
    [
        {"missed": -0.1},
        {"moved": 1.1},
        {"spurious": math.nan},
        {"missed": 0.5, "moved": 0.3, "swapped": 0.3},
        {"moved": 0.1, "shift": 0.0, "scale": 0.0},
        {"shift": -1.0},
        {"largest_overlap": 2.0},
    ],
)
def test_settings_that_cannot_be_used_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        BoxNoiseSettings(**wrong)


def test_sets_that_cannot_have_the_noise_are_refused() -> None:
    clean = boxes_only()
    nobody = clean.keep_annotations(np.zeros(len(clean.annotations), dtype=np.bool_))
    with pytest.raises(EmptyDatasetError):
        inject_box_noise(nobody, ALL)
    unsized = replace(clean, media=replace(clean.media, width=np.zeros(40, dtype=np.int32)))
    with pytest.raises(SettingsError, match="place inside a picture"):
        inject_box_noise(unsized, BoxNoiseSettings(spurious=0.1))
    labels = clean.annotations
    single = replace(
        clean,
        categories=clean.categories[:1],
        annotations=replace(labels, category_index=np.zeros(len(labels), dtype=np.int64)),
    )
    with pytest.raises(SettingsError, match="another class"):
        inject_box_noise(single, BoxNoiseSettings(swapped=0.1))
    with pytest.raises(SettingsError, match="keeps some"):
        inject_box_noise(clean, BoxNoiseSettings(swapped=0.1), swap_matrix=np.eye(3))
    with pytest.raises(SettingsError, match="row and a column"):
        inject_box_noise(clean, BoxNoiseSettings(swapped=0.1), swap_matrix=np.eye(2))


def test_boxes_of_pictures_without_a_size_can_be_moved() -> None:
    clean = boxes_only()
    unsized = replace(clean, media=replace(clean.media, width=np.zeros(40, dtype=np.int32)))
    noisy, noise = inject_box_noise(unsized, BoxNoiseSettings(moved=1.0))
    assert np.isfinite(noisy.annotations.boxes_xyxy).all()
    assert (noise.iou < 1).all()
