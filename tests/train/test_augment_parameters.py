"""Parameters are drawn by place, and one setting does not disturb another."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingsError
from tilth.seeding import generator
from tilth.train.augment_parameters import draw_sample
from tilth.train.augment_settings import DARKNET, LIGHT, NO_AUGMENT, AugmentSettings

SHARES = ("mosaic", "mixup", "cutout", "copy_paste", "blur", "noise", "jpeg")
FULL = AugmentSettings(**dict.fromkeys(SHARES, 0.5), jitter=0.3, rotation_degrees=10.0)


def _drawn(settings, position=3, **options):
    options = {"seed": 0, "size": 64, "pick": lambda place: int(place * 100), **options}
    return draw_sample(5, position=position, settings=settings, **options)


@given(position=st.integers(0, 10_000))
def test_same_place_same_parameters_and_another_place_others(position):
    assert _drawn(FULL, position) == _drawn(FULL, position)
    assert _drawn(FULL, position) != _drawn(FULL, position + 1)
    assert _drawn(FULL, position) != _drawn(FULL, position, seed=1)


@given(position=st.integers(0, 500))
def test_switching_one_kind_off_leaves_the_others_as_they_were(position):
    whole = _drawn(FULL, position)
    for name in ("mosaic", "cutout", "copy_paste", "blur", "noise", "jpeg"):
        less = _drawn(replace(FULL, **{name: 0.0}), position)
        assert less.pictures[0] == whole.pictures[0]
        for field in fields(whole):
            touched = {
                "mosaic": ("pictures", "cut", "other"),
                "cutout": ("cutouts", "other"),
                "copy_paste": ("pastes", "other"),
                "blur": ("blur_sigma", "other"),
                "noise": ("noise_levels", "other"),
                "jpeg": ("jpeg_quality", "other"),
            }[name]
            if field.name not in touched:
                assert getattr(less, field.name) == getattr(whole, field.name), field.name


def test_size_has_no_influence_on_the_draws():
    small, large = _drawn(FULL, 9, size=64), _drawn(FULL, 9, size=96)
    assert small.pictures == large.pictures
    assert small.cut == large.cut


def test_nothing_is_drawn_for_pictures_as_they_are():
    for position in range(50):
        sample = _drawn(NO_AUGMENT, position)
        assert len(sample.pictures) == 1
        one = sample.pictures[0]
        assert not one.colours
        assert (one.flip, one.scale, one.shift_x, one.shift_y) == (False, 1, 0, 0)


def test_kinds_come_as_often_as_they_are_asked_for():
    samples = [_drawn(replace(FULL, mosaic=0.25, mixup=0.75), place) for place in range(2000)]
    assert np.mean([len(sample.pictures) == 4 for sample in samples]) == pytest.approx(
        0.25, abs=0.03
    )
    assert np.mean([sample.other is not None for sample in samples]) == pytest.approx(
        0.75, abs=0.03
    )
    assert np.mean([sample.pictures[0].flip for sample in samples]) == pytest.approx(0.5, abs=0.04)
    shares = [sample.share for sample in samples if sample.other is not None]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 8 + 1)), rel=0.2)  # Beta(8, 8)


def test_darknets_factors_lie_in_their_range_and_as_often_below_one():
    ones = [_drawn(replace(DARKNET, mosaic=0.0), place).pictures[0] for place in range(2000)]
    saturation = np.array([one.saturation for one in ones])
    assert saturation.min() >= 1 / 1.5
    assert saturation.max() <= 1.5
    assert np.mean(saturation > 1) == pytest.approx(0.5, abs=0.04)
    above = saturation[saturation > 1]
    assert above.mean() == pytest.approx(1.25, abs=0.02)  # uniform
    assert np.abs([one.sides for one in ones]).max() <= 0.3
    assert np.abs([one.hue for one in ones]).max() <= 0.1


def test_a_mosaic_meets_between_its_cuts_and_takes_other_pictures():
    cuts = np.array([_drawn(replace(FULL, mosaic=1.0), place).cut for place in range(500)])
    assert cuts.min() >= 0.2
    assert cuts.max() <= 0.8
    rows = {one.row for place in range(500) for one in _drawn(FULL, place).pictures[1:]}
    assert len(rows) > 80


def test_light_draws_are_those_of_runs_made_before():
    """Their order is fixed: a run that was made with it can be made again."""
    flip, *spread = generator(0, "jitter", 3).random(7)
    size, right, down, brightness, saturation, hue = 2 * np.asarray(spread) - 1
    one = _drawn(LIGHT).pictures[0]
    assert one.flip == (flip < 0.5)
    assert one.scale == 1 + size * 0.2
    assert (one.shift_x, one.shift_y) == (right * 0.1, down * 0.1)
    assert (one.brightness, one.saturation) == (1 + brightness * 0.2, 1 + saturation * 0.2)
    assert one.hue == hue * 0.02


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", 1.0),
        ("hue", 0.6),
        ("flip_probability", -0.1),
        ("translate", 2),
        ("jitter", 0.5),
        ("mosaic_cut", (0.8, 0.2)),
        ("mixup_alpha", 0.0),
        ("cutout_count", 17),
        ("saturation_factor", 0.5),
        ("perspective", 0.9),
        ("jpeg_quality", 0),
        ("multi_scale", 0.9),
        ("close_mosaic", 1.1),
        ("min_side", 0.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=f"'{name}'"):
        AugmentSettings(**{name: value})


@pytest.mark.parametrize("name", ["copy_paste", "noise", "jpeg"])
def test_what_a_gpu_cannot_do_is_refused_there(name):
    with pytest.raises(SettingsError, match=f"'{name}'.* on the CPU only"):
        AugmentSettings(on_device=True, **{name: 0.5})
