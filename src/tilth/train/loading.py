"""Batches of a detection set, each a pure function of its number.

Positions 0, 1, 2, ... run through the pictures in the order of a sampler; batch k is positions
k * batch_size to (k + 1) * batch_size. Arithmetic finds the picture of a place, so batch 70,000
costs no more than batch 0, and there is nothing to save when a run is stopped. What a picture goes
through belongs to its place too: `DetectionBatches.parameters_of` says it without touching a pixel.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tilth.data.dataset import Dataset
from tilth.errors import DataError, EmptyDatasetError, SettingsError
from tilth.train.augment import PastedObject, draw_sample_pixels
from tilth.train.augment_geometry import Resize
from tilth.train.augment_parameters import SampleParameters, draw_sample
from tilth.train.augment_settings import AugmentSettings
from tilth.train.copy_paste import outline_of
from tilth.train.device_batch import device_batch
from tilth.train.multi_scale import largest_size, network_size
from tilth.train.picture_cache import CachedPicture, CacheSettings, PictureCache
from tilth.train.sampling import PictureSampler, UniformSampler, epoch_order
from tilth.train.targets import Targets, TargetTable

__all__ = ["DetectionBatches", "epoch_order"]


class DetectionBatches:
    """Pictures with their boxes, changed anew in every epoch.

    Boxes end at the border of their picture, since beyond it is only padding; what is then less
    than a pixel wide or high is no target. Crowds and difficult objects are regions to ignore (see
    `TargetTable`).

    Args:
        images: n paths, in the order of ``dataset.media``.
        dataset: the labels.
        size: side of the square network input, pixels.
        resize: whether a picture keeps its shape in the square, as `ModelSettings.resize` says.
        batch_size: pictures a batch; of one process, where there are several.
        seed: of the orders and of all changes.
        settings: how far pictures are changed; `NO_AUGMENT` leaves them as they are.
        sampler: which picture comes when; None takes each once an epoch.
        weights: float [m], how much each annotation of ``dataset`` counts; None for 1 each.
        include_difficult: objects marked as difficult are targets like any other.
        num_batches: of the whole run and all processes, for `AugmentSettings.close_mosaic`; None
            never closes.
        batches_per_step: of all processes together, for `AugmentSettings.multi_scale`.
        cache: where decoded pictures are kept.

    Raises:
        EmptyDatasetError: no pictures.
        DataError: not one path a medium, or not one weight an annotation.
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
        settings: AugmentSettings | None = None,
        resize: Resize = "letterbox",
        sampler: PictureSampler | None = None,
        weights: NDArray[np.floating[Any]] | None = None,
        include_difficult: bool = False,
        num_batches: int | None = None,
        batches_per_step: int = 1,
        cache: CacheSettings | None = None,
    ) -> None:
        _refuse_unusable(images, dataset, size, batch_size)
        self.dataset = dataset
        self.images = images
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.resize = resize
        self.settings = AugmentSettings() if settings is None else settings
        self.sampler = UniformSampler(len(images), seed=seed) if sampler is None else sampler
        self._table = TargetTable(dataset, weights=weights, include_difficult=include_difficult)
        self._closing = _first_closed(num_batches, batch_size, self.settings)
        self._batches_per_step = batches_per_step
        self._cache_settings = CacheSettings() if cache is None else cache
        self._cache: PictureCache | None = None
        self._opening = threading.Lock()

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run compares: settings, and a digest over media and targets."""
        digest = hashlib.sha256("\0".join(self.dataset.media.uri).encode())
        self._table.update(digest)
        return {
            "num_images": len(self.images),
            "digest": digest.hexdigest(),
            "size": self.size,
            "resize": self.resize,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "augment": asdict(self.settings),
            "sampling": self.sampler.identity,
        }

    def batch(self, step: int) -> dict[str, Any]:
        """Batch number ``step``, counted from 0 and without end.

        Returns:
            images: float32 [b, 3, size, size] in 0..1, channels last in memory.
            boxes_xyxy: float32 [n, 4], pixel-edge corners in network pixels.
            class_index: int64 [n], row in ``dataset.categories``.
            image_index: int64 [n], row in this batch.
            box_weights: float32 [n]; 1, or the weight of the annotation, times its picture's share
                in a mixture.
            ignore_boxes_xyxy: float32 [m, 4], where nothing is punished as background.
            ignore_image_index: int64 [m], row in this batch.
            media_index: int64 [b], row in ``dataset.media``; of a mosaic its first picture.
            names: b paths.

            With ``settings.on_device`` what `device_batch` gives stands in place of ``images``.

        Raises:
            MediaError: a picture is missing, broken, or of another size than its labels say.
        """
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        size = self.size_of(step)
        samples = [self._parameters(position, size) for position in positions]
        if self.settings.on_device:
            pixels, targets = device_batch(samples, self, self.settings)
        else:
            canvas = np.empty((self.batch_size, size, size, 3), dtype=np.uint8)
            targets = [
                draw_sample_pixels(sample, parameters, self, self.settings)
                for sample, parameters in zip(canvas, samples, strict=True)
            ]
            # In one pass; and [b, h, w, 3] seen as [b, 3, h, w] is channels last already.
            shares = np.divide(canvas, np.float32(255), dtype=np.float32)
            pixels = {"images": torch.from_numpy(shares).permute(0, 3, 1, 2)}
        rows = [sample.pictures[0].row for sample in samples]
        return {
            **pixels,
            **_columns(targets),
            "media_index": torch.tensor(rows),
            "names": [str(self.images[row]) for row in rows],
        }

    def parameters_of(self, position: int) -> SampleParameters:
        """What the sample at a place of the stream goes through; needs no pixels."""
        return self._parameters(position, self.size_of(position // self.batch_size))

    def size_of(self, step: int) -> int:
        """Side in pixels of the pictures of batch number ``step``."""
        return network_size(
            step,
            size=self.size,
            seed=self.seed,
            settings=self.settings,
            batches_per_step=self._batches_per_step,
        )

    @property
    def largest_size(self) -> int:
        """The largest side of any batch; memory has to last for it."""
        return largest_size(self.size, self.settings)

    @property
    def cache(self) -> PictureCache:
        """The decoded pictures; opened when they are first needed."""
        if self._cache is None:
            with self._opening:
                if self._cache is None:
                    self._cache = PictureCache(
                        self.images,
                        self.dataset.media,
                        size=self.largest_size,
                        resize=self.resize,
                        settings=self._cache_settings,
                    )
        return self._cache

    def picture(self, row: int) -> CachedPicture:
        """The pixels of a picture, at network size (see `PictureSource`)."""
        return self.cache.get(row)

    def mean_colour(self, row: int) -> tuple[float, ...]:
        """The mean level of a picture in red, green and blue."""
        return self.cache.mean_colour(row)

    def targets(self, row: int) -> Targets:
        """What is asked for in a picture, in its own pixels."""
        found = self._table.of(row)
        is_known = self.dataset.media.width[row] and self.dataset.media.height[row]
        return found if is_known else found.inside(self.picture(row).size)

    def pasted(self, row: int, choice: float) -> PastedObject | None:
        """An object of a picture that can be laid into another."""
        found, annotations = self.targets(row), self.dataset.annotations
        if not len(found.boxes_xyxy):
            return None
        chosen = int(choice * len(found.boxes_xyxy))
        annotation = int(self._table.annotations_of(row)[chosen])
        return PastedObject(
            box_xyxy=found.boxes_xyxy[chosen],
            outline=outline_of(
                annotations.segmentation[annotation], int(annotations.geometry[annotation])
            ),
            class_index=int(found.class_index[chosen]),
            weight=float(found.weights[chosen]),
        )

    def _parameters(self, position: int, size: int) -> SampleParameters:
        return draw_sample(
            self.sampler.at(position),
            seed=self.seed,
            position=position,
            size=size,
            settings=self.settings,
            pick=self.sampler.pick,
            is_closing=self._closing is not None and position >= self._closing,
        )


def _columns(targets: Sequence[Targets]) -> dict[str, Tensor]:
    """The targets of a batch, joined, with the row that each belongs to."""
    boxes, classes, weights, ignored = (
        torch.from_numpy(np.concatenate(column)) for column in zip(*targets, strict=True)
    )
    rows = torch.arange(len(targets))
    counts = torch.tensor([len(one.boxes_xyxy) for one in targets])
    regions = torch.tensor([len(one.ignore_xyxy) for one in targets])
    return {
        "boxes_xyxy": boxes.float(),
        "class_index": classes,
        "image_index": torch.repeat_interleave(rows, counts),
        "box_weights": weights.float(),
        "ignore_boxes_xyxy": ignored.float(),
        "ignore_image_index": torch.repeat_interleave(rows, regions),
    }


def _first_closed(
    num_batches: int | None, batch_size: int, settings: AugmentSettings
) -> int | None:
    """The place in the stream from which on there is no mosaic."""
    if num_batches is None or not settings.close_mosaic:
        return None
    places = num_batches * batch_size
    return places - int(places * settings.close_mosaic)


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
