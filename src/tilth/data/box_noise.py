"""Wrong boxes on purpose, for experiments that must know which are wrong.

The faults are those that a comparison of labels with a detector looks for, by the same names:
`missed`, an object whose box is taken away; `spurious`, a box where no object is; `moved`, a box
of the right class in the wrong place; `swapped`, a box in the right place of the wrong class. A
box has at most one of them. Crowds and classes of whole pictures stay as they are.

Numbers are exact: of m boxes, the rate times m, rounded, have the fault (of several faults, their
sum is). Boxes are chosen by one order that follows from the seed, so a higher rate of missed boxes
keeps those of a lower one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilth.data.box_noise_places import SpuriousBoxes, moved_boxes, overlaps, spurious_boxes
from tilth.data.box_noise_record import BoxNoise, BoxNoiseSettings
from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.label_noise_draws import aimed
from tilth.data.label_noise_matrices import checked_matrix, destinations
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry, ReviewState, Source
from tilth.errors import EmptyDatasetError, SettingsError
from tilth.seeding import generator

__all__ = ["inject_box_noise"]


class _Faulty(NamedTuple):
    """Rows of the annotations with each fault, int64 each, none in two."""

    missed: NDArray[np.int64]
    moved: NDArray[np.int64]
    swapped: NDArray[np.int64]


def inject_box_noise(
    dataset: Dataset,
    settings: BoxNoiseSettings,
    *,
    seed: int = 0,
    among: NDArray[np.bool_] | None = None,
    swap_matrix: ArrayLike | None = None,
) -> tuple[Dataset, BoxNoise]:
    """A data set with faults in its boxes, and what was done; the given one stays as it is.

    A moved box loses its mask, which would tell where the object is. Annotations keep their ids;
    spurious ones have new ids above all.

    Args:
        among: bool [n], the pictures whose boxes may change; all by default. Noise belongs into
            what is learned from, and seldom into what is measured on.
        swap_matrix: [k, k], where the boxes of each class go that are swapped; rows sum to 1.

    Raises:
        EmptyDatasetError: no box in these pictures.
        SettingsError: one class only, where classes are to be swapped; a matrix that does not fit;
            spurious boxes where no picture's size is known.
    """
    labels = dataset.annotations
    chosen = np.ones(len(dataset.media), np.bool_) if among is None else np.asarray(among, np.bool_)
    eligible = (labels.geometry != Geometry.LABEL) & ~labels.is_crowd & chosen[labels.media_index]
    rows = np.flatnonzero(eligible)
    if not len(rows):
        raise EmptyDatasetError(
            "there is no box to make wrong", expected="boxes that are no crowds"
        )
    faulty = _faulty(rows, settings, seed)
    boxes, categories = labels.boxes_xyxy.copy(), labels.category_index.copy()
    boxes[faulty.moved] = _moved(dataset, faulty.moved, settings, seed)
    categories[faulty.swapped] = _swapped(dataset, faulty.swapped, swap_matrix, seed)
    spurious = spurious_boxes(
        dataset,
        rows,
        np.flatnonzero(chosen),
        round(settings.spurious * len(rows)),
        largest_overlap=settings.largest_overlap,
        draw=generator(seed, "box noise", "spurious"),
    )
    ids = int(labels.id.max()) + 1 + np.arange(len(spurious), dtype=np.int64)
    noisy = _with_faults(dataset, boxes, categories, faulty, spurious, ids)
    columns = _fault_columns(dataset, boxes, categories, faulty, spurious, ids)
    return noisy, BoxNoise(settings=settings, seed=seed, num_boxes=len(rows), **columns)


def _faulty(rows: NDArray[np.int64], settings: BoxNoiseSettings, seed: int) -> _Faulty:
    """Parts of one random order, so that a box has one fault at most."""
    order = generator(seed, "box noise", "order").permutation(rows)
    rates = np.cumsum([settings.missed, settings.moved, settings.swapped])
    ends = np.minimum(np.rint(rates * len(rows)).astype(np.int64), len(rows))
    missed, moved, swapped, _ = np.split(order, ends)
    return _Faulty(np.sort(missed), np.sort(moved), np.sort(swapped))


def _moved(
    dataset: Dataset, rows: NDArray[np.int64], settings: BoxNoiseSettings, seed: int
) -> NDArray[np.float64]:
    media = dataset.media
    of_box = dataset.annotations.media_index[rows]
    sizes = np.stack([media.width[of_box], media.height[of_box]], axis=1).astype(np.float64)
    return moved_boxes(
        dataset.annotations.boxes_xyxy[rows],
        np.where(sizes > 0, sizes, np.inf),
        shift=settings.shift,
        scale=settings.scale,
        draw=generator(seed, "box noise", "moved"),
    )


def _swapped(
    dataset: Dataset, rows: NDArray[np.int64], swap_matrix: ArrayLike | None, seed: int
) -> NDArray[np.int64]:
    num_classes = len(dataset.categories)
    if not len(rows):
        return np.empty(0, np.int64)
    if num_classes < 2:
        raise SettingsError(
            "a box can be swapped to another class only",
            expected="2 classes or more",
            got=dataset.categories[0].name,
        )
    if swap_matrix is None:
        where = destinations("symmetric_flip", num_classes)
    else:
        where = checked_matrix(swap_matrix, num_classes)
    true = dataset.annotations.category_index[rows]
    if (stays := np.diag(where)[true] > 0).any():
        raise SettingsError(
            "the matrix of swapped boxes keeps some in their class",
            where=f"class '{dataset.categories[int(true[np.argmax(stays)])].name}'",
            expected="0 on the diagonal: how many are swapped is the rate's to say",
        )
    return aimed(where[true], generator(seed, "box noise", "swapped").random(len(rows)))


def _with_faults(
    dataset: Dataset,
    boxes: NDArray[np.float64],
    categories: NDArray[np.int64],
    faulty: _Faulty,
    spurious: SpuriousBoxes,
    ids: NDArray[np.int64],
) -> Dataset:
    labels, added = dataset.annotations, len(spurious)
    kept = np.setdiff1d(np.arange(len(labels)), faulty.missed)
    media_index = np.concatenate([labels.media_index[kept], spurious.media_index])
    order = np.argsort(media_index, kind="stable")
    sides = boxes[faulty.moved, 2:] - boxes[faulty.moved, :2]
    area, geometry = labels.area.copy(), labels.geometry.copy()
    area[faulty.moved], geometry[faulty.moved] = sides.prod(axis=1), Geometry.BOX
    # An entry of its own stands for None: of spurious boxes, and of the masks of moved ones.
    none = len(labels)
    masks = np.arange(none + 1)
    masks[faulty.moved] = none
    sides = spurious.boxes_xyxy[:, 2:] - spurious.boxes_xyxy[:, :2]

    def column(own: NDArray, new: ArrayLike) -> NDArray:
        more = np.broadcast_to(np.asarray(new, dtype=own.dtype), (added, *own.shape[1:]))
        return np.concatenate([own[kept], more])[order]

    def texts(own: Sequence[bytes | None], entries: NDArray[np.int64]) -> Sequence[bytes | None]:
        pool = RaggedBytes.concatenate([RaggedBytes.of(own), RaggedBytes.empty(1)])
        return pool.take(np.concatenate([entries[kept], np.full(added, none)])[order])

    annotations = AnnotationColumns(
        id=column(labels.id, ids),
        media_index=media_index[order],
        category_index=column(categories, spurious.category_index),
        boxes_xyxy=column(boxes, spurious.boxes_xyxy),
        area=column(area, sides.prod(axis=1)),
        is_crowd=column(labels.is_crowd, False),
        score=column(labels.score, np.nan),
        source=column(labels.source, Source.HUMAN),
        review_state=column(labels.review_state, ReviewState.UNREVIEWED),
        geometry=column(geometry, Geometry.BOX),
        segmentation=texts(labels.segmentation, masks),
        attributes=texts(labels.attributes, np.arange(none + 1)),
    )
    return Dataset(categories=dataset.categories, media=dataset.media, annotations=annotations)


def _fault_columns(
    dataset: Dataset,
    boxes: NDArray[np.float64],
    categories: NDArray[np.int64],
    faulty: _Faulty,
    spurious: SpuriousBoxes,
    ids: NDArray[np.int64],
) -> dict[str, Any]:
    """The columns of `BoxNoise`: a row a fault, by picture and then by id."""
    labels = dataset.annotations
    changed = np.concatenate([faulty.moved, faulty.swapped])
    old = np.concatenate([faulty.missed, changed])
    lost, added = len(faulty.missed), len(spurious)
    nowhere, no_class = np.full((max(lost, added), 4), np.nan), np.full(max(lost, added), -1)
    columns = {
        "kind": np.repeat([*faulty._fields, "spurious"], [*map(len, faulty), added]),
        "media_index": np.concatenate([labels.media_index[old], spurious.media_index]),
        "annotation_id": np.concatenate([labels.id[old], ids]),
        "old_category": np.concatenate([labels.category_index[old], no_class[:added]]),
        "new_category": np.concatenate(
            [no_class[:lost], categories[changed], spurious.category_index]
        ),
        "old_boxes_xyxy": np.concatenate([labels.boxes_xyxy[old], nowhere[:added]]),
        "new_boxes_xyxy": np.concatenate([nowhere[:lost], boxes[changed], spurious.boxes_xyxy]),
        "iou": np.concatenate(
            [
                np.zeros(lost),
                overlaps(labels.boxes_xyxy[changed], boxes[changed]),
                spurious.overlap,
            ]
        ),
    }
    order = np.lexsort([columns["annotation_id"], columns["media_index"]])
    return {name: values[order] for name, values in columns.items()}
