"""Batches of a detection set, each a pure function of its number.

Positions 0, 1, 2, ... run through one random order of all pictures after the other, one an epoch;
batch k is positions k * batch_size to (k + 1) * batch_size. Arithmetic finds epoch and place, so
batch 70,000 costs no more than batch 0, every picture comes once an epoch also when the batch size
does not divide their number, and there is nothing to save when a run is stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tilth.data.dataset import Dataset
from tilth.data.images import expect_size, read_image
from tilth.data.records import Geometry
from tilth.errors import DataError, EmptyDatasetError, SettingsError
from tilth.ops.letterbox import FILL, letterbox, to_letterbox
from tilth.seeding import generator
from tilth.train.jitter import JitterSettings, jitter
from tilth.train.picture_cache import PictureCache, Prepared

__all__ = ["DetectionBatches", "epoch_order"]

SMALLEST_SIDE = 1.0  # of a target, in pixels of the picture


@lru_cache(maxsize=4)
def epoch_order(num_images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """int64 [num_images]: the order of the pictures in one epoch.

    >>> sorted(epoch_order(4, 0, 7).tolist())
    [0, 1, 2, 3]
    """
    return generator(seed, "epoch", epoch).permutation(num_images)


class DetectionBatches:
    """Letterboxed pictures with their boxes, jittered anew in every epoch.

    Crowd annotations (``is_crowd``) and class labels without a box are left out of the targets: a
    crowd's box is not one object, and learning it as background would be as wrong. A detector may
    therefore be punished for finding single objects inside a crowd; ignore regions would cure that.
    Boxes end at the border of their picture, since beyond it is only padding; what is then less
    than a pixel wide or high is no target.

    Args:
        images: n paths, in the order of ``dataset.media``.
        dataset: the labels.
        size: side of the square network input, pixels.
        batch_size: pictures a batch; of one process, where there are several.
        seed: of the orders and the jitter.
        settings: how far pictures are changed; `NO_JITTER` leaves them as they are.
        cache_bytes: letterboxed pictures kept in memory, per process.

    Raises:
        EmptyDatasetError: no pictures.
        DataError: not one path a medium.
        SettingsError: a batch larger than the set.
    """

    def __init__(
        self,
        images: Sequence[Path],
        dataset: Dataset,
        *,
        size: int,
        batch_size: int,
        seed: int,
        settings: JitterSettings | None = None,
        cache_bytes: int = 2 * 1024**3,
    ) -> None:
        _refuse_unusable(images, dataset, size, batch_size)
        annotations = dataset.annotations
        has_box = annotations.geometry != Geometry.LABEL
        self.dataset = dataset.keep_annotations(has_box & ~annotations.is_crowd)
        self.images = images
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.settings = JitterSettings() if settings is None else settings
        self._cache = PictureCache(cache_bytes)

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run compares: settings, and a digest over media and targets."""
        kept = self.dataset.annotations
        digest = hashlib.sha256("\0".join(self.dataset.media.uri).encode())
        for column in (kept.media_index, kept.category_index, kept.boxes_xyxy):
            digest.update(np.ascontiguousarray(column).data)
        return {
            "num_images": len(self.images),
            "digest": digest.hexdigest(),
            "size": self.size,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "jitter": asdict(self.settings),
        }

    def batch(self, step: int) -> dict[str, Any]:
        """Batch number ``step``, counted from 0 and without end.

        Returns:
            images: float32 [b, 3, size, size] in 0..1, channels last in memory.
            boxes_xyxy: float32 [n, 4], pixel-edge corners in network pixels.
            class_index: int64 [n], row in ``dataset.categories``.
            image_index: int64 [n], row in this batch.
            media_index: int64 [b], row in ``dataset.media``.
            names: b paths.

        Raises:
            MediaError: a picture is missing, broken, or of another size than its labels say.
        """
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        media_index = [self._media_at(position) for position in positions]
        samples = [self._sample(*pair) for pair in zip(positions, media_index, strict=True)]
        pixels = torch.from_numpy(np.stack([image for image, _, _ in samples]))
        counts = torch.tensor([len(boxes) for _, boxes, _ in samples])
        return {
            # [b, h, w, 3] seen as [b, 3, h, w] is channels last already: nothing is moved.
            "images": pixels.permute(0, 3, 1, 2).float().div_(255),
            "boxes_xyxy": _joined([boxes for _, boxes, _ in samples]).float(),
            "class_index": _joined([classes for _, _, classes in samples]),
            "image_index": torch.repeat_interleave(torch.arange(len(samples)), counts),
            "media_index": torch.tensor(media_index),
            "names": [str(self.images[row]) for row in media_index],
        }

    def _media_at(self, position: int) -> int:
        epoch, place = divmod(position, len(self.images))
        return int(epoch_order(len(self.images), self.seed, epoch)[place])

    def _sample(
        self, position: int, row: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]:
        prepared = self._cache.get(row, self._prepare)
        annotations, rows = self.dataset.annotations, self.dataset.rows_of(row)
        inside, seen = _inside(annotations.boxes_xyxy[rows], prepared)
        boxes = to_letterbox(torch.from_numpy(inside), prepared.placement)
        # By position in the stream, not by (step, row of the batch): then two processes with
        # batches of b see the same pixels as one with batches of 2b.
        image, moved, kept = jitter(
            prepared.image_rgb,
            boxes.numpy(),
            generator(self.seed, "jitter", position),
            self.settings,
            fill=FILL,
        )
        return image, moved[kept], annotations.category_index[rows][seen][kept]

    def _prepare(self, row: int) -> Prepared:
        path, media = self.images[row], self.dataset.media
        image_rgb = read_image(path)
        expect_size(image_rgb, (int(media.width[row]), int(media.height[row])), where=str(path))
        pixels = torch.from_numpy(image_rgb).permute(2, 0, 1)
        boxed, placement = letterbox(pixels, self.size)
        size = (image_rgb.shape[1], image_rgb.shape[0])
        return Prepared(boxed.permute(1, 2, 0).contiguous().numpy(), placement, size)


def _inside(
    boxes_xyxy: NDArray[np.float64], prepared: Prepared
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The boxes cut at the picture's border [k, 4], and which of them something is left of [n]."""
    cut = boxes_xyxy.clip(0.0, [*prepared.size, *prepared.size])
    seen = (cut[:, 2:] - cut[:, :2] >= SMALLEST_SIDE).all(axis=1)
    return cut[seen], seen


def _joined(parts: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))


def _refuse_unusable(images: Sequence[Path], dataset: Dataset, size: int, batch_size: int) -> None:
    if len(images) != len(dataset.media):
        raise DataError(
            "pictures and labels do not belong together",
            expected=f"{len(dataset.media)} paths, one a medium",
            got=f"{len(images)} paths",
        )
    if not len(images):
        raise EmptyDatasetError(
            "there is no picture to train on",
            fix="import pictures, or check which split the training set is taken from",
        )
    if size < 1:
        raise SettingsError("the network size cannot be used", expected="1 or more", got=str(size))
    if not 1 <= batch_size <= len(images):
        raise SettingsError(
            "the batch size cannot be used",
            expected=f"1 to {len(images)}, the number of training pictures",
            got=str(batch_size),
        )
