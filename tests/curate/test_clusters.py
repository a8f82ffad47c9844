"""Clusters: found again under any order, numbered by size, and clear about what cannot be done."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from curate_sets import dataset_of
from hypothesis import given
from hypothesis import strategies as st

from tilth.curate.clusters import cluster, media_clusters, project_2d
from tilth.errors import DataError, SettingsError

CENTRES = np.array([[0.0, 0, 0], [8, 0, 0], [0, 9, 0], [0, 0, 300]])
SIZES = (70, 40, 25, 15)


def blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four groups of known sizes; the last column has another unit than the others."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(4), SIZES)
    rows = CENTRES[truth] + rng.normal(scale=[0.5, 0.5, 10], size=(len(truth), 3))
    return rows, truth


def test_groups_are_found_and_numbered_from_the_largest() -> None:
    rows, truth = blobs()
    found = cluster(rows, k=4, seed=1)
    np.testing.assert_array_equal(found.labels, truth)
    assert found.sizes.tolist() == list(SIZES)
    assert found.k == 4
    assert found.silhouette > 0.7


@given(st.integers(0, 1000))
def test_order_of_rows_and_seed_do_not_change_labels(seed: int) -> None:
    rows, truth = blobs()
    order = np.random.default_rng(seed).permutation(len(rows))
    np.testing.assert_array_equal(cluster(rows[order], k=4, seed=seed).labels, truth[order])


def test_equal_clusters_are_numbered_by_their_centres() -> None:
    rows = np.array([[5.0], [5.1], [1.0], [1.1], [3.0], [3.1]])
    assert cluster(rows, k=3).labels.tolist() == [2, 2, 0, 0, 1, 1]


def test_standardising_lets_every_unit_count() -> None:
    rows, truth = blobs()
    in_metres = rows * [1, 1, 1000]
    np.testing.assert_array_equal(cluster(in_metres, k=4).labels, truth)


def test_automatic_k_takes_the_best_silhouette() -> None:
    rows, truth = blobs()
    found = cluster(rows, k="auto")
    assert found.k == 4
    assert found.silhouette == max(found.silhouette_by_k.values())
    assert set(found.silhouette_by_k) == set(range(2, 9))
    np.testing.assert_array_equal(found.labels, truth)


def test_new_rows_go_to_the_nearest_centre_under_the_first_scaling() -> None:
    rows, _ = blobs()
    found = cluster(rows, k=4)
    np.testing.assert_array_equal(found.assign(rows), found.labels)
    np.testing.assert_array_equal(found.assign(CENTRES), [0, 1, 2, 3])
    distance = np.linalg.norm(found.standardise(rows)[:, None] - found.centres[None], axis=2)
    np.testing.assert_array_equal(found.assign(rows), distance.argmin(axis=1))


def test_a_constant_column_changes_nothing() -> None:
    rows, truth = blobs()
    with_constant = np.column_stack([rows, np.full(len(rows), 0.1 + 0.2)])
    found = cluster(with_constant, k=4)
    np.testing.assert_array_equal(found.labels, truth)
    assert np.isfinite(found.standardise(with_constant)).all()


def test_one_cluster_has_no_silhouette() -> None:
    found = cluster(blobs()[0], k=1)
    assert set(found.labels.tolist()) == {0}
    assert np.isnan(found.silhouette)


def test_refuses_nan_and_says_where() -> None:
    rows, _ = blobs()
    rows[7, 2] = np.nan
    with pytest.raises(DataError, match="row 7, column 2"):
        cluster(rows)


@pytest.mark.parametrize("rows", [np.empty((0, 3)), np.ones((10, 2)), np.eye(3)])
@pytest.mark.parametrize("k", [4, "auto"])
def test_refuses_fewer_different_rows_than_clusters(rows: np.ndarray, k: int | str) -> None:
    if k == "auto" and len(rows) == 3:
        assert cluster(rows, k="auto").k in (2, 3)
        return
    with pytest.raises(DataError, match="fewer different rows"):
        cluster(rows, k=k)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [0, -1, True, 2.5, "four"])
def test_refuses_a_k_that_is_no_number_of_clusters(k: object) -> None:
    with pytest.raises(SettingsError, match="number of clusters"):
        cluster(blobs()[0], k=k)  # type: ignore[arg-type]


def test_refuses_features_of_another_width() -> None:
    found = cluster(blobs()[0])
    with pytest.raises(DataError, match="not the ones"):
        found.assign(np.zeros((2, 5)))


def test_a_picture_goes_to_the_cluster_of_most_of_its_objects() -> None:
    dataset = dataset_of([3, 0, 1])
    labels = np.array([1, 0, 1, 2])
    assert media_clusters(dataset, labels).tolist() == [1, -1, 2]


def test_a_tie_goes_to_the_globally_rarest_then_the_lower_number() -> None:
    dataset = dataset_of([2, 2, 1])
    # Objects in all: cluster 0 has 2, cluster 1 has 2, cluster 2 has 1.
    assert media_clusters(dataset, np.array([0, 2, 0, 1, 1])).tolist() == [2, 0, 1]


def test_objects_without_a_cluster_are_not_counted() -> None:
    dataset = dataset_of([3, 1])
    assert media_clusters(dataset, np.array([-1, -1, 1, -1])).tolist() == [1, -1]
    assert media_clusters(dataset, np.full(4, -1)).tolist() == [-1, -1]


@given(st.data())
def test_pictures_match_a_plain_vote(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    m = sum(counts)
    labels = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=m, max_size=m)), dtype=int)
    totals = [int((labels == c).sum()) for c in range(4)]
    expected, start = [], 0
    for count in counts:
        own = [int(label) for label in labels[start : start + count] if label >= 0]
        start += count
        ranked = sorted(set(own), key=lambda c: (-own.count(c), totals[c], c))
        expected.append(ranked[0] if ranked else -1)
    assert media_clusters(dataset_of(counts), labels).tolist() == expected


def test_refuses_labels_of_another_dataset() -> None:
    with pytest.raises(DataError, match="do not belong together"):
        media_clusters(dataset_of([2, 1]), np.array([0, 1]))


def test_principal_plane_keeps_distances_of_flat_data_and_never_flips() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 6))
    plane = project_2d(flat)
    for first, second in rng.integers(0, 50, size=(20, 2)):
        expected = np.linalg.norm(flat[first] - flat[second])
        assert np.linalg.norm(plane[first] - plane[second]) == pytest.approx(expected)
    order = rng.permutation(50)
    np.testing.assert_allclose(project_2d(flat[order]), plane[order], atol=1e-9)


@pytest.mark.parametrize("rows", [np.zeros((1, 3)), np.ones((4, 1)), np.zeros((5, 4))])
def test_projection_of_degenerate_rows_is_defined(rows: np.ndarray) -> None:
    plane = project_2d(rows)
    assert plane.shape == (len(rows), 2)
    assert np.isfinite(plane).all()


def test_refuses_an_unknown_projection() -> None:
    with pytest.raises(SettingsError, match="projection"):
        project_2d(np.zeros((3, 2)), "tsne")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="extra 'map' not installed")
def test_umap_separates_the_groups_and_repeats() -> None:
    rows, truth = blobs()
    standard = cluster(rows).standardise(rows)
    first, second = (project_2d(standard, "umap", seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    nearest = np.linalg.norm(first[:, None] - first[None], axis=2) + np.eye(len(rows)) * 1e9
    assert (truth[nearest.argmin(axis=1)] == truth).mean() > 0.95
