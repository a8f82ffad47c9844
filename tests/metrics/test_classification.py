"""Numbers of a classifier: equal to scikit-learn's, and to plain twins where it has none."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from tilth.errors import DataError, EmptyDatasetError
from tilth.metrics.classification import (
    brier_score,
    classification_scores,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability_bins,
)


def predictions(seed, num=200, classes=4, scale=2.0):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(num, classes))
    labels = np.array([rng.choice(classes, p=row) for row in softmax(logits / 2, axis=1)])
    return logits, softmax(logits, axis=1), labels


@given(seed=st.integers(0, 200), num=st.integers(1, 60), classes=st.integers(2, 6))
def test_scores_equal_sklearn(seed, num, classes):
    _, probabilities, labels = predictions(seed, num, classes)
    scores = classification_scores(probabilities, labels)
    named, every = probabilities.argmax(axis=1), list(range(classes))
    assert scores.accuracy == pytest.approx(sk.accuracy_score(labels, named))
    assert np.array_equal(scores.confusion, sk.confusion_matrix(labels, named, labels=every))
    assert scores.log_loss == pytest.approx(sk.log_loss(labels, probabilities, labels=every))
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        labels, named, labels=every, zero_division=np.nan
    )
    np.testing.assert_allclose(scores.precision, precision)
    np.testing.assert_allclose(scores.recall, recall)
    np.testing.assert_allclose(scores.f1, f1)
    assert np.array_equal(scores.support, support)
    occurs = support > 0
    assert scores.balanced_accuracy == pytest.approx(np.mean(recall[occurs]))
    assert scores.majority_accuracy == support.max() / num
    assert scores.macro_f1 == pytest.approx(sk.f1_score(labels, named, average="macro"))


@given(seed=st.integers(0, 50))
def test_brier_is_twice_the_binary_one(seed):
    _, probabilities, labels = predictions(seed, classes=2)
    binary = sk.brier_score_loss(labels, probabilities[:, 1])
    assert brier_score(probabilities, labels) == pytest.approx(2 * binary)


@given(seed=st.integers(0, 50), num_bins=st.integers(1, 20))
def test_calibration_error_equals_plain_twin(seed, num_bins):
    _, probabilities, labels = predictions(seed, num=80)
    total = 0.0
    for low in range(num_bins):
        inside = [
            row
            for row, best in enumerate(probabilities.max(axis=1))
            if low / num_bins < best <= (low + 1) / num_bins
        ]
        if inside:
            right = np.mean([probabilities[row].argmax() == labels[row] for row in inside])
            sure = np.mean([probabilities[row].max() for row in inside])
            total += len(inside) / 80 * abs(right - sure)
    bins = reliability_bins(probabilities, labels, num_bins=num_bins)
    assert bins.counts.sum() == 80
    assert expected_calibration_error(bins) == pytest.approx(total)


def test_certain_and_right_is_perfect():
    scores = classification_scores(np.eye(3)[[0, 2, 1]], np.array([0, 2, 1]))
    assert (scores.accuracy, scores.log_loss, scores.brier) == (1, 0, 0)
    assert scores.calibration_error == 0


def test_certain_and_wrong_is_finite():
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))


@given(seed=st.integers(0, 50), scale=st.floats(0.5, 8))
def test_temperature_has_the_lowest_loss(seed, scale):
    logits, _, labels = predictions(seed, num=300, scale=scale)
    temperature = fit_temperature(logits, labels)

    def loss(temperature):
        return log_loss(softmax(logits / temperature, axis=1), labels)

    for other in (0.05, 0.5, 1.0, 2.0, 20.0, 0.98 * temperature, 1.02 * temperature):
        assert loss(temperature) <= loss(other) + 1e-9


def test_temperature_finds_what_logits_were_scaled_by():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20_000, 3))
    labels = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert fit_temperature(5 * logits, labels) == pytest.approx(5, rel=0.05)


def test_nothing_to_score_is_refused():
    with pytest.raises(EmptyDatasetError):
        classification_scores(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


@pytest.mark.parametrize(
    ("probabilities", "labels", "words"),
    [
        (np.full((2, 2), 0.5), [0, 2], "no class"),
        (np.full((2, 2), 0.5), [0, -1], "no class"),
        (np.full((2, 2), 0.5), [0], "do not belong together"),
        (np.array([[np.nan, 0.5]]), [0], "not a number"),
    ],
)
def test_what_cannot_be_scored_is_refused(probabilities, labels, words):
    with pytest.raises(DataError, match=words):
        classification_scores(probabilities, np.array(labels))
