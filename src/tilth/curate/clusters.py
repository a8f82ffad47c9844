"""Which boxes look alike: standardised features, k-means, and a map to look at.

Labels mean the same thing on every run: clusters are numbered from the largest to the smallest, and
what standardised the features is kept, so that boxes of another split or another year are assigned
to the clusters that were found on the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilth import lazy
from tilth.data.dataset import Dataset
from tilth.errors import DataError, SettingsError
from tilth.seeding import derive_seed, generator

__all__ = ["Clusters", "cluster", "media_clusters", "project_2d"]

AUTO_K = range(2, 9)
SILHOUETTE_ROWS = 2_000  # its cost grows with the square; 2,000 rows settle the second decimal


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters:
    """A clustering of m feature rows, and what it takes to place new rows in it.

    Attributes:
        labels: int64 [m], 0 is the largest cluster.
        centres: float64 [k, f], in standardised units.
        mean, scale: float64 [f], ``(features - mean) / scale`` is what was clustered.
        silhouette: -1 to 1, on at most 2,000 rows; NaN where it is not defined (k = 1).
        silhouette_by_k: the values that ``k="auto"`` chose from; empty otherwise.
    """

    labels: NDArray[np.int64]
    centres: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    silhouette: float
    silhouette_by_k: dict[int, float]

    @property
    def k(self) -> int:
        """The number of clusters."""
        return len(self.centres)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """int64 [k]: rows in each cluster."""
        return np.bincount(self.labels, minlength=self.k).astype(np.int64)

    def standardise(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [m, f] in the units of ``centres``."""
        features = _checked(features)
        if features.shape[1] != len(self.mean):
            raise DataError(
                "these features are not the ones that were clustered",
                expected=f"{len(self.mean)} columns",
                got=f"{features.shape[1]} columns",
            )
        return (features - self.mean) / self.scale

    def assign(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """int64 [m]: the nearest centre of each row, under the scaling of the first clustering."""
        return _nearest(self.standardise(features), self.centres)


def cluster(
    features: NDArray[np.float64], k: int | Literal["auto"] = 4, *, seed: int = 0
) -> Clusters:
    """Standardise and run k-means (Lloyd, k-means++ starts, best of ten).

    Args:
        features: float64 [m, f]; a constant column has no influence.
        k: number of clusters, or "auto": the k of 2..8 with the best silhouette.

    Raises:
        DataError: NaN or infinite features, or fewer different rows than clusters.
        SettingsError: a ``k`` that is neither a positive number nor "auto".

    >>> found = cluster(np.array([[0.0], [0.1], [9.0]]), k=2)
    >>> found.labels.tolist(), found.assign(np.array([[8.0]])).tolist()
    ([0, 0, 1], [1])
    """
    features = _checked(features)
    if k != "auto" and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise SettingsError(
            "this number of clusters cannot be used", expected='1, 2, ... or "auto"', got=repr(k)
        )
    _require_different_rows(features, 2 if k == "auto" else k)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # A constant column keeps a rounding error as its deviation; dividing by it would be noise.
    varies = deviation > 1e-9 * np.maximum(1.0, np.abs(mean))
    scale = np.where(varies, deviation, 1.0)
    rows = np.where(varies, (features - mean) / scale, 0.0)
    candidates = [c for c in AUTO_K if c <= len(np.unique(rows, axis=0))] if k == "auto" else [k]
    runs = {c: _k_means(rows, c, seed) for c in candidates}
    quality = {c: _silhouette(rows, labels, seed) for c, (labels, _) in runs.items()}
    best = max(candidates, key=lambda c: (quality[c], -c)) if k == "auto" else k
    labels, centres = runs[best]
    return Clusters(
        labels=labels,
        centres=centres,
        mean=mean,
        scale=scale,
        silhouette=quality[best],
        silhouette_by_k=quality if k == "auto" else {},
    )


def media_clusters(dataset: Dataset, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cluster of each picture: the one that holds most of its objects.

    Args:
        labels: int64 [m], the cluster of each annotation of ``dataset``; -1 is not counted.

    Returns:
        int64 [n]; on a tie the cluster with the fewest objects in the whole set (then the lower
        number); -1 for a picture without a counted object.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if labels.shape != (len(dataset.annotations),):
        raise DataError(
            "labels and annotations do not belong together",
            expected=f"[{len(dataset.annotations)}] labels, one an annotation",
            got=str(list(labels.shape)),
        )
    counted = labels >= 0
    if not counted.any():
        return np.full(len(dataset.media), -1, dtype=np.int64)
    k = int(labels.max()) + 1
    votes = np.zeros((len(dataset.media), k), dtype=np.int64)
    np.add.at(votes, (dataset.annotations.media_index[counted], labels[counted]), 1)
    rarest_first = np.argsort(votes.sum(axis=0), kind="stable")
    # argmax takes the first of equals, so the columns stand in the order in which ties are won.
    winner = rarest_first[votes[:, rarest_first].argmax(axis=1)]
    return np.where(votes.any(axis=1), winner, -1)


def project_2d(
    rows: NDArray[np.float64], method: Literal["pca", "umap"] = "pca", *, seed: int = 0
) -> NDArray[np.float64]:
    """Two coordinates a row, to look at.

    Args:
        rows: float64 [m, f], standardised (`Clusters.standardise`).
        method: "pca", or "umap" with the parameters of the workflow that Tilth answers
            (5 neighbours, minimum distance 0.2, Manhattan metric; extra ``map``).

    Returns:
        float64 [m, 2]; equal for equal input and seed.

    >>> project_2d(np.array([[0.0, 0], [1, 1], [2, 2]])).shape
    (3, 2)
    """
    rows = _checked(rows)
    if method == "pca":
        return _principal_plane(rows)
    if method != "umap":
        raise SettingsError("unknown projection", expected="pca or umap", got=repr(method))
    umap: Any = lazy.require("umap", extra="map")
    if len(rows) < 7:
        raise DataError(
            "UMAP needs more rows", expected="7 or more", got=str(len(rows)), fix="use pca"
        )
    fit = umap.UMAP(
        n_neighbors=5,
        min_dist=0.2,
        n_components=2,
        metric="manhattan",
        random_state=derive_seed(seed, "umap") % 2**32,
        n_jobs=1,
    )
    return np.asarray(fit.fit_transform(rows), dtype=np.float64)


def _checked(features: NDArray[np.float64]) -> NDArray[np.float64]:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or features.shape[1] == 0:
        raise DataError("features are a table", expected="[rows, columns]", got=str(features.shape))
    finite = np.isfinite(features)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise DataError(
            "a feature is not a number",
            where=f"row {row}, column {column}",
            expected="finite values",
            got=str(features[row, column]),
            fix="measure the boxes again, or leave out the rows that could not be measured",
        )
    return features


def _require_different_rows(features: NDArray[np.float64], smallest: int) -> None:
    different = len(np.unique(features, axis=0))
    if different < smallest:
        raise DataError(
            "there are fewer different rows than clusters",
            expected=f"at least {smallest} different rows",
            got=f"{different} different of {len(features)}",
            fix="ask for fewer clusters, or measure more boxes",
        )


def _k_means(
    rows: NDArray[np.float64], k: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    from sklearn.cluster import KMeans  # half a second to import

    fit = KMeans(n_clusters=k, n_init=10, random_state=derive_seed(seed, "k-means") % 2**32)
    labels = fit.fit_predict(rows).astype(np.int64)
    sizes = np.bincount(labels, minlength=k)
    order = np.lexsort((*fit.cluster_centers_.T[::-1], -sizes))
    centres = np.asarray(fit.cluster_centers_[order], dtype=np.float64)
    return np.argsort(order)[labels], centres


def _nearest(rows: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    distance = (centres**2).sum(axis=1) - 2.0 * rows @ centres.T
    return distance.argmin(axis=1).astype(np.int64)


def _silhouette(rows: NDArray[np.float64], labels: NDArray[np.int64], seed: int) -> float:
    from sklearn.metrics import silhouette_score

    if len(rows) > SILHOUETTE_ROWS:
        sample = generator(seed, "silhouette").permutation(len(rows))[:SILHOUETTE_ROWS]
        rows, labels = rows[sample], labels[sample]
    if not 2 <= len(np.unique(labels)) < len(rows):
        return float("nan")
    return float(silhouette_score(rows, labels))


def _principal_plane(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(rows), 2))
    # The sign of an axis is free; its largest part is made positive so that a map never flips.
    for column, axis in enumerate(axes[:2]):
        plane[:, column] = centred @ axis * np.sign(axis[np.abs(axis).argmax()])
    return plane
