"""Labelled pictures as a classifier trains on them: in parts, kept in memory, changed at random.

`tilth.data.from_directory` lists them and gives plain batches; this adds what training needs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tilth.data.batch_order import epoch_rows
from tilth.data.directories import PictureDataset
from tilth.data.frame_labels import balanced_weights, refuse_unlearnable
from tilth.data.frame_split import split_rows
from tilth.data.images import read_image
from tilth.recipes.classify_settings import PictureSettings
from tilth.seeding import generator

__all__ = ["PictureBatches", "PictureFolder"]

KEPT_BYTES = 2**30


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureFolder:
    """n labelled pictures.

    Attributes:
        root: the folder that all of them are in.
        paths: n files.
        labels: int64 [n], places in ``class_names``.
        rows: int64 [n], place of each among all pictures of the folder.
        size: pixels of the square that every picture is brought to, stretched where it is none.
        flip, shift: how training batches change pictures; see `PictureSettings`.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    class_names: tuple[str, ...]
    size: int
    flip: bool
    shift: float
    _kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, pictures: PictureDataset, settings: PictureSettings) -> PictureFolder:
        """The pictures of a folder; none is read yet.

        Raises:
            DataError: all pictures are of one class.
        """
        counts = np.bincount(pictures.labels, minlength=pictures.num_classes)
        names = pictures.class_names
        refuse_unlearnable(counts, names, on_single="warn", classes_given=False)
        return cls(
            root=Path(os.path.commonpath([path.parent for path in pictures.files])),
            paths=pictures.files,
            labels=pictures.labels,
            rows=np.arange(len(pictures)),
            class_names=names,
            size=settings.size,
            flip=settings.flip,
            shift=settings.shift,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def class_weights(self) -> NDArray[np.float64]:
        """float64 [k]: the weight of each class with which all classes count alike."""
        return balanced_weights(np.bincount(self.labels, minlength=len(self.class_names)))

    def split(
        self, validation: float = 0.2, *, seed: int = 0
    ) -> tuple[PictureFolder, PictureFolder]:
        """Divide into (train, validation), every class in its share."""
        train, check = split_rows(len(self), validation, seed=seed, codes=self.labels)
        return self.take(train), self.take(check)

    @cached_property
    def digest(self) -> str:
        """Of the names, labels and bytes of the files."""
        digest = hashlib.blake2b(digest_size=16)
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            digest.update(f"{path.relative_to(self.root).as_posix()}\0{label}\0".encode())
            digest.update(self._bytes_digest(path))
        return digest.hexdigest()

    def torch(self, *, batch_size: int, seed: int = 0, shuffle: bool = True) -> PictureBatches:
        """Batches of tensors: ``images`` float32 [b, 3, size, size] in 0..1, ``label`` and ``row``
        int64 [b], and ``names``, the files. With ``shuffle`` pictures are flipped and moved, too.
        """
        return PictureBatches(self, batch_size=batch_size, seed=seed, shuffle=shuffle)

    def picture(self, place: int) -> NDArray[np.uint8]:
        """uint8 [size, size, 3] RGB; kept in memory, up to a gigabyte in all.

        Raises:
            MediaError: the file is missing or broken; names it.
        """
        row = int(self.rows[place])
        if row in self._kept:
            return self._kept[row]
        image, square = read_image(self.paths[place]), (self.size, self.size)
        made = cv2.resize(image, square, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        if (len(self._kept) + 1) * made.nbytes <= KEPT_BYTES:
            self._kept[row] = made
        return made

    def take(self, rows: NDArray[np.int64]) -> PictureFolder:
        """These pictures (counted in this folder), in this order."""
        return replace(
            self,
            paths=tuple(self.paths[row] for row in rows.tolist()),
            labels=self.labels[rows],
            rows=self.rows[rows],
        )

    @staticmethod
    def _bytes_digest(path: Path) -> bytes:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "blake2b").digest()


class PictureBatches:
    """Batches by number, in one random order of all pictures after the other."""

    def __init__(self, folder: PictureFolder, *, batch_size: int, seed: int, shuffle: bool) -> None:
        self.folder, self.batch_size = folder, batch_size
        self.seed, self.shuffle = seed, shuffle
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return -(-len(self.folder) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.batch, range(len(self)))

    def batch(self, step: int) -> dict[str, Any]:
        """Batch ``step`` of an endless row of epochs; the last of each may be smaller."""
        epoch, place = divmod(step, len(self))
        chosen = self._epoch(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        images = np.stack([self._seen(int(row), epoch) for row in chosen])
        return {
            "images": torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255),
            "label": torch.from_numpy(self.folder.labels[chosen]),
            "row": torch.from_numpy(self.folder.rows[chosen]),
            "names": [str(self.folder.paths[row]) for row in chosen.tolist()],
        }

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(len(self.folder))
        if self._order is None or self._order[0] != epoch:
            order = epoch_rows(len(self.folder), self.batch_size, seed=self.seed, epoch=epoch)
            self._order = (epoch, order)
        return self._order[1]

    def _seen(self, place: int, epoch: int) -> NDArray[np.uint8]:
        picture = self.folder.picture(place)
        if not self.shuffle:
            return picture
        stream = generator(self.seed, "seen", int(self.folder.rows[place]), epoch)
        if self.folder.flip and stream.random() < 0.5:
            picture = picture[:, ::-1]
        reach = self.folder.shift * self.folder.size
        dx, dy = stream.uniform(-reach, reach, size=2)
        matrix = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float32)
        size = (self.folder.size, self.folder.size)
        moved = cv2.warpAffine(
            np.ascontiguousarray(picture), matrix, size, borderMode=cv2.BORDER_REFLECT_101
        )
        return moved.astype(np.uint8, copy=False)
