"""The record of the clusters says what a plain count says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawn_sets import drawn_project

from tilth.curate import rebalance
from tilth.curate.augment import Augmentation
from tilth.curate.box_clusters import cluster_boxes, cluster_labels
from tilth.curate.clusters import media_clusters
from tilth.curate.measure import measure
from tilth.data.records import Split
from tilth.recipes import cluster_view as module
from tilth.recipes.cluster_view import cluster_view


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    project = drawn_project(tmp_path_factory.mktemp("clusters") / "p", train=12, test=6)
    measure(project, progress=False)
    cluster_boxes(project, k=3)
    data = project.catalogue.read()
    plan = rebalance.plan(
        data,
        media_clusters(data, cluster_labels(project, data)),
        name="equal",
        augmentation=Augmentation(scale=(0.9, 1.0)),
    )
    other = rebalance.random_plan(data, 4, name="other")
    for one in (plan, other):
        rebalance.run(project, one, progress=False)
    measure(project, progress=False)
    boxes = cluster_boxes(project, k=3)
    data = project.catalogue.read()
    labels = cluster_labels(project, data)
    return SimpleNamespace(data=data, labels=labels, boxes=boxes, plan=plan)


def view_of(clustered: SimpleNamespace):
    arguments = (clustered.data, clustered.labels, clustered.boxes, clustered.plan)
    return cluster_view(*arguments, projection="pca")


def test_boxes_are_counted_by_picture(clustered: SimpleNamespace) -> None:
    before, after = Counter(), Counter()
    media, annotations = clustered.data.media, clustered.data.annotations
    for row, label in zip(annotations.media_index, clustered.labels, strict=True):
        if media.split[row] != Split.TRAIN:
            continue
        if media.parent_id[row] < 0:
            before[int(label)] += 1
        if media.parent_id[row] < 0 or "augmented/equal/" in media.uri[row]:
            after[int(label)] += 1
    view = view_of(clustered)
    assert view.counts_before == [before[cluster] for cluster in range(3)]
    assert view.counts_after == [after[cluster] for cluster in range(3)]
    assert sum(view.counts_after) > sum(view.counts_before) > 0
    assert len(view.points_before) == sum(view.counts_before)
    assert len(view.points_after) == sum(view.counts_after)


def test_pictures_are_those_of_the_plan(clustered: SimpleNamespace) -> None:
    view = view_of(clustered)
    assert [(row.have, row.to_make) for row in view.plan] == [
        (one.have, one.target - one.have) for one in clustered.plan.clusters
    ]
    by_cluster = {row.cluster: row.have for row in view.plan}
    # In the plan's own words: a tie is not broken anew when there are more pictures to count.
    assert view.images_before == [by_cluster.get(cluster, 0) for cluster in range(3)]
    made = sum(uri.startswith("augmented/equal/") for uri in clustered.data.media.uri)
    assert sum(view.images_after) == sum(view.images_before) + made
    assert made == clustered.plan.to_make


def test_points_are_the_places_of_their_boxes(clustered: SimpleNamespace) -> None:
    place = {
        int(box): (x.round(3), y.round(3))
        for box, (x, y) in zip(
            clustered.boxes.annotation_ids, clustered.boxes.coordinates, strict=True
        )
    }
    media, annotations = clustered.data.media, clustered.data.annotations
    expected = [
        [*place[int(box)], int(label), float(media.parent_id[row] >= 0)]
        for box, row, label in zip(
            annotations.id, annotations.media_index, clustered.labels, strict=True
        )
        if media.split[row] == Split.TRAIN and "augmented/other/" not in media.uri[row]
    ]
    view = view_of(clustered)
    assert sorted(view.points_after) == sorted(expected)
    originals = [point[:3] for point in expected if point[3] == 0]
    assert sorted(view.points_before) == sorted(originals)
    assert view.projection_name == "PCA"


def test_a_box_without_a_cluster_is_not_counted(clustered: SimpleNamespace) -> None:
    labels = clustered.labels.copy()
    first = int(np.flatnonzero(clustered.data.media.split == Split.TRAIN)[0])
    own = clustered.data.rows_of(first)
    lost = own.stop - own.start
    labels[own] = -1
    view = cluster_view(clustered.data, labels, clustered.boxes, clustered.plan, projection="umap")
    assert sum(view.counts_before) == sum(view_of(clustered).counts_before) - lost
    assert len(view.points_before) == sum(view.counts_before)


def test_a_map_of_many_is_thinned_evenly_and_always_alike(
    clustered: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = view_of(clustered)
    monkeypatch.setattr(module, "MAX_POINTS", 9)
    thin = view_of(clustered)
    assert len(thin.points_before) == len(thin.points_after) == 9
    assert {tuple(point) for point in thin.points_after} <= set(map(tuple, whole.points_after))
    assert thin.counts_after == whole.counts_after
    assert view_of(clustered) == thin


def test_the_view_can_be_written(clustered: SimpleNamespace, tmp_path: Path) -> None:
    from tilth.recipes.experiment import ExperimentResult

    path = tmp_path / "report.json"
    result = ExperimentResult(title="", clusters=view_of(clustered))
    result.to_json(path)
    assert ExperimentResult.from_json(path) == result
