"""The clusters of an experiment before and after rebalancing, as the report's record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilth.curate.box_clusters import BoxClusters
from tilth.curate.box_features import CLUSTER_FEATURE_NAMES
from tilth.curate.clusters import media_clusters
from tilth.curate.rebalance import RebalancePlan, pictures_of
from tilth.data.dataset import Dataset
from tilth.data.records import Split
from tilth.recipes.cluster_words import describe_clusters
from tilth.recipes.experiment import ClusterView, PlanRow
from tilth.seeding import generator

__all__ = ["cluster_view"]

MAX_POINTS = 2_000  # a denser map shows no more, and makes a heavy page


def cluster_view(
    data: Dataset,
    labels: NDArray[np.int64],
    boxes: BoxClusters,
    plan: RebalancePlan,
    *,
    projection: str,
) -> ClusterView:
    """Counts, words and map of the training boxes, without and with the plan's new pictures.

    Args:
        data: originals and derived media.
        labels: int64 [m], the cluster of each annotation of ``data``, -1 for none.
        boxes: where the map's coordinates are.
    """
    k = boxes.clusters.k
    original = (data.media.split == Split.TRAIN) & (data.media.parent_id < 0)
    made = pictures_of(data, plan.name)
    before, after = original, original | made
    # Originals as the plan has them; what was made of them shows where its own objects lie.
    images_before = [len(_media_ids(plan, cluster)) for cluster in range(k)]
    made_clusters = media_clusters(
        data.take(np.flatnonzero(made)), labels[made[data.annotations.media_index]]
    )
    images_made = _counts(made_clusters, k)
    return ClusterView(
        k=k,
        feature_names=list(CLUSTER_FEATURE_NAMES),
        counts_before=_counts(labels[before[data.annotations.media_index]], k),
        counts_after=_counts(labels[after[data.annotations.media_index]], k),
        images_before=images_before,
        images_after=[a + b for a, b in zip(images_before, images_made, strict=True)],
        descriptions=describe_clusters(boxes.clusters.centres, CLUSTER_FEATURE_NAMES),
        projection_name=projection.upper(),
        points_before=[point[:3] for point in _points(data, labels, boxes, before)],
        points_after=_points(data, labels, boxes, after),
        plan=[
            PlanRow(cluster=one.cluster, have=one.have, target=one.target, to_make=one.to_make)
            for one in plan.clusters
        ],
    )


def _media_ids(plan: RebalancePlan, cluster: int) -> tuple[int, ...]:
    return next((one.media_ids for one in plan.clusters if one.cluster == cluster), ())


def _counts(labels: NDArray[np.int64], k: int) -> list[int]:
    return np.bincount(labels[labels >= 0], minlength=k).tolist()


def _points(
    data: Dataset, labels: NDArray[np.int64], boxes: BoxClusters, media: NDArray[np.bool_]
) -> list[list[float]]:
    """``[x, y, cluster, derived]`` of the boxes of some media, thinned evenly at random."""
    rows = np.flatnonzero(media[data.annotations.media_index] & (labels >= 0))
    if len(rows) > MAX_POINTS:
        rows = np.sort(generator(0, "map").choice(rows, MAX_POINTS, replace=False))
    places = boxes.coordinates[np.searchsorted(boxes.annotation_ids, data.annotations.id[rows])]
    derived = data.media.parent_id[data.annotations.media_index[rows]] >= 0
    columns = [places[:, 0].round(3), places[:, 1].round(3), labels[rows], derived]
    return np.column_stack(columns).tolist()
