"""Every place of the stream has its picture, found without memory of what came before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_pictures import labelled

from tilth.data.records import Geometry
from tilth.errors import DataError, SettingsError
from tilth.train.sampling import (
    SamplingSettings,
    UniformSampler,
    WeightedSampler,
    build_sampler,
    cluster_weights,
    epoch_order,
    repeat_factors,
)


def _set(classes_of_pictures):
    """A data set whose picture i shows the classes of entry i."""
    boxes = [
        (row, number, (0, 0, 9, 9), False, Geometry.BOX)
        for row, classes in enumerate(classes_of_pictures)
        for number in classes
    ]
    return labelled([(10, 10)] * len(classes_of_pictures), boxes)


def _counts(sampler, places):
    return np.bincount([sampler.at(position) for position in places], minlength=sampler.num_images)


@given(num_images=st.integers(1, 40), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_uniform_shows_each_once_an_epoch(num_images, seed, epoch):
    sampler = UniformSampler(num_images, seed=seed)
    places = range(epoch * num_images, (epoch + 1) * num_images)
    assert _counts(sampler, places).tolist() == [1] * num_images
    assert [sampler.at(p) for p in places] == epoch_order(num_images, seed, epoch).tolist()


@given(
    weights=st.lists(st.floats(0, 100), min_size=1, max_size=30).filter(lambda w: sum(w) > 0.01),
    epoch=st.integers(0, 3),
)
def test_weights_decide_how_often_within_one_picture(weights, epoch):
    weights = np.array(weights)
    sampler = WeightedSampler(weights, seed=1)
    n = len(weights)
    counts = _counts(sampler, range(epoch * n, (epoch + 1) * n))
    assert np.abs(counts - n * weights / weights.sum()).max() < 1 + 1e-6
    assert (counts[weights == 0] == 0).all()


def test_over_many_epochs_the_shares_are_exact_and_the_order_differs():
    sampler = WeightedSampler(np.array([1.0, 2.5, 0.5, 0.0]), seed=0)
    counts = _counts(sampler, range(4 * 500))
    np.testing.assert_allclose(counts / 500, [1.0, 2.5, 0.5, 0.0], atol=0.05)
    epochs = {tuple(sampler.at(4 * epoch + place) for place in range(4)) for epoch in range(20)}
    assert len(epochs) > 5


def test_others_are_picked_as_often_as_they_come():
    sampler = WeightedSampler(np.array([3.0, 0.0, 1.0]), seed=0)
    picks = [sampler.pick(place) for place in np.linspace(0, 1, 400, endpoint=False)]
    assert np.bincount(picks).tolist() == [300, 0, 100]
    assert sampler.pick(np.nextafter(1.0, 0.0)) == 2
    assert UniformSampler(7, seed=0).pick(np.nextafter(1.0, 0.0)) == 6


def test_another_process_sees_the_same_order():
    weights = np.random.default_rng(0).random(50)
    forwards = [WeightedSampler(weights, seed=3).at(position) for position in range(200)]
    again = WeightedSampler(weights, seed=3)
    assert [again.at(position) for position in reversed(range(200))] == forwards[::-1]


def test_repeat_factors_by_hand():
    # Class 0 in all four pictures, class 1 in one: f = 1 and 1/4.
    dataset = _set([[0], [0, 0], [0, 1], [0]])
    np.testing.assert_allclose(repeat_factors(dataset, 1.0), [1, 1, 2, 1])
    np.testing.assert_allclose(repeat_factors(dataset, 0.5), [1, 1, np.sqrt(2), 1])
    np.testing.assert_allclose(repeat_factors(dataset, 0.1), [1, 1, 1, 1])


def test_pictures_without_objects_stay_as_frequent_as_the_common_ones():
    np.testing.assert_allclose(repeat_factors(_set([[0], [], [0], [1]]), 1.0)[1], 1.0)


def test_every_cluster_comes_as_often_as_every_other():
    labels = np.array([0] * 8 + [1] * 3 + [2] + [-1] * 4)
    dataset = _set([[0]] * 16)
    settings = SamplingSettings(kind="cluster")
    sampler = build_sampler(dataset, settings, seed=0, clusters=labels)
    counts = _counts(sampler, range(16 * 100)) / 100
    np.testing.assert_allclose([counts[labels == k].sum() for k in range(3)], [4, 4, 4], atol=0.1)
    assert counts[labels == -1].sum() == pytest.approx(4, abs=0.1)  # as many as in the data


def test_without_any_cluster_all_are_equal():
    assert cluster_weights(np.full(3, -1)).tolist() == [1, 1, 1]


def test_class_balance_lifts_the_rare_class():
    dataset = _set([[0]] * 9 + [[1]])
    sampler = build_sampler(dataset, SamplingSettings(kind="class"), seed=0)
    counts = _counts(sampler, range(10 * 200))
    assert counts[9] / counts[:9].mean() == pytest.approx(3.0, rel=0.05)  # sqrt(0.9 / 0.1)
    assert sampler.identity != build_sampler(dataset, SamplingSettings(), seed=0).identity


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(DataError, match="weights of the pictures"):
        WeightedSampler(np.array(weights), seed=0)


def test_missing_clusters_are_asked_for():
    dataset = _set([[0], [1]])
    settings = SamplingSettings(kind="cluster")
    for given_numbers in ({}, {"clusters": np.zeros(3)}):
        with pytest.raises(DataError, match="cannot be sampled") as caught:
            build_sampler(dataset, settings, seed=0, **given_numbers)
        assert "2 of them" in caught.value.expected


def test_threshold_out_of_range_is_refused():
    with pytest.raises(SettingsError, match=r"sampling\.threshold"):
        replace(SamplingSettings(), threshold=0.0)
