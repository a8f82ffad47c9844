"""Anchor sizes that fit a set of boxes: k-means whose distance is 1 - IoU of widths and heights.

Source: Redmon, Farhadi, 2017, YOLO9000: Better, Faster, Stronger, arXiv 1612.08242v1 (section 2,
    "dimension clusters"); seeding by Arthur, Vassilvitskii, 2007, k-means++: The Advantages of
    Careful Seeding, SODA.
Follows: d(box, centroid) = 1 - IoU(box, centroid) -> `size_iou`; the clusters -> `fit_anchors`.
Symbols: sizes = width and height of each box, pixels of the network's input [m, 2]; anchors =
    centroids [k, 2]; mean_best_iou = "Avg IOU", the mean over boxes of the best anchor's IoU.
Differs: a centroid is the median of its boxes' widths and of their heights, which serves IoU better
    than the mean; several seeded starts, of which the best is kept; boxes of all but equal size
    (3 % a side) are moved together, so that a million boxes cost what some thousands do. The
    numbers that are reported are over every single box.
Checked by: `test_size_iou_is_the_iou_of_boxes_with_one_corner`, `test_planted_sizes_are_found`,
    `test_the_person_set_is_fitted_as_well_as_the_reference`
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.records import Geometry
from tilth.errors import DataError, EmptyDatasetError
from tilth.seeding import generator

__all__ = ["AnchorFit", "box_sizes", "fit_anchors", "measure_anchors", "size_iou"]

MERGED = 0.03  # boxes whose sides differ by less than about this share are moved together
FEW = 20_000  # boxes that are worth no such trouble
MAX_ROUNDS = 300
SETTLED = 1e-4  # share of the boxes whose going to and fro is not waited for
MAX_RATIO = 4.0  # a side that an anchor can be stretched to, in training by matched ratios
CHUNK = 200_000


@dataclass(frozen=True, kw_only=True, eq=False)
class AnchorFit:
    """Anchors, and how well they fit the boxes.

    Attributes:
        anchors: [k, 2], smallest area first.
        mean_best_iou: mean over boxes of the IoU with the best anchor, 0 to 1.
        best_possible_recall: share of boxes with an anchor whose sides differ by less than four
            times; the others are hard to learn at all.
        counts: [k], boxes whose best anchor it is.
        mean_iou: [k], their mean IoU with it; NaN where there are none.
    """

    anchors: Float[np.ndarray, "k 2"]
    mean_best_iou: float
    best_possible_recall: float
    counts: Int64[np.ndarray, "k"]
    mean_iou: Float[np.ndarray, "k"]


def box_sizes(
    dataset: Dataset, *, size: int, resize: Literal["letterbox", "stretch"] = "letterbox"
) -> Float[np.ndarray, "m 2"]:
    """Width and height of every box of a single object, in pixels of the network's input.

    Boxes without area, which nothing can be fitted to, are left out.

    Args:
        size: side of the square input.
        resize: how pictures come into it.

    Raises:
        DataError: a picture with boxes whose size is not known.
    """
    annotations, media = dataset.annotations, dataset.media
    sides = annotations.boxes_xyxy[:, 2:] - annotations.boxes_xyxy[:, :2]
    wanted = (annotations.geometry != Geometry.LABEL) & ~annotations.is_crowd
    wanted &= (sides > 0).all(axis=1)
    rows = annotations.media_index[wanted]
    pictures = np.stack([media.width[rows], media.height[rows]], axis=1).astype(np.float64)
    unknown = (pictures <= 0).any(axis=1)
    if unknown.any():
        raise DataError(
            "boxes cannot be put to scale without the size of their picture",
            where=str(media.uri[int(rows[np.flatnonzero(unknown)[0]])]),
            got=f"{len(np.unique(rows[unknown]))} pictures of unknown size",
            fix="tilth metrics measures them",
        )
    if resize == "letterbox":
        pictures = np.repeat(pictures.max(axis=1, keepdims=True), 2, axis=1)
    return sides[wanted] * size / pictures


def size_iou(
    sizes: Float[np.ndarray, "m 2"], anchors: Float[np.ndarray, "k 2"]
) -> Float[np.ndarray, "m k"]:
    """IoU of every size with every anchor, as of boxes with one centre.

    >>> size_iou(np.array([[2.0, 2.0]]), np.array([[2.0, 4.0], [1.0, 1.0]])).tolist()
    [[0.5, 0.25]]
    """
    shared = np.minimum(sizes[:, None, 0], anchors[:, 0])
    shared *= np.minimum(sizes[:, None, 1], anchors[:, 1])
    return shared / (sizes.prod(axis=1)[:, None] + anchors.prod(axis=1) - shared)


def measure_anchors(
    sizes: Float[np.ndarray, "m 2"], anchors: Float[np.ndarray, "k 2"]
) -> AnchorFit:
    """How well given anchors fit; they come back in the order of their areas.

    Raises:
        EmptyDatasetError: no box.
    """
    _refuse_none(sizes)
    anchors = anchors[np.lexsort((anchors[:, 0], anchors.prod(axis=1)))]
    counts, sums = np.zeros(len(anchors), dtype=np.int64), np.zeros(len(anchors))
    num_within = 0
    for start in range(0, len(sizes), CHUNK):
        part = sizes[start : start + CHUNK]
        iou = size_iou(part, anchors)
        best = iou.argmax(axis=1)
        counts += np.bincount(best, minlength=len(anchors))
        sums += np.bincount(best, weights=iou.max(axis=1), minlength=len(anchors))
        ratio = part[:, None] / anchors
        within = np.maximum(ratio, 1 / ratio).max(axis=2) < MAX_RATIO
        num_within += int(within.any(axis=1).sum())
    return AnchorFit(
        anchors=anchors,
        mean_best_iou=float(sums.sum() / len(sizes)),
        best_possible_recall=num_within / len(sizes),
        counts=counts,
        mean_iou=np.divide(sums, counts, out=np.full(len(anchors), np.nan), where=counts > 0),
    )


def fit_anchors(
    sizes: Float[np.ndarray, "m 2"],
    k: int,
    *,
    seed: int = 0,
    restarts: int = 10,
    digits: int = 1,
) -> AnchorFit:
    """The ``k`` anchors of the best mean IoU that ``restarts`` starts have found.

    Args:
        sizes: as `box_sizes` gives them.
        digits: that anchors are rounded to; what is measured are the rounded ones.

    Raises:
        EmptyDatasetError: no box.
        DataError: fewer different sizes than anchors.
    """
    _refuse_none(sizes)
    points, weights = _merged(sizes)
    if len(points) < k:
        raise DataError(
            "there are fewer sizes of boxes than anchors",
            expected=f"{k} different sizes or more",
            got=str(len(points)),
            fix="ask for fewer anchors",
        )
    draws = generator(seed, "anchors")
    best, best_score = points[:k], -1.0
    for _ in range(max(1, restarts)):
        anchors = _settled(points, weights, _spread_start(points, weights, k, draws))
        score = float(np.average(size_iou(points, anchors).max(axis=1), weights=weights))
        if score > best_score:
            best, best_score = anchors, score
    rounded = np.maximum(np.round(best, digits), 10.0**-digits)
    return measure_anchors(sizes, rounded)


def _merged(sizes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Different sizes with how many boxes have them; of many boxes, all but equal ones together."""
    if len(sizes) <= FEW:
        points, counts = np.unique(sizes, axis=0, return_counts=True)
        return points, counts.astype(np.float64)
    cells = np.round(np.log(sizes) / np.log1p(MERGED)).astype(np.int64)
    cells -= cells.min(axis=0)
    key = cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1]
    _, place, counts = np.unique(key, return_inverse=True, return_counts=True)
    sums = [np.bincount(place, weights=sizes[:, axis]) for axis in (0, 1)]
    return np.stack(sums, axis=1) / counts[:, None], counts.astype(np.float64)


def _spread_start(
    points: NDArray[np.float64], weights: NDArray[np.float64], k: int, draws: np.random.Generator
) -> NDArray[np.float64]:
    """k-means++: each next centre is drawn by the square of its distance to those before it."""
    chosen = [int(draws.choice(len(points), p=weights / weights.sum()))]
    distance = np.full(len(points), np.inf)
    while len(chosen) < k:
        iou = size_iou(points, points[chosen[-1:]])[:, 0]
        distance = np.minimum(distance, 1 - iou)
        chance = weights * distance**2
        chance[chosen] = 0.0
        if not chance.sum():  # the sizes that are left differ by rounding only
            chance = np.ones(len(points))
            chance[chosen] = 0.0
        chosen.append(int(draws.choice(len(points), p=chance / chance.sum())))
    return points[chosen]


def _settled(
    points: NDArray[np.float64], weights: NDArray[np.float64], anchors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Assign and take medians until next to nothing changes; a centre without boxes stays."""
    orders = [np.argsort(points[:, axis], kind="stable") for axis in (0, 1)]
    before, still = np.full(len(points), -1), SETTLED * weights.sum()
    for _ in range(MAX_ROUNDS):
        nearest = size_iou(points, anchors).argmax(axis=1)
        if weights[nearest != before].sum() < still:
            break
        before = nearest
        anchors = anchors.copy()
        for row in range(len(anchors)):
            for axis, order in enumerate(orders):
                own = order[nearest[order] == row]
                if len(own):
                    anchors[row, axis] = _median(points[own, axis], weights[own])
    return anchors


def _median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The weighted median of rising values."""
    reached = np.cumsum(weights)
    return float(values[np.searchsorted(reached, reached[-1] / 2)])


def _refuse_none(sizes: NDArray[np.float64]) -> None:
    if not len(sizes):
        raise EmptyDatasetError(
            "no box to fit anchors to",
            expected="boxes of single objects, with an area",
            fix="import labels, or choose another split",
        )
