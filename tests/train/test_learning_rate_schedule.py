"""The learning rate is the paper's formula, and a function of the step alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.train.schedule import SCHEDULES, learning_rate_factor


def test_eq5_cosine_matches_the_written_formula():
    low, high, span = 0.1, 1.0, 99
    for done in range(100):
        expected = low + 0.5 * (high - low) * (1 + math.cos(done / span * math.pi))
        factor = learning_rate_factor(done, steps=100, warmup_steps=0, final_fraction=0.1)
        assert factor == pytest.approx(expected, abs=1e-12)


def test_warm_up_rises_linearly():
    factors = [
        learning_rate_factor(step, steps=100, warmup_steps=4, final_fraction=0.0)
        for step in range(5)
    ]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0]


@given(steps=st.integers(1, 500), warmup=st.integers(0, 499), final=st.floats(0, 1), data=st.data())
def test_factor_stays_in_range_and_ends_at_the_final_fraction(steps, warmup, final, data):
    warmup = min(warmup, steps - 1)
    options = {"steps": steps, "warmup_steps": warmup, "final_fraction": final}
    step = data.draw(st.integers(0, steps - 1))
    assert 0 <= learning_rate_factor(step, **options) <= 1
    if steps - warmup > 1:
        assert learning_rate_factor(steps - 1, **options) == pytest.approx(final, abs=1e-12)


def test_final_fraction_one_is_constant():
    options = {"steps": 10, "warmup_steps": 0, "final_fraction": 1.0}
    assert {learning_rate_factor(step, **options) for step in range(10)} == {1.0}


def test_warm_up_of_power_four_is_darknets_burn_in():
    options = {"steps": 5000, "warmup_steps": 1000, "final_fraction": 1.0, "warmup_power": 4.0}
    for step in (0, 99, 499, 999):
        expected = ((step + 1) / 1000) ** 4
        assert learning_rate_factor(step, **options) == pytest.approx(expected)
    assert learning_rate_factor(1000, **options) == 1.0


def test_steps_drop_where_darknet_does():
    """yolov4.cfg: max_batches 500,500 and steps 400,000 and 450,000 with scales .1, .1."""
    options = {"steps": 500_000, "warmup_steps": 1000, "final_fraction": 0.5, "schedule": "steps"}
    options |= {"drops_at": (0.8, 0.9), "drop_factor": 0.1}
    wanted = {1000: 1, 399_999: 1, 400_000: 0.1, 449_999: 0.1, 450_000: 0.01, 499_999: 0.01}
    for step, factor in wanted.items():
        assert learning_rate_factor(step, **options) == pytest.approx(factor)


def test_linear_is_a_straight_line():
    options = {"warmup_steps": 0, "final_fraction": 0.2, "schedule": "linear"}
    factors = [learning_rate_factor(step, steps=5, **options) for step in range(5)]
    assert factors == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@given(steps=st.integers(1, 300), warmup=st.integers(0, 299), power=st.floats(0.5, 5))
def test_every_schedule_rises_to_the_peak_and_never_again(schedule, steps, warmup, power):
    warmup = min(warmup, steps - 1)
    options = {"steps": steps, "warmup_steps": warmup, "warmup_power": power}
    options |= {"schedule": schedule, "final_fraction": 0.1, "drops_at": (0.5, 0.75)}
    factors = [learning_rate_factor(step, **options) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)


def test_constant_does_not_know_the_length_of_the_run():
    options = {"warmup_steps": 3, "final_fraction": 0.0, "schedule": "constant"}
    short = [learning_rate_factor(step, steps=10, **options) for step in range(10)]
    long = [learning_rate_factor(step, steps=99, **options) for step in range(10)]
    assert short == long
