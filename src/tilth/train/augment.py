"""A sample made from its parameters: pixels by OpenCV, and the boxes that go with them.

What is drawn (`augment_parameters`), where points go (`augment_geometry`), how pixels follow
(`augment_pixels`) and what is asked for (`targets`) meet here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.ops.letterbox import FILL
from tilth.train.augment_geometry import (
    Rectangle,
    Resize,
    fitted_size,
    picture_matrix,
    placement_matrix,
    square_matrix,
    tiles_of,
)
from tilth.train.augment_parameters import PictureParameters, SampleParameters
from tilth.train.augment_pixels import blot_out, draw_picture, roughened, show_through
from tilth.train.augment_settings import AugmentSettings
from tilth.train.copy_paste import Outline, paste_matrix, paste_object
from tilth.train.picture_cache import CachedPicture
from tilth.train.targets import Targets, joined_targets, uncovered

__all__ = [
    "PastedObject",
    "PictureSource",
    "TileSource",
    "draw_sample_pixels",
    "rectangles_of",
    "tile_sources",
]


class PastedObject(NamedTuple):
    """An object that can be taken out of its picture.

    Attributes:
        box_xyxy: float64 [4], in its picture.
        outline: its parts, None for one that has only its box.
    """

    box_xyxy: NDArray[np.float64]
    outline: Outline | None
    class_index: int
    weight: float


class PictureSource(Protocol):
    """What samples are made of.

    Attributes:
        resize: how a picture comes into the square.
    """

    resize: Resize

    def picture(self, row: int) -> CachedPicture:
        """The pixels of a picture."""
        ...

    def mean_colour(self, row: int) -> tuple[float, ...]:
        """Its mean level in red, green and blue."""
        ...

    def targets(self, row: int) -> Targets:
        """What is asked for in it."""
        ...

    def pasted(self, row: int, choice: float) -> PastedObject | None:
        """One of its objects, ``choice`` of the way along them; None where it has none."""
        ...


@dataclass(frozen=True, kw_only=True)
class TileSource:
    """One picture of a sample, ready to be warped into its tile.

    Attributes:
        image_rgb: uint8 [h, w, 3].
        matrix: float64 [3, 3], edges of its pixels to edges of the sample's.
        tile: where it is seen.
        fill: levels of what comes in from outside.
        targets: in the sample.
    """

    image_rgb: NDArray[np.uint8]
    matrix: NDArray[np.float64]
    tile: Rectangle
    fill: tuple[float, ...]
    parameters: PictureParameters
    targets: Targets


def draw_sample_pixels(
    sample: NDArray[np.uint8],
    parameters: SampleParameters,
    source: PictureSource,
    settings: AugmentSettings,
) -> Targets:
    """Draw the sample into ``sample`` (uint8 [s, s, 3]), in place, and give its targets."""
    targets = _drawn(sample, parameters, source, settings)
    if parameters.other is not None:
        behind = np.empty_like(sample)
        others = _drawn(behind, parameters.other, source, settings)
        show_through(sample, behind, parameters.share)
        targets = joined_targets(
            [targets.weighted(parameters.share), others.weighted(1 - parameters.share)]
        )
    roughened(sample, parameters)
    return targets


def tile_sources(
    parameters: SampleParameters, source: PictureSource, settings: AugmentSettings
) -> list[TileSource]:
    """The pictures of a sample (without those of its ``other``), one or four."""
    size = parameters.size
    tiles = tiles_of(parameters.cut, size)
    found = []
    for corner, (tile, one) in enumerate(zip(tiles, parameters.pictures, strict=True)):
        cached = source.picture(one.row)
        matrix = picture_matrix(
            one, cached.size, size, source.resize, corner=corner if len(tiles) > 1 else None
        )
        bound = tile if settings.mosaic_bound else (0, 0, size, size)
        targets = source.targets(one.row).moved(
            matrix, tile, bound, min_visible=settings.min_visible, min_side=settings.min_side
        )
        fill = (FILL,) * 3 if settings.fill == "grey" else source.mean_colour(one.row)
        if len(tiles) == 1 and _is_padded(one, cached, size, source.resize):
            pixels, from_pixels = _padded(cached.image_rgb, size, fill), square_matrix(one, size)
        else:
            pixels = cached.image_rgb
            from_pixels = matrix @ _to_stored(cached)
        found.append(
            TileSource(
                image_rgb=pixels,
                matrix=from_pixels,
                tile=tile,
                fill=fill,
                parameters=one,
                targets=targets,
            )
        )
    return found


def rectangles_of(parameters: SampleParameters) -> tuple[Rectangle, ...]:
    """The cut-outs in pixels, at least one wide and high."""
    size = parameters.size
    corners = np.rint(np.array(parameters.cutouts).reshape(-1, 4) * size).astype(int)
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in corners.tolist())


def _drawn(
    sample: NDArray[np.uint8],
    parameters: SampleParameters,
    source: PictureSource,
    settings: AugmentSettings,
) -> Targets:
    tiles = tile_sources(parameters, source, settings)
    for tile in tiles:
        draw_picture(sample, tile.tile, tile.image_rgb, tile.matrix, tile.parameters, tile.fill)
    targets = joined_targets([tile.targets for tile in tiles])
    if parameters.pastes:
        targets = _with_pastes(sample, targets, parameters, source, settings)
    if parameters.cutouts:
        rectangles = rectangles_of(parameters)
        blot_out(sample, rectangles, tiles[0].fill)
        kept = uncovered(targets.boxes_xyxy, rectangles, settings.min_visible)
        targets = targets.take(kept)
    return targets


def _with_pastes(
    sample: NDArray[np.uint8],
    targets: Targets,
    parameters: SampleParameters,
    source: PictureSource,
    settings: AugmentSettings,
) -> Targets:
    for paste in parameters.pastes:
        found = source.pasted(paste.row, paste.choice)
        if found is None:
            continue
        cached = source.picture(paste.row)
        placed = placement_matrix(*cached.size, parameters.size, source.resize)
        matrix = paste_matrix(paste, found.box_xyxy, placed, parameters.size)
        to_source = np.diag(1 / np.diag(_to_stored(cached)))
        covered = paste_object(
            sample, cached.image_rgb, matrix, found.box_xyxy, found.outline, to_source
        )
        if covered is None:
            continue
        laid = Targets(
            found.box_xyxy[None],
            np.array([found.class_index]),
            np.array([found.weight]),
            np.zeros((0, 4)),
        )
        whole = (0, 0, parameters.size, parameters.size)
        laid = laid.moved(
            matrix, whole, whole, min_visible=settings.min_visible, min_side=settings.min_side
        )
        seen = targets.take(uncovered(targets.boxes_xyxy, [covered], settings.min_visible))
        targets = joined_targets([seen, laid])
    return targets


def _is_padded(one: PictureParameters, cached: CachedPicture, size: int, resize: Resize) -> bool:
    """Whether the picture lies in the square as it is kept, so that the square can be its source:
    a letterboxed picture is changed together with its padding, like a photograph with bars."""
    height, width = cached.image_rgb.shape[:2]
    fitted = fitted_size(*cached.size, size, resize)
    return not any(one.sides) and (width, height) == fitted


def _padded(image_rgb: NDArray[np.uint8], size: int, fill: tuple[float, ...]) -> NDArray[np.uint8]:
    height, width = image_rgb.shape[:2]
    if (height, width) == (size, size):
        return image_rgb
    left, top = (size - width) // 2, (size - height) // 2
    borders = (top, size - height - top, left, size - width - left)
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        image_rgb, *borders, cv2.BORDER_CONSTANT, value=fill
    )


def _to_stored(cached: CachedPicture) -> NDArray[np.float64]:
    """From the pixels that are kept to those of the stored picture."""
    height, width = cached.image_rgb.shape[:2]
    return np.diag([cached.size[0] / width, cached.size[1] / height, 1.0])
