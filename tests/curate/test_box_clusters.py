"""Clusters in the catalogue: found on training boxes alone, kept, and gone when a box moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from curate_sets import project_of, propose

from tilth.curate.box_clusters import BOX_CLUSTER_SET, cluster_boxes, cluster_labels
from tilth.curate.box_features import BOX_FEATURE_NAMES, CLUSTER_FEATURE_NAMES
from tilth.curate.clusters import cluster, media_clusters
from tilth.curate.measure import BOX_FEATURE_SET, measure
from tilth.curate.rebalance import plan, run
from tilth.data.project import Project
from tilth.data.records import ReviewState, Split
from tilth.errors import DataError, EmptyDatasetError


@pytest.fixture
def measured(tmp_path: Path) -> Project:
    project = project_of(tmp_path / "p", [1, 2, 0, 3, 1, 1, 2, 1, 2, 1], split=Split.TRAIN)
    measure(project, progress=False)
    return project


def test_labels_are_kmeans_on_the_six_features(measured: Project) -> None:
    found = cluster_boxes(measured, k=3, seed=5)
    features = measured.catalogue.read_features(BOX_FEATURE_SET)
    columns = [BOX_FEATURE_NAMES.index(name) for name in CLUSTER_FEATURE_NAMES]
    expected = cluster(features.values[:, columns], 3, seed=5)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.annotation_ids, features.ids)
    assert found.fitted.all()
    assert found.coordinates.shape == (14, 2)


def test_stored_labels_stand_at_their_annotations(measured: Project) -> None:
    found = cluster_boxes(measured, k=3)
    dataset = measured.catalogue.read()
    by_id = dict(zip(found.annotation_ids.tolist(), found.labels.tolist(), strict=True))
    expected = [by_id[key] for key in dataset.annotations.id.tolist()]
    assert cluster_labels(measured, dataset).tolist() == expected
    stored = measured.catalogue.read_features(BOX_CLUSTER_SET)
    np.testing.assert_array_equal(stored.values[:, 1:], found.coordinates)


def test_held_out_boxes_have_no_say(measured: Project) -> None:
    media = measured.catalogue.read().media
    splits = np.where(np.arange(10) < 6, Split.TRAIN, Split.TEST).astype(np.int8)
    measured.catalogue.set_splits(media.id, splits)
    found = cluster_boxes(measured, k=2)
    dataset = measured.catalogue.read()
    training = dataset.media.split[dataset.annotations.media_index] == Split.TRAIN
    trained_on = dict(zip(dataset.annotations.id.tolist(), training.tolist(), strict=True))
    assert found.fitted.tolist() == [trained_on[key] for key in found.annotation_ids.tolist()]
    features = measured.catalogue.read_features(BOX_FEATURE_SET).values[found.fitted, :6]
    np.testing.assert_allclose(found.clusters.mean, features.mean(axis=0))
    assert (found.labels >= 0).all()


def test_a_moved_box_has_no_cluster_until_it_is_measured_again(measured: Project) -> None:
    cluster_boxes(measured, k=3)
    annotations = measured.catalogue.read().annotations
    measured.catalogue.update_boxes(annotations.id[3:4], annotations.boxes_xyxy[3:4] + 1.0)
    labels = cluster_labels(measured, measured.catalogue.read())
    assert np.flatnonzero(labels < 0).tolist() == [3]
    measure(measured, progress=False)
    cluster_boxes(measured, k=3)
    assert (cluster_labels(measured, measured.catalogue.read()) >= 0).all()


def test_the_whole_way_from_pictures_to_equal_clusters(measured: Project) -> None:
    """Measure, cluster, plan, make, measure again: derived boxes join the clusters of before."""
    first = cluster_boxes(measured, k=2, seed=1)
    dataset = measured.catalogue.read()
    clusters = media_clusters(dataset, cluster_labels(measured, dataset))
    assert clusters[2] == -1  # the picture without objects
    planned = plan(dataset, clusters, target="equal")
    assert run(measured, planned, progress=False).made == planned.to_make > 0
    measure(measured, progress=False)
    again = cluster_boxes(measured, k=2, seed=1)
    np.testing.assert_array_equal(again.clusters.centres, first.clusters.centres)
    assert len(again.annotation_ids) > len(first.annotation_ids)
    assert again.fitted.sum() == len(first.annotation_ids)


def test_refuses_to_cluster_what_was_not_measured(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p", [1, 1])
    assert cluster_labels(project, project.catalogue.read()).tolist() == [-1, -1]
    with pytest.raises(EmptyDatasetError, match="no box has been measured"):
        cluster_boxes(project)
    measure(project, progress=False)
    with pytest.raises(DataError, match="fewer different rows"):
        cluster_boxes(project, k=4)


def test_proposals_have_no_cluster_and_no_say(measured: Project) -> None:
    before = cluster_boxes(measured, k=3, seed=5)
    proposed = propose(measured, [1, 0, 2, 0, 0, 0, 0, 0, 0, 0])
    # As measured by a version that took proposals for boxes.
    columns = measured.catalogue.read_features(BOX_FEATURE_SET).columns
    odd = np.full((3, len(columns)), 1e3)
    measured.catalogue.write_features(BOX_FEATURE_SET, columns, "annotation", proposed, odd)
    found = cluster_boxes(measured, k=3, seed=5)
    np.testing.assert_array_equal(found.annotation_ids, before.annotation_ids)
    np.testing.assert_array_equal(found.labels, before.labels)
    assert found.not_measured == 0
    labels = cluster_labels(measured, measured.catalogue.read())
    assert (labels < 0).sum() == 3
    measured.catalogue.review(proposed[:1], ReviewState.ACCEPTED)
    assert proposed[0] in cluster_boxes(measured, k=3, seed=5).annotation_ids
