"""A user's metric is checked, example by example, and what it did is said."""

import numpy as np
import pytest
from metric_toys import broken, largest_error, never

from tilth.errors import SettingsError, TrainingError
from tilth.losses.metric_values import MetricRules, checked_value, metric_of

PAIR = (np.array([1.0, 2.0], dtype=np.float32), np.array([1.0, 4.0], dtype=np.float32))


def test_a_value_is_the_metrics():
    assert checked_value(largest_error, *PAIR, MetricRules()) == 2.0


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (broken, "ValueError: no such thing as speech here"),
        (never, "gave nan"),
        (lambda p, t: [1.0, 2.0], "no single number"),
        (lambda p, t: p, "shape (2,)"),
        (lambda p, t: None, "gave nan"),
        (lambda p, t: "high", "no single number"),
    ],
)
def test_bad_values_name_what_came_and_the_shapes(metric, says):
    with pytest.raises(TrainingError) as caught:
        checked_value(metric, *PAIR, MetricRules())
    assert says in str(caught.value)
    assert "prediction float32[2], target float32[2]" in str(caught.value)


def test_single_values_in_arrays_are_taken():
    assert checked_value(lambda p, t: np.array([[0.5]]), *PAIR, MetricRules()) == 0.5


def test_failures_are_left_out_or_the_worst_on_request():
    for metric in (broken, never):
        assert np.isnan(checked_value(metric, *PAIR, MetricRules(on_failure="skip")))
        rules = MetricRules(goal="higher", low=-0.5, on_failure="worst")
        assert checked_value(metric, *PAIR, rules) == -0.5


def test_a_shape_that_is_wrong_stays_an_error_whatever_is_done_with_failures():
    with pytest.raises(TrainingError, match="no single number"):
        checked_value(lambda p, t: p, *PAIR, MetricRules(on_failure="skip"))


def test_values_outside_the_bounds_are_refused():
    with pytest.raises(TrainingError) as caught:
        checked_value(largest_error, *PAIR, MetricRules(low=0.0, high=1.0))
    assert "2, outside its bounds" in str(caught.value)
    assert "0.0 to 1.0" in str(caught.value)


def test_rounding_beside_a_bound_is_the_bound():
    rules = MetricRules(low=0.0, high=1.0)
    assert checked_value(lambda p, t: 1 + 1e-7, *PAIR, rules) == 1.0
    assert checked_value(lambda p, t: -1e-7, *PAIR, rules) == 0.0
    with pytest.raises(TrainingError, match="outside its bounds"):
        checked_value(lambda p, t: 1 + 1e-5, *PAIR, rules)


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 2.0, "high": 1.0},
        {"high": float("inf")},
        {"on_failure": "worst"},
    ],
)
def test_rules_that_cannot_be_are_refused(wrong):
    with pytest.raises(SettingsError):
        MetricRules(**wrong)


def test_metrics_are_found_by_module_and_by_file(tmp_path, monkeypatch):
    (tmp_path / "scoring.py").write_text("def twice(p, t):\n    return 2.0 * len(p)\n")
    monkeypatch.chdir(tmp_path)
    assert metric_of("scoring:twice")(*PAIR) == 4.0
    assert metric_of(f"{tmp_path}/scoring.py:twice")(*PAIR) == 4.0
    with pytest.raises(SettingsError, match="no function 'thrice'"):
        metric_of("scoring.py:thrice")
    with pytest.raises(SettingsError, match="not found"):
        metric_of("no_such_module_here:f")
    with pytest.raises(SettingsError, match="file is not there"):
        metric_of("other.py:f")
    with pytest.raises(SettingsError, match="name cannot be used"):
        metric_of("scoring.twice")
