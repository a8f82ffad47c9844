"""What a plan draws: for each new picture its parent, its parameters and the boxes that stay.

All of it follows from the plan, the labels and the sizes of the parents, without a pixel. The name
of a picture holds a digest of what makes it, so a file that is there is the right one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.curate.augment import AugmentParameters, draw_parameters, warp_boxes
from tilth.curate.rebalance_plan import ClusterPlan, RebalancePlan
from tilth.data.dataset import Dataset
from tilth.data.records import Split
from tilth.errors import DataError
from tilth.seeding import derive_seed, generator

__all__ = ["Copy", "draw_copies", "folder_of"]

JPEG_QUALITY = 95
MAX_DRAWS = 10  # tries to keep at least one object of a picture that has some


@dataclass(frozen=True, kw_only=True, eq=False)
class Copy:
    """One new picture to make.

    Attributes:
        parent_row: the parent's row in the data set.
        width, height: of the parent, and so of the copy, in pixels.
        seed: what ``parameters`` were drawn from.
        boxes_xyxy: float64 [k, 4] in the new picture.
        kept_rows: int64 [k], annotation rows of the data set that the boxes come from.
    """

    uri: str
    parent_row: int
    width: int
    height: int
    seed: int
    parameters: AugmentParameters
    boxes_xyxy: NDArray[np.float64]
    kept_rows: NDArray[np.int64]


def folder_of(plan_name: str) -> str:
    """Where the pictures of a plan lie, relative to the project; ends with a slash."""
    return f"augmented/{plan_name}/"


def draw_copies(
    dataset: Dataset, plan: RebalancePlan, size_of: Callable[[int], tuple[int, int]]
) -> Iterator[Copy | None]:
    """Every new picture of a plan; None where each of ten draws would lose all objects.

    Args:
        size_of: width and height of the medium in a row of ``dataset``.

    Raises:
        DataError: a parent is unknown, derived, or not in the training split.
    """
    rows = _parent_rows(dataset, plan)
    for cluster in plan.clusters:
        number: Counter[int] = Counter()
        for media_id in _parents_in_turn(cluster, plan):
            yield _draw_copy(dataset, plan, rows[media_id], number[media_id], size_of)
            number[media_id] += 1


def _parent_rows(dataset: Dataset, plan: RebalancePlan) -> dict[int, int]:
    media = dataset.media
    rows = {media_id: row for row, media_id in enumerate(media.id.tolist())}
    for cluster in plan.clusters:
        for media_id in cluster.media_ids:
            row = rows.get(media_id)
            if row is None:
                problem = "not in the catalogue"
            elif media.parent_id[row] >= 0:
                problem = "itself derived from another picture"
            elif media.split[row] != Split.TRAIN:
                problem = f"in the split {Split(int(media.split[row])).name}"
            else:
                continue
            raise DataError(
                f"picture {media_id} cannot be a parent: it is {problem}",
                where=f"plan '{plan.name}', cluster {cluster.cluster}",
                expected="an original of the training split",
                fix="make the plan again: the splits or the pictures have changed since",
            )
    return rows


def _parents_in_turn(cluster: ClusterPlan, plan: RebalancePlan) -> Iterator[int]:
    """The parent of each new picture; a larger target only adds to the end."""
    media_ids = np.array(sorted(cluster.media_ids), dtype=np.int64)
    stream = generator(plan.seed, "parents", cluster.cluster)
    if plan.draw == "uniform":
        for _ in range(cluster.to_make):
            yield int(media_ids[stream.integers(len(media_ids))])
        return
    order = stream.permutation(media_ids)
    for position in range(cluster.to_make):
        yield int(order[position % len(order)])


def _draw_copy(
    dataset: Dataset,
    plan: RebalancePlan,
    row: int,
    number: int,
    size_of: Callable[[int], tuple[int, int]],
) -> Copy | None:
    media_id, own = int(dataset.media.id[row]), dataset.rows_of(row)
    boxes = dataset.annotations.boxes_xyxy[own]
    width, height = size_of(row)
    for attempt in range(MAX_DRAWS):
        seed = derive_seed(plan.seed, "copy", media_id, number, attempt)
        parameters = draw_parameters(seed, plan.augmentation)
        kept_boxes, kept = warp_boxes(boxes, width, height, parameters, plan.augmentation)
        if len(kept) or not len(boxes):
            digest = _digest(dataset.media.uri[row], parameters)
            return Copy(
                uri=f"{folder_of(plan.name)}{media_id}-{number}-{digest}.jpg",
                parent_row=row,
                width=width,
                height=height,
                seed=seed,
                parameters=parameters,
                boxes_xyxy=kept_boxes,
                kept_rows=kept + own.start,
            )
    return None


def _digest(parent_uri: str, parameters: AugmentParameters) -> str:
    recipe = json.dumps([parent_uri, parameters.to_dict(), JPEG_QUALITY], sort_keys=True)
    return hashlib.blake2b(recipe.encode(), digest_size=6).hexdigest()
