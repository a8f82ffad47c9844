"""The best threshold of a class is the one that trying them all finds."""

from __future__ import annotations

import numpy as np
import pytest
from scored_sets import NO_DETECTIONS, make_detections, make_truth, random_set

from tilth.metrics.matching import match
from tilth.metrics.operating_points import operating_points, score_curves


def tried(truth, detections, threshold, category):
    """Right, wrong and missed of a class when only detections from a threshold up are kept."""
    every = match(truth, detections)
    own = (detections.category_index == category) & (detections.score >= threshold)
    right = (every.is_true_positive & own).sum()
    wrong = (every.is_false_positive & own).sum()
    singles = ~truth.annotations.is_crowd & (truth.annotations.category_index == category)
    return right, wrong, singles.sum() - right


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_is_found_by_trying_all(seed):
    truth, detections = random_set(seed, num_classes=2)
    found = operating_points(truth, detections)
    for category in range(2):
        f1 = {}
        for threshold in np.unique(detections.score):
            right, wrong, missed = tried(truth, detections, threshold, category)
            f1[float(threshold)] = 2 * right / (2 * right + wrong + missed)
        point = found[f"class {category}"]
        assert point.f1 == pytest.approx(max(f1.values()))
        assert point.score == max(score for score, value in f1.items() if value == point.f1)
        right, wrong, missed = tried(truth, detections, point.score, category)
        assert point.precision == pytest.approx(right / (right + wrong))
        assert point.recall == pytest.approx(right / (right + missed))


@pytest.mark.parametrize("seed", range(3))
def test_curves_are_what_is_kept_at_each_threshold(seed):
    truth, detections = random_set(seed, num_classes=2)
    curves = score_curves(truth, detections, num_scores=21)
    for category in range(2):
        for place, threshold in enumerate(curves.scores):
            right, wrong, missed = tried(truth, detections, threshold, category)
            expected = right / (right + wrong) if right + wrong else 1.0
            assert curves.precision[category, place] == pytest.approx(expected)
            assert curves.recall[category, place] == pytest.approx(right / (right + missed))


def test_a_class_without_truth_or_detections_has_no_best_threshold():
    truth = make_truth([0], [0], [[0, 0, 9, 9]], num_media=1, num_classes=2)
    alone = make_detections([0], [1], [[0, 0, 9, 9]], [0.5])
    assert operating_points(truth, alone) == {"class 0": None, "class 1": None}
    assert operating_points(truth, NO_DETECTIONS) == {"class 0": None, "class 1": None}
    curves = score_curves(truth, NO_DETECTIONS)
    assert np.isnan(curves.f1[1]).all()
    assert (curves.recall[0] == 0).all()
    assert (curves.f1[0] == 0).all()
