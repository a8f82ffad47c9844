"""The learning rate is the paper's formula, and a function of the step alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.train.schedule import learning_rate_factor


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
