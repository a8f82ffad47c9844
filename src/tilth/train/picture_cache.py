"""Pictures decoded once and brought to the network's size, for all threads, processes and ranks.

A picture is kept without the padding of a letterbox, so that it can become any part of a mosaic
with one warp. What is kept is a function of the files and of the size, and so is the name of the
file that keeps it: processes that train on the same pictures share one (see `shared_slots`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch.nn.functional import interpolate

from tilth.data.dataset import MediaColumns
from tilth.data.images import expect_size, read_at_least, read_size
from tilth.errors import MediaError, StorageError
from tilth.train.augment_geometry import fitted_size
from tilth.train.shared_slots import SharedSlots, swept

__all__ = ["CacheSettings", "CachedPicture", "PictureCache", "fitted_picture"]

_LARGE_PIXELS = 50_000_000  # of these one is decoded at a time: it takes half a gigabyte
_SHARE_OF_MEMORY = 0.6  # of what is free; the rest is for the network
_LEFT_ON_DISK = 2**30
_KEPT_FOR_S = 7 * 24 * 3600.0
_FORMAT = "tilth.pictures/1"

_one_large = threading.Lock()


class CachedPicture(NamedTuple):
    """A picture at network size, read-only, and the width and height that it is stored with."""

    image_rgb: NDArray[np.uint8]
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Where decoded pictures are kept.

    Attributes:
        folder: "" is one in the system's folder for temporary files, emptied when the last process
            ends. A folder that is named keeps the pictures for a week after their last use.
        gigabytes: most that is kept; 0 keeps nothing, a negative number as much as is free.
    """

    folder: str = ""
    gigabytes: float = -1.0


class PictureCache:
    """The pictures of a data set at network size.

    Those that do not fit are decoded anew each time. Nothing is thrown out for a later one, because
    an epoch visits every picture once: whatever was used longest ago is what is needed next, and a
    cache of the most recent would never hit.

    Args:
        images: n paths.
        media: their sizes as the labels say; 0 is looked up in the file.
        size, resize: see `fitted_size`.
        settings: see `CacheSettings`.
    """

    def __init__(
        self,
        images: Sequence[Path],
        media: MediaColumns,
        *,
        size: int,
        resize: Literal["letterbox", "stretch"],
        settings: CacheSettings = CacheSettings(),
    ) -> None:
        self._images = images
        self._size, self._resize = size, resize
        self._stored = [_stored_size(path, media, row) for row, path in enumerate(images)]
        self._fitted = [
            fitted_size(*stored, size, resize) if all(stored) else (0, 0) for stored in self._stored
        ]
        lengths = np.array([3 * width * height for width, height in self._fitted], dtype=np.int64)
        folder = Path(settings.folder) if settings.folder else _temporary_folder()
        path = folder / f"{self._key()}.slots"
        lengths[np.cumsum(lengths) > _room(path, settings, int(lengths.sum()))] = 0
        self._kept = np.flatnonzero(lengths)
        self._means: dict[int, tuple[float, ...]] = {}
        self._slots = _open_slots(path, lengths, keep=bool(settings.folder))

    @property
    def num_kept(self) -> int:
        """How many of the pictures there is room for."""
        return len(self._kept)

    def get(self, row: int) -> CachedPicture:
        """The picture in ``images[row]``.

        Raises:
            MediaError: it is missing, broken, or of another size than its labels say.
        """
        width, height = self._fitted[row]
        if not width:  # its header could not be read: the error says why
            return self._read(row)
        pixels = self._slots.get(row, lambda: self._read(row).image_rgb)
        return CachedPicture(pixels.reshape(height, width, 3), self._stored[row])

    def mean_colour(self, row: int) -> tuple[float, ...]:
        """The mean level of a picture in red, green and blue."""
        found = self._means.get(row)
        if found is None:
            found = self._means[row] = tuple(cv2.mean(self.get(row).image_rgb)[:3])
        return found

    def fill(self, *, workers: int = 1, progress: bool = False) -> None:
        """Decode all pictures that will be kept and are not here yet.

        Raises:
            MediaError: see `get`.
        """
        missing = [row for row in self._kept.tolist() if not self._slots.is_made(row)]
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="tilth-decode") as pool:
            for _ in track(
                pool.map(self.get, missing),
                "decoding pictures",
                total=len(missing),
                console=Console(stderr=True),
                transient=True,
                disable=not progress or not missing,
            ):
                pass

    def close(self) -> None:
        """Let the shared file go."""
        self._slots.close()

    def _read(self, row: int) -> CachedPicture:
        return fitted_picture(
            self._images[row], self._stored[row], size=self._size, resize=self._resize
        )

    def _key(self) -> str:
        digest = hashlib.sha256(f"{_FORMAT} {self._size} {self._resize}".encode())
        for path, stored in zip(self._images, self._stored, strict=True):
            try:
                status = os.stat(path)
                facts = (str(path), status.st_size, status.st_mtime_ns, stored)
            except OSError:
                facts = (str(path), -1, -1, stored)
            digest.update(repr(facts).encode())
        return digest.hexdigest()[:40]


def fitted_picture(
    path: Path,
    stored: tuple[int, int],
    *,
    size: int,
    resize: Literal["letterbox", "stretch"],
) -> CachedPicture:
    """Read one picture and bring it to network size.

    Args:
        stored: width and height that it must have, 0 for any.

    Raises:
        MediaError: it is missing, broken, or of another size.
    """

    def least(width: int, height: int) -> tuple[int, int]:
        return fitted_size(width, height, size, resize)

    with _one_large if stored[0] * stored[1] > _LARGE_PIXELS else nullcontext():
        image_rgb, found, factor = read_at_least(path, least)
    expect_size(found, stored, where=str(path))
    width, height = least(*found)
    pixels = torch.from_numpy(image_rgb).permute(2, 0, 1)[None]
    if factor == 1:
        resized = interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)
    else:
        # By the size that the stored picture has at this reduction, a fraction of a pixel less than
        # what came. The result's sides are rounded down, hence a trifle more.
        scales = [
            (1 + 1e-9) * new * factor / old for new, old in ((height, found[1]), (width, found[0]))
        ]
        resized = interpolate(pixels, scale_factor=scales, mode="bilinear", antialias=True)
    return CachedPicture(resized[0].permute(1, 2, 0).contiguous().numpy(), found)


def _stored_size(path: Path, media: MediaColumns, row: int) -> tuple[int, int]:
    size = int(media.width[row]), int(media.height[row])
    if all(size):
        return size
    try:
        return read_size(path)
    except MediaError:
        return 0, 0  # said when its turn comes


def _open_slots(path: Path, lengths: NDArray[np.int64], *, keep: bool) -> SharedSlots:
    folder = path.parent
    try:
        if folder.is_dir():
            if not keep and folder.stat().st_uid != os.getuid():
                return SharedSlots(None, lengths)  # somebody else may write into it
            swept(folder, older_than_s=_KEPT_FOR_S if keep else 0.0)
        return SharedSlots(path, lengths, keep=keep)
    except StorageError:
        if keep:
            raise
        return SharedSlots(None, lengths)  # this process alone has them then


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"tilth-pictures-{os.getuid()}"


def _room(path: Path, settings: CacheSettings, wanted: int) -> float:
    """Bytes that may be kept; says so when that is less than all pictures need."""
    most = settings.gigabytes * 2**30 if settings.gigabytes >= 0 else np.inf
    room = min(most, _free_disk(path), _SHARE_OF_MEMORY * _free_memory())
    if wanted > room and settings.gigabytes != 0:
        warnings.warn(
            f"decoded pictures need {wanted / 2**30:.3g} GB, and there is room for "
            f"{room / 2**30:.3g} GB in {path.parent} (disk, free memory or cache.gigabytes): the "
            "others are decoded in every epoch",
            stacklevel=4,
        )
    return room


def _free_disk(path: Path) -> float:
    """Bytes that ``path`` may take, those that it takes already among them."""
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    taken = path.stat().st_blocks * 512 if path.exists() else 0
    return max(0, shutil.disk_usage(parent).free + taken - _LEFT_ON_DISK)


def _free_memory() -> float:
    """Bytes; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return np.inf
    free = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return free[0] * 1024 if free else np.inf
