"""Objects of other pictures, cut out along their outline and laid into a sample.

Source: Ghiasi et al., 2021, Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation, arXiv 2012.07177v2.
Follows: "copy a subset of the instances of one image onto another" -> `paste_object`.
Symbols: outline = the instance's mask, as polygons in pixels of its picture.
Differs: objects come one by one and each from a picture of its own; edges are hard (the paper found
    no use in blurring them); an object without an outline is pasted with its box.
Checked by: `test_pasted_pixels_and_box_agree`, `test_outline_decides_which_pixels_are_pasted`
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from tilth.data.masks import rle_to_polygons
from tilth.data.records import Geometry
from tilth.train.augment_geometry import Rectangle, warped_boxes
from tilth.train.augment_parameters import Paste

__all__ = ["outline_of", "paste_matrix", "paste_object"]

Outline = Sequence[NDArray[np.float64]]

_SUBPIXEL = 16  # OpenCV fills polygons with corners in fractions of 2 ** -4
_FINER = 4  # it also fills the pixels that the outline touches; in a finer mask those are less


def outline_of(segmentation: bytes | None, geometry: int) -> Outline | None:
    """The parts of an object's outline, each float64 [k, 2] in pixels of its picture.

    None for an object that has a box only.
    """
    if not segmentation or geometry not in (Geometry.POLYGON, Geometry.RLE):
        return None
    polygons = rle_to_polygons(segmentation) if geometry == Geometry.RLE else segmentation
    parts = msgspec.json.decode(polygons, type=list[list[float]])
    return [np.array(part).reshape(-1, 2) for part in parts if len(part) >= 6]


def paste_matrix(
    paste: Paste, box_xyxy: NDArray[np.float64], placed: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """float64 [3, 3]: from the stored picture to the sample, with the object where it shall be.

    Args:
        box_xyxy: float64 [4], of the object in its picture.
        placed: puts that picture into the square, which gives the object its size.
    """
    factor = np.diag([-paste.scale if paste.flip else paste.scale, paste.scale, 1.0])
    matrix = factor @ placed
    x0, y0, x1, y1 = warped_boxes(box_xyxy[None], matrix)[0]
    shift = np.eye(3)
    # Wholly inside where it fits; a larger one covers the sample from wherever it is.
    shift[0, 2] = round(paste.x * (size - (x1 - x0)) - x0)
    shift[1, 2] = round(paste.y * (size - (y1 - y0)) - y0)
    return shift @ matrix


def paste_object(
    sample: NDArray[np.uint8],
    source: NDArray[np.uint8],
    to_sample: NDArray[np.float64],
    box_xyxy: NDArray[np.float64],
    outline: Outline | None,
    to_source: NDArray[np.float64],
) -> Rectangle | None:
    """Lay one object into ``sample``, in place.

    Args:
        sample: uint8 [s, s, 3].
        source: uint8 [h, w, 3], the picture that it is taken from.
        to_sample: float64 [3, 3], stored picture to sample.
        box_xyxy: float64 [4], of the object in the stored picture.
        outline: its parts in the stored picture; None takes all of the box.
        to_source: float64 [3, 3], stored picture to ``source``.

    Returns:
        The pixels that were written to, as a rectangle; None where none were.
    """
    size = sample.shape[0]
    moved = warped_boxes(box_xyxy[None], to_sample)[0].clip(0, size)
    x0, y0, x1, y1 = (int(value) for value in np.rint(moved))
    if x1 - x0 < 1 or y1 - y0 < 1:
        return None
    local = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]) @ to_sample
    matrix = local @ np.linalg.inv(to_source)
    matrix[:2, 2] += matrix[:2, :2] @ (0.5, 0.5) - 0.5
    patch = cv2.warpAffine(
        source,
        matrix[:2],
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    view = sample[y0:y1, x0:x1]
    if outline is None:
        view[:] = patch
    else:
        cv2.copyTo(patch, _mask(outline, local, patch.shape[:2]), view)
    return x0, y0, x1, y1


def _mask(
    outline: Outline, matrix: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """uint8 [h, w]: 255 for pixels of which half or more lies inside."""
    fine = np.zeros([side * _FINER for side in shape], dtype=np.uint8)
    for part in outline:
        points = (part @ matrix[:2, :2].T + matrix[:2, 2]) * _FINER - 0.5  # to pixel centres
        corners = np.rint(points * _SUBPIXEL).astype(np.int32)
        filled = np.zeros_like(fine) if len(outline) > 1 else fine
        cv2.fillPoly(filled, [corners], 255, shift=4)
        fine |= filled
    share = cv2.resize(fine, shape[::-1], interpolation=cv2.INTER_AREA)
    return np.where(share >= 128, 255, 0).astype(np.uint8)
