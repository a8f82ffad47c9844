"""The watch tells an exploited surrogate from an honest one, and goes on where it was."""

import numpy as np

from tilth.losses.metric_watch import Watch


def _watched(true_of, believed_of, *, looks=30, noise=0.2, sign=1.0):
    """Looks of 16 outputs whose means go as given, over time from 0 to 1."""
    draws, watch = np.random.default_rng(0), Watch(sign=sign, window=64)
    watch.held_out_error = 0.1
    for look in range(looks):
        time, spread = look / max(looks - 1, 1), draws.normal(0, noise, 16)
        true = true_of(time) + spread
        believed = believed_of(time) + spread + draws.normal(0, 0.05, 16)
        watch.note(look, believed, true, calls=16 * (look + 1))
    return watch


def test_honest_surrogate_raises_no_alarm():
    falling = _watched(lambda t: 2 - t, lambda t: 2 - t)
    assert not any(reading.is_alarm for reading in falling.readings)
    assert falling.readings[-1].rank_correlation > 0.9


def test_exploited_surrogate_is_noticed():
    watch = _watched(lambda t: 2 + t, lambda t: 2 - t)
    assert watch.is_alarm
    assert any(reason.startswith("exploited") for reason in watch.readings[-1].reasons)
    assert any(reason.startswith("too good") for reason in watch.readings[-1].reasons)
    assert watch.readings[-1].optimism > 1.5


def test_the_same_holds_where_higher_is_better():
    watch = _watched(lambda t: -2 - t, lambda t: -2 + t, sign=-1.0)
    assert {reason.split(":")[0] for reason in watch.readings[-1].reasons} >= {"exploited"}
    honest = _watched(lambda t: t, lambda t: t, sign=-1.0)
    assert not honest.is_alarm


def test_a_metric_that_worsens_as_believed_is_no_exploit():
    watch = _watched(lambda t: 2 + t, lambda t: 2 + t)
    assert not watch.is_alarm


def test_a_surrogate_that_learns_to_think_less_ill_is_not_exploited():
    watch = _watched(lambda t: 2.0, lambda t: 2.3 - 0.3 * min(2 * t, 1))
    assert not any(reading.is_alarm for reading in watch.readings)


def test_beliefs_out_of_order_are_noticed():
    draws, watch = np.random.default_rng(1), Watch(sign=1.0, window=64)
    for look in range(8):
        true = draws.random(16)
        watch.note(look, 1 - true, true, calls=0)
    assert "out of order" in watch.readings[-1].reasons[0]


def test_a_few_outputs_are_no_evidence():
    watch = _watched(lambda t: 2 + t, lambda t: 2 - t, looks=1)
    assert not watch.is_alarm


def test_an_alarm_ends_when_they_agree_again():
    watch = _watched(lambda t: 2 + min(t, 1 - t), lambda t: 2 - t if t < 0.5 else 2.0)
    assert any(reading.is_alarm for reading in watch.readings)
    assert not watch.is_alarm


def test_state_makes_an_equal_watch():
    watch = _watched(lambda t: 2 + t, lambda t: 2 - t, looks=10)
    other = Watch(sign=1.0, window=64)
    other.load_state_dict(watch.state_dict())
    more = np.linspace(0, 1, 16)
    first = watch.note(10, more, 1 - more, calls=0)
    assert other.note(10, more, 1 - more, calls=0) == first
    assert other.readings == watch.readings
