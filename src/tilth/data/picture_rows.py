"""Pictures of a folder as rows of batches, all resized to one size.

Pixels are interpolated between pixel centres, without smoothing when a picture becomes smaller, as
`tf.image.resize` does and Keras with it: the bilinear and nearest values are TensorFlow's to
rounding. Files may decode differently by a grey level or two (other JPEG decoders); a picture with
alpha loses it, and EXIF rotation is not applied, both as in TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.images import read_image

__all__ = ["Interpolation", "PictureRows", "resized"]

Interpolation = Literal["bilinear", "nearest"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureRows:
    """n pictures that are read when a batch asks for them.

    Attributes:
        row: int64 [n].
        label: [n, ...] as it stands in a batch; None without labels.
        size: height and width of the batches.
        crop: cut to the aspect ratio of ``size`` instead of stretching.
    """

    files: tuple[Path, ...]
    row: NDArray[np.int64]
    label: NDArray[Any] | None
    size: tuple[int, int]
    interpolation: Interpolation
    crop: bool
    tokens: None = None

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: NDArray[np.int64], /) -> PictureRows:
        """These pictures, in this order."""
        return replace(
            self,
            files=tuple(self.files[row] for row in rows.tolist()),
            row=self.row[rows],
            label=None if self.label is None else self.label[rows],
        )

    def batch(self, start: int, stop: int, width: int | None, /) -> dict[str, NDArray[Any]]:
        """Read, resize and stack.

        Returns:
            images: float32 [b, 3, h, w], 0 to 1.
            label, row: as given.
        """
        pictures = [
            resized(read_image(path), self.size, interpolation=self.interpolation, crop=self.crop)
            for path in self.files[start:stop]
        ]
        images = np.stack(pictures).transpose(0, 3, 1, 2) / np.float32(255)
        named: dict[str, NDArray[Any]] = {"images": images}
        if self.label is not None:
            named["label"] = self.label[start:stop]
        return {**named, "row": self.row[start:stop]}


def resized(
    image_rgb: NDArray[np.uint8],
    size: tuple[int, int],
    *,
    interpolation: Interpolation = "bilinear",
    crop: bool = False,
) -> NDArray[np.float32]:
    """A picture at another size, float32 [h, w, 3] in 0 to 255.

    Args:
        image_rgb: uint8 [h, w, 3].
        size: height and width.
        crop: first cut out the largest window in the middle that has the aspect ratio of ``size``.
    """
    import cv2

    picture = _middle(image_rgb, size) if crop else image_rgb
    if interpolation == "nearest":  # OpenCV rounds from the corners, and its exact one ties down
        rows, columns = (_nearest(*pair) for pair in zip(picture.shape, size, strict=False))
        return picture[rows[:, None], columns].astype(np.float32)
    # In float32, since OpenCV rounds the weights of 8-bit pictures.
    scaled = cv2.resize(picture.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return scaled  # type: ignore[return-value]


def _nearest(source: int, target: int) -> NDArray[np.int64]:
    """int64 [target]: the pixel whose area holds the centre of each new one, in TensorFlow's
    precision, which decides where a centre falls on an edge."""
    scale = np.float32(source) / np.float32(target)
    centres = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale
    return np.minimum(np.floor(centres).astype(np.int64), source - 1)


def _middle(image_rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = image_rgb.shape[:2]
    crop_height = max(min(height, int(width * size[0] / size[1])), 1)
    crop_width = max(min(width, int(height * size[1] / size[0])), 1)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return image_rgb[top : top + crop_height, left : left + crop_width]
