"""Wrong labels on purpose: what each noise means, what came out, and what cannot be used."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.data.instance_noise import flip_rates, wrong_class_chances
from tilth.data.label_noise import NOISE_KINDS, inject_label_noise
from tilth.data.label_noise_draws import apportioned, draws
from tilth.data.label_noise_maps import CIFAR100_SUPERCLASSES, NAMED_FLIPS, cifar100_superclasses
from tilth.errors import DataError, EmptyDatasetError, SettingsError

LABELS = np.random.default_rng(0).integers(0, 10, 20_000)
FEATURES = np.random.default_rng(1).standard_normal((len(LABELS), 5))
MATRIX = np.full((10, 10), 0.04) + 0.6 * np.eye(10)
EXTRA = {
    "asymmetric": {"flips": "cifar10"},
    "superclass": {"superclasses": [0, 0, 1, 1, 1, 2, 2, 2, 2, 3]},
    "instance_dependent": {"features": FEATURES},
    "matrix": {"matrix": MATRIX},
}


def noise_of(kind, rate, **more):
    arguments = EXTRA.get(kind, {}) | more
    if kind != "matrix":  # which has a rate of its own
        arguments["rate"] = rate
    return inject_label_noise(LABELS, 10, kind=kind, **arguments)


@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize("exact", [False, True])
def test_the_record_says_what_came_out(kind, exact):
    noisy, noise = noise_of(kind, 0.3, exact=exact)
    assert noisy.dtype == np.int64
    np.testing.assert_array_equal(noise.changed, noisy != LABELS)
    assert noise.realised_rate == (noisy != LABELS).mean()
    plain = np.zeros((10, 10), dtype=int)
    for true, given_label in zip(LABELS.tolist(), noisy.tolist(), strict=True):
        plain[true, given_label] += 1
    np.testing.assert_array_equal(noise.counts, plain)
    np.testing.assert_allclose(noise.transition_matrix.sum(axis=1), 1)
    np.testing.assert_allclose(noise.realised_matrix, noise.transition_matrix, atol=0.04)
    assert abs(noise.realised_rate - noise.expected_rate) < 0.015
    document = noise.document([f"class {row}" for row in range(10)])
    assert document["changed"] == int(noise.changed.sum())
    assert document["definition"] == noise.definition


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_a_seed_gives_the_same_labels_and_another_seed_others(kind):
    first, _ = noise_of(kind, 0.4, seed=7)
    np.testing.assert_array_equal(noise_of(kind, 0.4, seed=7)[0], first)
    assert (noise_of(kind, 0.4, seed=8)[0] != first).any()


@pytest.mark.parametrize("kind", [kind for kind in NOISE_KINDS if kind != "matrix"])
@pytest.mark.parametrize("exact", [False, True])
def test_no_noise_changes_nothing(kind, exact):
    noisy, noise = noise_of(kind, 0.0, exact=exact)
    np.testing.assert_array_equal(noisy, LABELS)
    assert noise.realised_rate == noise.expected_rate == 0


@pytest.mark.parametrize(
    "kind", ["symmetric_flip", "symmetric_uniform", "asymmetric", "pair_flip", "superclass"]
)
def test_more_noise_keeps_the_wrong_labels_of_less(kind):
    less, record = noise_of(kind, 0.2)
    more, _ = noise_of(kind, 0.5)
    np.testing.assert_array_equal(more[record.changed], less[record.changed])


def test_the_two_symmetric_noises_differ_by_the_true_class():
    _, flip = noise_of("symmetric_flip", 0.8)
    _, uniform = noise_of("symmetric_uniform", 0.8)
    assert flip.expected_rate == pytest.approx(0.8)
    assert uniform.expected_rate == pytest.approx(0.8 * 9 / 10)
    assert abs(uniform.realised_rate - 0.72) < 0.01
    np.testing.assert_allclose(uniform.transition_matrix, 0.2 * np.eye(10) + 0.08)


def test_every_label_wrong_is_possible():
    noisy, noise = noise_of("symmetric_flip", 1.0)
    assert (noisy != LABELS).all()
    assert noise.realised_rate == 1


@pytest.mark.parametrize("kind", ["asymmetric", "pair_flip", "superclass"])
def test_labels_go_where_the_noise_says(kind):
    noisy, noise = noise_of(kind, 0.4)
    allowed = {
        "asymmetric": {c: {t} for c, t in NAMED_FLIPS["cifar10"][1].items()},
        "pair_flip": {c: {(c + 1) % 10} for c in range(10)},
        "superclass": {0: {1}, 1: {0}, 2: {3, 4}, 3: {2, 4}, 4: {2, 3}}
        | {c: {5, 6, 7, 8} - {c} for c in range(5, 9)},
    }[kind]
    for true in range(10):
        went = set(noisy[(true == LABELS) & noise.changed].tolist())
        assert went == allowed.get(true, set())


def test_asymmetric_noise_takes_a_matrix_of_destinations():
    where = np.eye(10)
    where[3] = 0.5 * np.eye(10)[5] + 0.5 * np.eye(10)[7]
    _, noise = inject_label_noise(LABELS, 10, kind="asymmetric", rate=0.4, matrix=where)
    assert noise.transition_matrix[3, [3, 5, 7]].tolist() == pytest.approx([0.6, 0.2, 0.2])
    assert not noise.changed[LABELS != 3].any()


def test_the_release_halves_the_rate_of_the_whole_set():
    balanced = np.repeat(np.arange(10), 100)
    _, by_class = inject_label_noise(balanced, 10, kind="asymmetric", rate=0.4, flips="cifar10")
    _, halved = inject_label_noise(
        balanced, 10, kind="asymmetric", rate=0.4, flips="cifar10", rate_of="half_set", exact=True
    )
    np.testing.assert_allclose(halved.transition_matrix, by_class.transition_matrix)
    assert halved.realised_rate == 0.2
    _, whole = inject_label_noise(
        balanced, 10, kind="asymmetric", rate=0.4, flips="cifar10", rate_of="set", exact=True
    )
    assert whole.realised_rate == 0.4
    assert whole.transition_matrix[2, 0] == pytest.approx(0.8)
    assert "whole set" in whole.definition
    with pytest.raises(SettingsError, match="not so many labels"):
        inject_label_noise(
            balanced, 10, kind="asymmetric", rate=0.6, flips="cifar10", rate_of="set"
        )


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    kind=st.sampled_from(["symmetric_flip", "symmetric_uniform", "pair_flip"]),
    rate=st.floats(0, 1),
    seed=st.integers(0, 5),
)
@settings(max_examples=80, deadline=None)
def test_exact_counts_are_within_one_of_what_is_expected(labels, kind, rate, seed):
    _, noise = inject_label_noise(labels, 4, kind=kind, rate=rate, seed=seed, exact=True)
    expected = len(labels) * noise.expected_rate
    assert abs(noise.changed.sum() - expected) <= 0.5 + 1e-9
    sizes = np.bincount(labels, minlength=4)
    wrong = sizes - np.diag(noise.counts)
    assert (np.abs(wrong - sizes * (1 - np.diag(noise.transition_matrix))) < 1 + 1e-9).all()
    cells = wrong[:, None] * (1 - np.eye(4)) * noise.transition_matrix
    cells /= np.maximum(cells.sum(axis=1, keepdims=True), 1e-300) / np.maximum(wrong, 1)[:, None]
    off = ~np.eye(4, dtype=bool)
    assert (np.abs(noise.counts - cells)[off] < 1 + 1e-9).all()


@given(shares=st.lists(st.floats(0, 50), min_size=1, max_size=12))
def test_apportioned_numbers_sum_up_and_are_rounded(shares):
    shares = np.array(shares)
    numbers = apportioned(shares, round(float(shares.sum())))
    assert numbers.sum() == round(float(shares.sum()))
    assert (np.abs(numbers - shares) < 1 + 1e-9).all()


def test_flip_rates_are_a_cut_normal():
    scipy_stats = pytest.importorskip("scipy.stats")
    for rate in (0.05, 0.4, 0.97):
        rates = flip_rates(50_000, rate, 0.1, seed=3)
        assert ((rates >= 0) & (rates <= 1)).all()
        cut = scipy_stats.truncnorm(-rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1)
        assert scipy_stats.kstest(rates, cut.cdf).pvalue > 0.001


def test_instance_noise_matches_a_plain_twin():
    labels, features = LABELS[:300], FEATURES[:300]
    noisy, noise = inject_label_noise(
        labels, 10, kind="instance_dependent", rate=0.4, features=features, seed=2
    )
    rates = flip_rates(300, 0.4, 0.1, seed=2)
    touch, aim = draws(300, seed=2)
    mean = np.zeros((10, 10))
    for row, true in enumerate(labels.tolist()):
        (chances,) = wrong_class_chances(features[row : row + 1], true, 10, seed=2)
        assert chances[true] == 0
        assert math.isclose(chances.sum(), 1)
        chances = rates[row] * chances
        mean[true] += chances
        mean[true, true] += 1 - rates[row]
        if touch[row] >= rates[row]:
            assert noisy[row] == true
        else:
            reached = aim[row] * rates[row]
            before = chances[: noisy[row]].sum()
            assert before - 1e-12 <= reached <= before + chances[noisy[row]] + 1e-12
    np.testing.assert_allclose(noise.transition_matrix, mean / np.bincount(labels)[:, None])


def test_instance_noise_depends_on_the_features():
    """Alike examples are mistaken alike: that is what a matrix of classes cannot say."""
    two = np.repeat(np.random.default_rng(0).standard_normal((2, 5)) * 3, 5_000, axis=0)
    labels = np.zeros(10_000, dtype=np.int64)
    noisy, noise = inject_label_noise(
        labels, 10, kind="instance_dependent", rate=0.4, features=two, seed=0
    )
    first, second = (
        np.bincount(half[half != 0], minlength=10) / (half != 0).sum()
        for half in (noisy[:5_000], noisy[5_000:])
    )
    assert np.abs(first - second).sum() > 0.5
    assert abs(noise.realised_rate - 0.4) < 0.02


def test_instance_noise_with_exact_counts_prefers_the_examples_with_high_rates():
    _, noise = noise_of("instance_dependent", 0.3, exact=True)
    assert int(noise.changed.sum()) == 6_000
    rates = flip_rates(len(LABELS), 0.3, 0.1, seed=0)
    assert rates[noise.changed].mean() > rates[~noise.changed].mean() + 0.03


def test_features_of_huge_scale_give_finite_chances():
    chances = wrong_class_chances(FEATURES[:20] * 1e200, 3, 10, seed=0)
    assert np.isfinite(chances).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1)


def test_cifar100_has_twenty_superclasses_of_five():
    superclasses = cifar100_superclasses()
    assert np.bincount(superclasses).tolist() == [5] * 20
    names = sorted(name for names in CIFAR100_SUPERCLASSES.values() for name in names)
    # apple, baby, bear, ..., worm: known places of the data set's own numbering
    assert [names[row] for row in (0, 2, 11, 35, 98, 46, 99)] == [
        "apple", "baby", "boy", "girl", "woman", "man", "worm",
    ]  # fmt: skip
    _, noise = inject_label_noise(
        np.repeat(np.arange(100), 20), 100, kind="superclass", rate=0.4, superclasses="cifar100"
    )
    same = superclasses[:, None] == superclasses
    assert (noise.counts[~same] == 0).all()


@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, math.inf])
def test_a_rate_out_of_range_is_refused(kind, rate):
    with pytest.raises(SettingsError, match="rate"):
        inject_label_noise(LABELS, 10, kind=kind, rate=rate, **EXTRA.get(kind, {}))


@pytest.mark.parametrize("labels", [[0, 10], [-1, 2]])
def test_labels_outside_the_classes_are_refused_with_their_row(labels):
    with pytest.raises(DataError, match="outside the 10 classes") as refused:
        inject_label_noise(labels, 10, kind="pair_flip", rate=0.1)
    assert refused.value.where == f"row {[0 <= label < 10 for label in labels].index(False)}"


def test_labels_that_are_no_labels_are_refused():
    with pytest.raises(EmptyDatasetError):
        inject_label_noise([], 10, kind="pair_flip", rate=0.1)
    with pytest.raises(DataError, match="whole number"):
        inject_label_noise([0.5, 1.0], 10, kind="pair_flip", rate=0.1)
    with pytest.raises(SettingsError, match="another class"):
        inject_label_noise([0, 0], 1, kind="symmetric_flip", rate=0.1)


@pytest.mark.parametrize(
    ("row", "said"),
    [([0.5, 0.6], "sum 1.1"), ([1.5, -0.5], "1.5"), ([math.nan, 1.0], "nan")],
)
def test_a_matrix_that_is_not_stochastic_is_refused(row, said):
    with pytest.raises(SettingsError, match="not stochastic") as refused:
        inject_label_noise([0, 1], 2, kind="matrix", matrix=[[1.0, 0.0], row])
    assert refused.value.where == "row 1"
    assert said in refused.value.got


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "matrix"},
        {"kind": "matrix", "matrix": np.eye(3)},
        {"kind": "matrix", "matrix": MATRIX, "rate": 0.2},
        {"kind": "asymmetric", "rate": 0.2},
        {"kind": "asymmetric", "rate": 0.2, "flips": {}},
        {"kind": "asymmetric", "rate": 0.2, "flips": {3: 10}},
        {"kind": "asymmetric", "rate": 0.2, "flips": {3: 3}},
        {"kind": "asymmetric", "rate": 0.2, "flips": "imagenet"},
        {"kind": "asymmetric", "rate": 0.2, "flips": {3: 5}, "matrix": MATRIX},
        {"kind": "superclass", "rate": 0.2},
        {"kind": "superclass", "rate": 0.2, "superclasses": "cifar100"},
        {"kind": "superclass", "rate": 0.2, "superclasses": range(10)},
        {"kind": "pair_flip", "rate": 0.2, "rate_of": "set"},
        {"kind": "asymmetric", "rate": 0.2, "flips": {3: 5}, "rate_of": "half"},
        {"kind": "symmetric", "rate": 0.2},
    ],
)
def test_a_noise_that_is_not_fully_said_is_refused(arguments):
    with pytest.raises(SettingsError):
        inject_label_noise(LABELS, 10, **arguments)


def test_symmetric_alone_is_refused_with_both_meanings():
    with pytest.raises(SettingsError) as refused:
        inject_label_noise(LABELS, 10, kind="symmetric", rate=0.2)
    assert "symmetric_flip" in refused.value.fix
    assert "symmetric_uniform" in refused.value.fix


@pytest.mark.parametrize("features", [None, FEATURES[:5], np.full((len(LABELS), 2), np.nan)])
def test_features_that_do_not_fit_are_refused(features):
    with pytest.raises(DataError):
        noise_of("instance_dependent", 0.2, features=features)
