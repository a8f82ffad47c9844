"""The noise of a set is estimated, with the bootstrap's intervals; ranks within classes."""

from __future__ import annotations

import numpy as np
import pytest
from noisy_labels import noise_matrix, noisy_set

from tilth.curate.class_ranks import rank_within_class
from tilth.curate.confident_learning import calibrated_joint, confident_joint, scan_labels
from tilth.curate.label_errors import LabelErrorSettings, find_label_errors
from tilth.curate.noise_matrix import estimate_noise
from tilth.curate.noise_posterior import label_posterior, noise_matrix_of, stable_inverse
from tilth.curate.probability_sharpness import fitting_exponent, sharpened
from tilth.errors import SettingsError


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("wrong", [0.1, 0.3])
def test_noise_matrix_of_a_fair_judge_is_near_the_one_that_made_the_noise(wrong, pairs):
    labels, chances, _ = noisy_set(rows=20_000, wrong=wrong, pairs=pairs, accuracy=0.9)
    noise = find_label_errors(labels, chances).noise
    assert noise.share_wrong == pytest.approx(wrong, abs=0.04)
    assert np.abs(noise.noise_matrix - noise_matrix(5, wrong, pairs=pairs)).max() < 0.05
    np.testing.assert_allclose(noise.noise_matrix.sum(axis=0), 1)
    np.testing.assert_allclose(noise.correction_matrix.sum(axis=1), 1)
    assert noise.joint.sum() == pytest.approx(1)


def test_posterior_counts_nearer_to_the_truth_than_confident_examples_do():
    labels, chances, true = noisy_set(rows=20_000, wrong=0.2, accuracy=0.75)
    counted = 1 - np.trace(calibrated_joint(confident_joint(scan_labels(labels, chances))))
    noise = find_label_errors(labels, chances).noise
    truth = (labels != true).mean()
    assert abs(noise.share_wrong - truth) < abs(counted - truth)


def test_posterior_of_an_example_by_hand():
    labels = np.array([0] * 10 + [1] * 10)
    chances = np.where(labels[:, None] == [0, 1], 0.8, 0.2)
    scan = scan_labels(labels, chances)
    joint = np.array([[0.45, 0.05], [0.05, 0.45]])
    exponent = fitting_exponent(chances, labels)
    sure = sharpened(chances[:1], exponent)[0]
    true = np.maximum(
        np.linalg.inv([[0.9, 0.1], [0.1, 0.9]]) @ sure, np.maximum(0.01 * sure, 1e-12)
    )
    expected = 0.9 * true[0] / (0.9 * true[0] + 0.1 * true[1])
    found = label_posterior(scan, joint)
    assert found.own[0] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(found.sums.sum(axis=1), [10, 10], rtol=1e-6)
    np.testing.assert_allclose(found.own + found.suggested_probability, 1, atol=1e-6)


def test_sums_and_squares_are_those_of_the_posteriors():
    labels, chances, _ = noisy_set(rows=700, classes=2)
    scan = scan_labels(labels, chances)
    found = label_posterior(scan, calibrated_joint(confident_joint(scan)))
    for label in (0, 1):
        own = found.own[labels == label].astype(float)
        assert found.sums[label, label] == pytest.approx(own.sum(), rel=1e-5)
        assert found.squares[label, label] == pytest.approx((own**2).sum(), rel=1e-5)


def test_intervals_match_a_plain_bootstrap_of_examples():
    """The Poisson bootstrap itself, example by example, of the posteriors as they are."""
    labels, chances, _ = noisy_set(rows=3000, classes=3, wrong=0.2)
    scan = scan_labels(labels, chances)
    found = label_posterior(scan, calibrated_joint(confident_joint(scan)))
    noise = estimate_noise(found.sums, found.squares, draws=2000)
    wrong, stream = 1 - found.own.astype(float), np.random.default_rng(0)
    times = stream.poisson(1.0, size=(2000, len(labels)))
    plain = np.quantile((times @ wrong) / times.sum(axis=1), (0.025, 0.975))
    width = plain[1] - plain[0]
    np.testing.assert_allclose(noise.share_wrong_interval, plain, atol=0.15 * width)
    of_class = labels == 1
    drawn = (times[:, of_class] @ wrong[of_class]) / times[:, of_class].sum(axis=1)
    plain = np.quantile(drawn, (0.025, 0.975))
    ends, width = noise.class_share_wrong_interval[:, 1], plain[1] - plain[0]
    np.testing.assert_allclose(ends, plain, atol=0.15 * width)


def test_interval_covers_what_another_sample_gives():
    inside = 0
    for seed in range(40):
        labels, chances, _ = noisy_set(rows=1500, wrong=0.2, accuracy=0.95, seed=seed)
        noise = find_label_errors(labels, chances).noise
        low, high = noise.share_wrong_interval
        assert low < noise.share_wrong < high
        inside += low <= 0.2 <= high
    # The judge is fair here, so that nothing but the sample moves the estimate.
    assert inside >= 25


def test_entries_of_the_noise_matrix_lie_in_their_intervals():
    labels, chances, _ = noisy_set(rows=4000)
    noise = find_label_errors(labels, chances).noise
    low, high = noise.noise_matrix_interval
    assert ((low <= noise.noise_matrix + 1e-9) & (noise.noise_matrix <= high + 1e-9)).all()
    assert (low >= 0).all()
    assert (high <= 1).all()


def test_more_examples_make_intervals_narrower():
    widths = []
    for rows in (1000, 16_000):
        labels, chances, _ = noisy_set(rows=rows)
        low, high = find_label_errors(labels, chances).noise.share_wrong_interval
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.3)


def test_same_seed_same_interval_and_none_without_draws():
    labels, chances, _ = noisy_set(rows=600)
    ends = [find_label_errors(labels, chances).noise.share_wrong_interval for _ in range(2)]
    assert ends[0] == ends[1]
    plain = find_label_errors(labels, chances, settings=LabelErrorSettings(draws=0)).noise
    assert plain.share_wrong_interval == (plain.share_wrong, plain.share_wrong)
    assert plain.noise_matrix_interval is None


def test_draws_that_cannot_be_made():
    sums = np.eye(2)
    for changes in ({"draws": -1}, {"confidence": 1.0}):
        with pytest.raises(SettingsError, match="bootstrap"):
            estimate_noise(sums, sums, **changes)


def test_many_classes_get_no_interval_of_each_entry(monkeypatch):
    monkeypatch.setattr("tilth.curate.noise_matrix.MOST_ENTRIES", 100)
    labels, chances, _ = noisy_set(rows=600)
    noise = find_label_errors(labels, chances).noise
    assert noise.noise_matrix_interval is None
    assert noise.share_wrong_interval[0] < noise.share_wrong_interval[1]


def test_matrix_without_an_inverse_is_mixed_with_the_identity():
    coin = np.full((2, 2), 0.5)
    inverse = stable_inverse(coin)
    assert np.isfinite(inverse).all()
    assert np.abs(inverse).sum(axis=0).max() <= 20
    mild = noise_matrix(4, 0.2, pairs=False)
    np.testing.assert_allclose(stable_inverse(mild) @ mild, np.eye(4), atol=1e-12)


def test_class_that_is_never_true_is_given_rightly():
    matrix = noise_matrix_of(np.array([[0.5, 0.0], [0.5, 0.0]]))
    np.testing.assert_allclose(matrix, [[0.5, 0], [0.5, 1]])


@pytest.mark.parametrize("power", [0.25, 1.0, 3.0])
def test_exponent_undoes_what_a_judge_over_or_understates(power):
    labels, chances, _ = noisy_set(rows=40_000)
    raised = sharpened(chances, power)
    assert fitting_exponent(raised, labels) * power == pytest.approx(1, abs=0.15)


def test_exponent_is_where_the_cross_entropy_is_least():
    labels, chances, _ = noisy_set(rows=2000)
    best = fitting_exponent(chances, labels)

    def cross_entropy(exponent):
        own = sharpened(chances.astype(np.float64), exponent)[np.arange(2000), labels]
        return -np.log(own).mean()

    lowest = min(np.linspace(0.5, 2, 151), key=cross_entropy)
    assert best == pytest.approx(lowest, abs=0.02)


def test_exponent_stays_finite_where_labels_contradict_or_confirm_everything():
    sure = np.where(np.arange(2) == np.zeros((50, 1)), 0.9, 0.1)
    for labels in (np.zeros(50, int), np.ones(50, int)):
        assert 0.05 <= fitting_exponent(sure, labels) <= 20


def test_ranks_know_each_class_alone_and_share_ties():
    signal = np.array([10.0, 20.0, 20.0, 30.0, 0.1, 0.2, np.nan])
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    found = rank_within_class(signal, labels)
    np.testing.assert_allclose(found, [0, 0.5, 0.5, 1, 0, 1, np.nan])
