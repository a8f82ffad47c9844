"""The clusters of a project's boxes, kept in the catalogue beside their features.

The clusters are found on the boxes of training originals, where there are splits, so that held-out
pictures have no say in them; every other measured box is assigned to the nearest centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.curate.box_features import CLUSTER_FEATURE_NAMES
from tilth.curate.clusters import Clusters, cluster, project_2d
from tilth.curate.measure import BOX_FEATURE_SET
from tilth.data.dataset import Dataset
from tilth.data.preannotation import trusted
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import EmptyDatasetError

__all__ = ["BOX_CLUSTER_SET", "BoxClusters", "cluster_boxes", "cluster_labels"]

BOX_CLUSTER_SET = "box_clusters"
_COLUMNS = ("cluster", "map_x", "map_y")


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxClusters:
    """Every measured box of a task with its cluster and its place on the map.

    Attributes:
        annotation_ids: int64 [m], ascending.
        labels: int64 [m].
        coordinates: float64 [m, 2].
        clusters: what was found on the boxes where ``fitted``, bool [m].
        not_measured: boxes of the task that have no features yet, hence no cluster.
    """

    annotation_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    coordinates: NDArray[np.float64]
    fitted: NDArray[np.bool_]
    clusters: Clusters
    not_measured: int


def cluster_boxes(
    project: Project,
    *,
    task: str = "detection",
    k: int | Literal["auto"] = 4,
    projection: Literal["pca", "umap"] = "pca",
    seed: int = 0,
) -> BoxClusters:
    """Cluster the boxes of a task by the source's six features, and store the result.

    Boxes that a model proposed have a cluster once they are reviewed.

    Raises:
        EmptyDatasetError: no box, or none that may decide, has been measured.
        DataError: fewer different boxes than clusters.
    """
    dataset = trusted(project.catalogue.read(task))
    ids, rows = _measured(project, dataset)
    fitted = np.isin(ids, dataset.annotations.id[_is_evidence(dataset)])
    if not fitted.any():
        raise EmptyDatasetError("no box of a training picture is measured", fix="tilth metrics")
    found = cluster(rows[fitted], k, seed=seed)
    labels = found.assign(rows)
    labels[fitted] = found.labels  # k-means' own, where a box lies just between two centres
    coordinates = project_2d(found.standardise(rows), projection, seed=seed)
    values = np.column_stack([labels, coordinates])
    project.catalogue.write_features(BOX_CLUSTER_SET, _COLUMNS, "annotation", ids, values)
    return BoxClusters(
        annotation_ids=ids,
        labels=labels,
        coordinates=coordinates,
        fitted=fitted,
        clusters=found,
        not_measured=len(dataset.annotations) - len(ids),
    )


def cluster_labels(project: Project, dataset: Dataset) -> NDArray[np.int64]:
    """int64 [m]: the stored cluster of each annotation; -1 where there is none, or it is stale."""
    stored = project.catalogue.read_features(BOX_CLUSTER_SET)
    labels = np.full(len(dataset.annotations), -1, dtype=np.int64)
    if len(stored.ids):
        at = np.minimum(np.searchsorted(stored.ids, dataset.annotations.id), len(stored.ids) - 1)
        known = stored.ids[at] == dataset.annotations.id
        labels[known] = stored.values[at[known], 0].astype(np.int64)
    return labels


def _measured(project: Project, dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ids of the task's measured boxes, and their rows of the features that are clustered."""
    features = project.catalogue.read_features(BOX_FEATURE_SET)
    of_task = np.isin(features.ids, dataset.annotations.id)
    if not of_task.any():
        raise EmptyDatasetError("no box has been measured", fix="tilth metrics")
    columns = [features.columns.index(name) for name in CLUSTER_FEATURE_NAMES]
    return features.ids[of_task], features.values[of_task][:, columns]


def _is_evidence(dataset: Dataset) -> NDArray[np.bool_]:
    """bool [m]: boxes of training originals; of all originals while there are no splits."""
    original = dataset.media.parent_id < 0
    training = original & (dataset.media.split == Split.TRAIN)
    chosen = training if training.any() else original
    return chosen[dataset.annotations.media_index]
