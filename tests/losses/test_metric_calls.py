"""Calls of a metric are the same here and in other processes, are counted, and have a limit."""

import numpy as np
import pytest
from metric_toys import broken, careless, dies, largest_error, sometimes

from tilth.errors import SettingsError, TrainingError
from tilth.losses.metric_calls import MetricCalls
from tilth.losses.metric_values import MetricRules


def _pairs(count=12):
    draws = np.random.default_rng(0)
    sides = draws.random((2, count, 3), dtype=np.float32)
    return list(sides[0]), list(sides[1])


@pytest.mark.cluster
def test_workers_give_the_same_values_in_the_same_order():
    here = MetricCalls(largest_error, MetricRules())
    there = MetricCalls(largest_error, MetricRules(), workers=2)
    predictions, targets = _pairs()
    np.testing.assert_array_equal(
        here.values(predictions, targets), there.values(predictions, targets)
    )
    assert here.spent.calls == there.spent.calls == 12
    assert there.spent.seconds > 0
    there.close()


@pytest.mark.cluster
def test_what_a_metric_raised_there_is_told_here():
    calls = MetricCalls(broken, MetricRules(), workers=1)
    with pytest.raises(TrainingError, match="no such thing as speech here"):
        calls.values(*_pairs(2))
    calls.close()


@pytest.mark.cluster
def test_a_process_that_ends_is_an_error_and_no_wait():
    calls = MetricCalls(dies, MetricRules(), workers=1)
    with pytest.raises(TrainingError, match="a process that calls the metric has ended"):
        calls.values(*_pairs(2))
    calls.close()


def test_a_function_that_no_other_process_can_import_is_refused():
    calls = MetricCalls(lambda p, t: 0.0, MetricRules(), workers=1)
    with pytest.raises(SettingsError, match="cannot be called in other processes"):
        calls.values(*_pairs(1))


def test_the_budget_is_kept():
    calls = MetricCalls(largest_error, MetricRules(), budget=5)
    calls.values(*_pairs(5))
    assert calls.spent.left == 0
    with pytest.raises(TrainingError, match="budget of metric calls is spent"):
        calls.values(*_pairs(1))


def test_a_metric_cannot_change_what_is_kept():
    predictions, targets = _pairs(1)
    before = predictions[0].copy()
    MetricCalls(careless, MetricRules()).values(predictions, targets)
    np.testing.assert_array_equal(predictions[0], before)


def test_examples_that_are_left_out_are_nan():
    predictions, targets = _pairs(40)
    values = MetricCalls(sometimes, MetricRules(on_failure="skip")).values(predictions, targets)
    np.testing.assert_array_equal(np.isnan(values), [each[0] > 0.8 for each in predictions])
