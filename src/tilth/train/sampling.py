"""Which picture comes when: each once an epoch, or rare classes and small clusters more often.

Source: Gupta, Dollar, Girshick, 2019, LVIS: A Dataset for Large Vocabulary Instance Segmentation,
    arXiv 1908.03195v2 (repeat factor sampling).
Follows: "r_c = max(1, sqrt(t / f_c))" and "r_i = max over c in i of r_c" -> `repeat_factors`.
Symbols: threshold = t; f_c = share of the pictures that show class c; r_i = how often picture i
    comes compared with one of frequent classes only.
Differs: there an epoch repeats each picture floor(r_i) or ceil(r_i) times and grows; here an epoch
    stays as long as the set, and a picture comes floor or ceil of its share of it. t = 0.001 was
    chosen for 1,203 classes; our default is 1, which also lifts the rarer of two classes.
Checked by: `test_repeat_factors_by_hand`, `test_weights_decide_how_often_within_one_picture`

A sampler is a function of the place in the stream of samples. It keeps one number a picture, and
no memory of what came before (docs/decisions/0004).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.errors import DataError, SettingsError
from tilth.seeding import generator

__all__ = [
    "PictureSampler",
    "SamplingSettings",
    "UniformSampler",
    "WeightedSampler",
    "build_sampler",
    "cluster_weights",
    "epoch_order",
    "repeat_factors",
]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How often each picture comes.

    Attributes:
        kind: "uniform", each picture once an epoch; "class", those with rare classes more often;
            "cluster", every cluster of objects as often as every other.
        threshold: of "class": classes in less than this share of the pictures are lifted, by the
            square root of what they lack.
    """

    kind: Literal["uniform", "class", "cluster"] = "uniform"
    threshold: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise SettingsError(
                "setting 'sampling.threshold' cannot be used",
                expected="above 0, to 1",
                got=str(self.threshold),
            )


class PictureSampler(Protocol):
    """Rows of pictures, as a function of places."""

    def at(self, position: int) -> int:
        """The picture at a place of the stream."""
        ...

    def pick(self, place: float) -> int:
        """A picture for a number in 0 to 1, as often as it comes in the stream."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run compares."""
        ...


@lru_cache(maxsize=4)
def epoch_order(num_images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """int64 [num_images]: the order of the pictures in one epoch.

    >>> sorted(epoch_order(4, 0, 7).tolist())
    [0, 1, 2, 3]
    """
    return generator(seed, "epoch", epoch).permutation(num_images)


class UniformSampler:
    """One random order of all pictures after the other, one an epoch.

    >>> sampler = UniformSampler(3, seed=0)
    >>> sorted(sampler.at(position) for position in range(3))
    [0, 1, 2]
    """

    def __init__(self, num_images: int, *, seed: int) -> None:
        self.num_images = num_images
        self.seed = seed

    def at(self, position: int) -> int:
        """The picture at a place of the stream."""
        epoch, place = divmod(position, self.num_images)
        return int(epoch_order(self.num_images, self.seed, epoch)[place])

    def pick(self, place: float) -> int:
        """Any picture as often as any other."""
        return int(place * self.num_images)

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run compares."""
        return {"kind": "uniform"}


class WeightedSampler:
    """Pictures by weight: in an epoch of n places, floor or ceil of n times their share.

    The n places of an epoch lie evenly on the line of all shares, shifted anew in every epoch, and
    come in random order. So nothing is left to chance but the last one of each picture.

    Args:
        weights: float [n], not negative; only their ratios count.

    Raises:
        DataError: a weight that is negative or not finite, or none above 0.

    >>> sampler = WeightedSampler(np.array([3.0, 1.0, 0.0, 0.0]), seed=0)
    >>> sorted(sampler.at(position) for position in range(4))
    [0, 0, 0, 1]
    """

    def __init__(self, weights: NDArray[np.floating[Any]], *, seed: int, kind: str = "weights"):
        weights = np.asarray(weights, dtype=np.float64)
        if weights.ndim != 1 or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
            raise DataError(
                "the weights of the pictures cannot be used",
                expected="one number a picture, 0 or more, at least one above 0",
            )
        self.num_images = len(weights)
        self.seed = seed
        self._kind = kind
        self._ends = np.cumsum(weights) / weights.sum()
        self._last = int(np.flatnonzero(weights)[-1])

    def at(self, position: int) -> int:
        """The picture at a place of the stream."""
        epoch, place = divmod(position, self.num_images)
        stratum = int(epoch_order(self.num_images, self.seed, epoch)[place])
        return self.pick((stratum + _shift(self.seed, epoch)) / self.num_images)

    def pick(self, place: float) -> int:
        """The picture whose part of the line ``place`` lies in."""
        # The last end may be rounded to below 1, and pictures of weight 0 may come after it.
        return min(int(np.searchsorted(self._ends, place, side="right")), self._last)

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run compares."""
        digest = hashlib.sha256(self._ends.tobytes()).hexdigest()
        return {"kind": self._kind, "weights": digest}


@lru_cache(maxsize=4)
def _shift(seed: int, epoch: int) -> float:
    return float(generator(seed, "sampling", epoch).random())


def repeat_factors(dataset: Dataset, threshold: float) -> NDArray[np.float64]:
    """float64 [n]: how often each picture comes, 1 for one of frequent classes only.

    Crowds count for a class, since they show it.
    """
    annotations = dataset.annotations
    num_media, num_classes = len(dataset.media), len(dataset.categories)
    pairs = np.unique(annotations.media_index * max(1, num_classes) + annotations.category_index)
    media, classes = pairs // max(1, num_classes), pairs % max(1, num_classes)
    share = np.bincount(classes, minlength=num_classes) / max(1, num_media)
    of_class = np.ones(num_classes)
    shown = share > 0
    of_class[shown] = np.maximum(1.0, np.sqrt(threshold / share[shown]))  # r_c
    of_picture = np.ones(num_media)
    np.maximum.at(of_picture, media, of_class[classes])
    return of_picture


def cluster_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [n]: weights with which every cluster comes as often as every other.

    Args:
        labels: int64 [n], the cluster of each picture (`tilth.curate.clusters.media_clusters`); -1
            for one without, which keeps the share that it has in the data.

    >>> cluster_weights(np.array([0, 0, 0, 1])).tolist()
    [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]
    """
    labels = np.asarray(labels, dtype=np.int64)
    weights = np.ones(len(labels))
    has_label = labels >= 0
    if has_label.any():
        _, group, sizes = np.unique(labels[has_label], return_inverse=True, return_counts=True)
        weights[has_label] = has_label.sum() / len(sizes) / sizes[group]
    return weights


def build_sampler(
    dataset: Dataset,
    settings: SamplingSettings,
    *,
    seed: int,
    clusters: NDArray[np.int64] | None = None,
) -> PictureSampler:
    """The sampler that the settings name.

    Args:
        clusters: int64 [n], of "cluster": see `cluster_weights`.

    Raises:
        DataError: clusters are missing, or not one a picture.
    """
    if settings.kind == "uniform":
        return UniformSampler(len(dataset.media), seed=seed)
    if settings.kind == "class":
        factors = repeat_factors(dataset, settings.threshold)
        return WeightedSampler(factors, seed=seed, kind="class")
    if clusters is None or len(clusters) != len(dataset.media):
        raise DataError(
            "the pictures cannot be sampled by cluster",
            expected=f"the cluster of each picture, {len(dataset.media)} of them",
            got="none" if clusters is None else str(len(clusters)),
            fix="sampling.kind = 'uniform', or cluster the boxes first: tilth clusters",
        )
    return WeightedSampler(cluster_weights(clusters), seed=seed, kind="cluster")
