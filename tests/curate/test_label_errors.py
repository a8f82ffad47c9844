"""Wrong labels are found and ranked; every filter and score is what its definition says."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noisy_labels import f1, noisy_set

from tilth.curate.confident_learning import (
    calibrated_joint,
    class_thresholds,
    confident_joint,
    scan_labels,
)
from tilth.curate.label_error_filters import FILTERS, wrong_counts
from tilth.curate.label_errors import LabelErrorSettings, find_label_errors, label_error_mask
from tilth.curate.label_quality import SCORES, adjusted_probabilities, label_quality
from tilth.errors import DataError, EmptyDatasetError, SettingsError


def scanned(**changes):
    labels, chances, _ = noisy_set(**{"rows": 400, **changes})
    scan = scan_labels(labels, chances)
    return scan, calibrated_joint(confident_joint(scan))


def plain_cells(labels, chances):
    """Eq. 1 and 2 example by example, as they are printed."""
    count, k = chances.shape
    thresholds = [chances[labels == j, j].astype(float).mean() for j in range(k)]
    cells = np.zeros((k, k + 1), dtype=int)
    for i in range(count):
        reached = [j for j in range(k) if chances[i, j] >= thresholds[j] - 1e-6]
        column = max(reached, key=lambda j: (chances[i, j], -j)) if reached else k
        cells[labels[i], column] += 1
    return cells


@pytest.mark.parametrize("seed", range(4))
def test_eq1_confident_joint_matches_plain_loop(seed):
    labels, chances, _ = noisy_set(rows=300, wrong=0.3, seed=seed)
    cells = confident_joint(scan_labels(labels, chances))
    np.testing.assert_array_equal(cells, plain_cells(labels, chances))


def test_eq2_thresholds_by_hand():
    own = np.array([0.2, 0.6, 0.9], dtype=np.float32)
    found = class_thresholds(np.array([0, 0, 2]), own, 4)
    np.testing.assert_allclose(found, [0.4, np.inf, 0.9, np.inf], rtol=1e-6)


def test_eq3_calibrated_joint_keeps_the_given_counts():
    scan, joint = scanned(wrong=0.3)
    np.testing.assert_allclose(joint.sum(axis=1) * len(scan), scan.counts)
    assert joint.sum() == pytest.approx(1)


def test_eq3_every_given_class_is_true_somewhere():
    joint = calibrated_joint(np.array([[0, 3, 1], [0, 0, 5]]))
    assert joint[0, 0] == pytest.approx(4 / 9 / 4)
    assert joint[1, 1] == pytest.approx(5 / 9)


def test_blocks_do_not_show(monkeypatch):
    labels, chances, _ = noisy_set(rows=500)
    whole = find_label_errors(labels, chances)
    for module in ("confident_learning", "label_inputs"):
        monkeypatch.setattr(f"tilth.curate.{module}.BLOCK_VALUES", 64)
    parts = find_label_errors(labels, chances)
    np.testing.assert_array_equal(parts.ranked, whole.ranked)
    np.testing.assert_array_equal(parts.suggested, whole.suggested)
    np.testing.assert_allclose(parts.noise.joint, whole.noise.joint, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_prune_by_noise_rate_matches_plain_loop(seed):
    scan, joint = scanned(wrong=0.3, seed=seed)
    wanted, k = wrong_counts(scan, joint), scan.num_classes
    expected = np.zeros(len(scan), dtype=bool)
    for i in range(k):
        rows = np.flatnonzero(scan.labels == i)
        for j in set(range(k)) - {i}:
            margins = scan.probabilities[rows, j] - scan.own[rows]
            order = np.argsort(-margins)[: wanted[i, j]]
            bound = margins[order].min() if len(order) else np.inf
            expected[rows[(margins >= bound) & (margins > 0)]] = True
    np.testing.assert_array_equal(FILTERS["prune_by_noise_rate"](scan, joint), expected)


@pytest.mark.parametrize("seed", range(3))
def test_prune_by_class_matches_plain_loop(seed):
    scan, joint = scanned(wrong=0.3, seed=seed)
    wanted = wrong_counts(scan, joint).sum(axis=1)
    expected = np.zeros(len(scan), dtype=bool)
    for i in range(scan.num_classes):
        rows = np.flatnonzero(scan.labels == i)
        lowest = np.sort(scan.own[rows])[: wanted[i]]
        if len(lowest):
            expected[rows[scan.own[rows] <= lowest[-1]]] = True
    expected &= scan.predicted != scan.labels
    np.testing.assert_array_equal(FILTERS["prune_by_class"](scan, joint), expected)


def test_filters_agree_with_their_definitions():
    scan, joint = scanned(wrong=0.3)
    masks = {name: rule(scan, joint) for name, rule in FILTERS.items()}
    np.testing.assert_array_equal(
        masks["both"], masks["prune_by_class"] & masks["prune_by_noise_rate"]
    )
    np.testing.assert_array_equal(masks["predicted_neq_given"], scan.predicted != scan.labels)
    cells = confident_joint(scan)[:, :-1]
    assert masks["confident_learning"].sum() == cells.sum() - np.trace(cells)
    number = wrong_counts(scan, joint).sum()
    for name, score in (
        ("low_self_confidence", "self_confidence"),
        ("low_normalised_margin", "normalised_margin"),
    ):
        quality = label_quality(scan, score=score)
        assert masks[name].sum() <= number
        assert quality[masks[name]].max() <= np.sort(quality)[number - 1] + 1e-6
        assert not (masks[name] & (scan.predicted == scan.labels)).any()


def test_posterior_accuses_as_many_as_it_expects():
    labels, chances, _ = noisy_set(wrong=0.25)
    errors = find_label_errors(labels, chances)
    assert errors.is_error.sum() == round(float((1 - errors.quality).sum()))
    assert errors.quality[errors.is_error].max() <= errors.quality[~errors.is_error].min()
    assert errors.is_error.mean() == pytest.approx(errors.noise.share_wrong, abs=1e-3)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("wrong", [0.05, 0.2, 0.4])
def test_posterior_is_not_behind_and_ahead_where_the_noise_has_a_pattern(wrong, pairs):
    labels, chances, true = noisy_set(rows=8000, wrong=wrong, pairs=pairs, seed=3)
    found = {
        name: f1(label_error_mask(labels, chances, filter=name), labels != true) for name in FILTERS
    }
    assert found["posterior"] >= max(found.values()) - 0.02
    if pairs:
        assert found["posterior"] == max(found.values())


def test_posterior_does_not_ask_how_sure_the_judge_sounds():
    labels, chances, true = noisy_set(rows=6000, wrong=0.2)
    scores = []
    for power in (0.4, 1.0, 2.5):
        raised = chances**power
        raised /= raised.sum(axis=1, keepdims=True)
        scores.append(f1(label_error_mask(labels, raised), labels != true))
    assert max(scores) - min(scores) < 0.02


def test_the_mask_alone_is_that_of_the_whole_search():
    labels, chances, _ = noisy_set(wrong=0.3)
    for name in FILTERS:
        found = find_label_errors(labels, chances, settings=LabelErrorSettings(filter=name))
        np.testing.assert_array_equal(
            label_error_mask(labels, chances, filter=name), found.is_error
        )
        assert sorted(found.ranked.tolist()) == np.flatnonzero(found.is_error).tolist()
        assert (np.diff(found.quality[found.ranked]) >= 0).all()


def test_suggested_labels_undo_pair_flips():
    labels, chances, true = noisy_set(rows=6000, wrong=0.35, pairs=True)
    errors = find_label_errors(labels, chances)
    hit = errors.is_error & (labels != true)
    assert (errors.suggested[hit] == true[hit]).mean() > 0.9
    assert (errors.suggested != labels).all()
    assert ((errors.margin >= -1) & (errors.margin <= 1)).all()


def test_half_precision_finds_the_same():
    labels, chances, _ = noisy_set()
    single, half = (find_label_errors(labels, c) for c in (chances, chances.astype(np.float16)))
    assert (single.is_error == half.is_error).mean() > 0.995
    double = find_label_errors(labels, chances.astype(np.float64))
    assert (single.is_error == double.is_error).mean() > 0.999


def test_order_of_the_rows_does_not_matter():
    labels, chances, _ = noisy_set(rows=1500)
    order = np.random.default_rng(1).permutation(len(labels))
    for name in FILTERS:
        here = label_error_mask(labels, chances, filter=name)
        there = label_error_mask(labels[order], chances[order], filter=name)
        np.testing.assert_array_equal(here[order], there)


def test_names_of_the_classes_do_not_matter():
    labels, chances, _ = noisy_set(rows=1500)
    names = np.random.default_rng(2).permutation(5)
    renamed = np.empty_like(chances)
    renamed[:, names] = chances
    here, there = find_label_errors(labels, chances), find_label_errors(names[labels], renamed)
    assert (here.is_error == there.is_error).mean() > 0.999  # sums differ in their last bit
    assert (names[here.suggested] == there.suggested)[here.is_error].all()


def test_scores_by_hand():
    labels, chances = np.array([0, 1, 1]), np.array([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]])
    scan = scan_labels(labels, chances)
    np.testing.assert_allclose(label_quality(scan, score="self_confidence"), [0.5, 1, 0])
    np.testing.assert_allclose(label_quality(scan, score="normalised_margin"), [0.5, 1, 0])
    found = label_quality(scan, score="confidence_weighted_entropy")
    np.testing.assert_allclose(found, [1 / 3, 1, 0], atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 10_000))
def test_scores_lie_between_0_and_1(classes, rows, seed):
    stream = np.random.default_rng(seed)
    chances = stream.dirichlet(np.full(classes, 0.3), size=rows)
    scan = scan_labels(stream.integers(classes, size=rows), chances)
    for score in SCORES:
        for adjusted in (False,) if score == "posterior" else (False, True):
            quality = label_quality(scan, score=score, adjusted=adjusted)
            assert ((quality >= 0) & (quality <= 1)).all()


def test_adjusted_probabilities_lift_a_class_that_is_always_unsure():
    thresholds = np.array([0.9, 0.4])
    unsure = adjusted_probabilities(np.array([[0.6, 0.4]]), thresholds)
    assert unsure[0, 1] > unsure[0, 0]
    assert unsure.sum() == pytest.approx(1)


def test_a_model_that_has_seen_the_labels_is_suspected():
    labels, chances, _ = noisy_set(rows=300)
    seen = np.full_like(chances, 0.01)
    seen[np.arange(300), labels] = 0.96
    with pytest.warns(UserWarning, match=r"agrees with 100.00% of the labels"):
        assert find_label_errors(labels, seen).in_sample
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not find_label_errors(labels, chances).in_sample


def test_a_class_without_an_example_is_reported_and_never_counted():
    labels, chances, _ = noisy_set(rows=400, classes=4)
    wider = np.concatenate([chances * 0.9, np.full((400, 1), 0.1, np.float32)], axis=1)
    errors = find_label_errors(labels, wider)
    assert errors.missing_classes.tolist() == [4]
    assert np.isnan(errors.noise.class_share_wrong[4])
    assert np.isfinite(errors.quality).all()
    assert (errors.suggested[errors.is_error] != 4).all()


def test_one_example_two_classes_and_equal_probabilities_are_answered():
    one = find_label_errors(np.array([1]), np.array([[0.5, 0.5]]))
    assert len(one) == 1
    for name in FILTERS:
        assert label_error_mask(np.zeros(6, int), np.full((6, 3), 1 / 3), filter=name).sum() <= 6


@pytest.mark.parametrize(
    ("labels", "chances", "words"),
    [
        (np.array([0, 2]), np.full((2, 2), 0.5), "none of the classes"),
        (np.array([0, -1]), np.full((2, 2), 0.5), "none of the classes"),
        (np.array([0.0, 1.0]), np.full((2, 2), 0.5), "labels cannot be used"),
        (np.array(["a", "b"]), np.full((2, 2), 0.5), "labels cannot be used"),
        (np.array([[0], [1]]), np.full((2, 2), 0.5), "labels cannot be used"),
        (np.array([0]), np.full((2, 2), 0.5), "not of the same examples"),
        (np.array([0, 1]), np.array([0.5, 0.5]), "probabilities cannot be used"),
        (np.array([0, 1]), np.ones((2, 1)), "probabilities cannot be used"),
        (np.array([0, 1]), np.ones((2, 2), int), "probabilities cannot be used"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 1]]), "values that are none"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [2.0, -1.0]]), "values that are none"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [0.9, 0.9]]), "does not add up to 1"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_its_row(labels, chances, words):
    with pytest.raises(DataError, match=words) as caught:
        find_label_errors(labels, chances)
    assert caught.value.expected


def test_nothing_to_judge_is_refused():
    with pytest.raises(EmptyDatasetError):
        find_label_errors(np.zeros(0, int), np.zeros((0, 3)))


@pytest.mark.parametrize(
    "changes",
    [{"filter": "prune"}, {"score": "margin"}, {"adjusted": True}, {"draws": -1}],
)
def test_settings_that_cannot_be_used(changes):
    with pytest.raises(SettingsError, match=next(iter(changes))):
        LabelErrorSettings(**changes)
    with pytest.raises(SettingsError):
        label_error_mask(np.array([0]), np.array([[1.0, 0.0]]), filter="prune")
