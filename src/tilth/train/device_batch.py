"""A batch whose pixels are still to be changed: pictures, and what shall happen to each.

This is the half that runs where pictures are decoded; `augment_on_device` is the half that runs
where the network does. In between only pictures of network size travel, in 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tilth.train.augment import PictureSource, TileSource, rectangles_of, tile_sources
from tilth.train.augment_parameters import SampleParameters
from tilth.train.augment_settings import AugmentSettings
from tilth.train.targets import Targets, joined_targets, uncovered

__all__ = ["device_batch"]


def device_batch(
    samples: Sequence[SampleParameters], source: PictureSource, settings: AugmentSettings
) -> tuple[dict[str, Any], list[Targets]]:
    """What `augment_on_device.rendered` needs, and the targets of each sample.

    A canvas is one layer of a sample: rows 0 to b are the samples, and after them come those that
    shine through.

    Returns:
        A dict and b targets. The dict:
            canvas_of: int64 [b], the canvas that shines through sample i, or -1.
            shares: float32 [b], of the sample itself.
            blur_sigma: float32 [b].
            canvas_size: int64 [2], number of canvases and their side.
            tile_pixels: uint8 [t, 3, h, w], channels last in memory, padded at the right and below.
            tile_shapes: int64 [t, 2], height and width before padding.
            tile_matrices: float64 [t, 3, 3], from edges of canvas pixels to edges of tile pixels.
            tile_places: int64 [t, 5], canvas and x0, y0, x1, y1 in it.
            tile_colours: float32 [t, 4], hue, saturation, brightness, contrast.
            tile_fills: float32 [t, 3], levels of what comes in from outside.
            cutouts: int64 [k, 5], canvas and x0, y0, x1, y1 in it.
            cutout_fills: float32 [k, 3].
    """
    behind = [sample.other for sample in samples if sample.other is not None]
    numbers = iter(range(len(samples), len(samples) + len(behind)))
    canvas_of = [-1 if sample.other is None else next(numbers) for sample in samples]
    canvases = [tile_sources(canvas, source, settings) for canvas in [*samples, *behind]]
    layers = [*samples, *behind]
    cutouts = [
        (canvas, *rectangle)
        for canvas, layer in enumerate(layers)
        for rectangle in rectangles_of(layer)
    ]
    asked = [
        _targets(layer, tiles, settings) for layer, tiles in zip(layers, canvases, strict=True)
    ]
    size = samples[0].size
    return {
        "canvas_of": torch.tensor(canvas_of),
        "shares": torch.tensor([sample.share for sample in samples], dtype=torch.float32),
        "blur_sigma": torch.tensor([sample.blur_sigma for sample in samples]),
        "canvas_size": torch.tensor([len(layers), size]),
        **_tiles(canvases),
        "cutouts": torch.tensor(cutouts, dtype=torch.int64).reshape(-1, 5),
        "cutout_fills": torch.tensor(
            [canvases[row[0]][0].fill for row in cutouts], dtype=torch.float32
        ).reshape(-1, 3),
    }, [
        _mixed(asked[row], sample, None if behind_it < 0 else asked[behind_it])
        for row, (sample, behind_it) in enumerate(zip(samples, canvas_of, strict=True))
    ]


def _tiles(canvases: Sequence[Sequence[TileSource]]) -> dict[str, Tensor]:
    tiles = [(canvas, tile) for canvas, some in enumerate(canvases) for tile in some]
    shapes = [tile.image_rgb.shape[:2] for _, tile in tiles]
    height, width = np.max(shapes, axis=0)
    pixels = np.zeros((len(tiles), height, width, 3), dtype=np.uint8)
    for place, (_, tile) in zip(pixels, tiles, strict=True):
        place[: tile.image_rgb.shape[0], : tile.image_rgb.shape[1]] = tile.image_rgb
    colours = [
        (one.hue, one.saturation, one.brightness, one.contrast)
        for one in (tile.parameters for _, tile in tiles)
    ]
    matrices = [np.linalg.inv(tile.matrix) for _, tile in tiles]
    return {
        "tile_pixels": torch.from_numpy(pixels).permute(0, 3, 1, 2),
        "tile_shapes": torch.tensor(shapes),
        "tile_matrices": torch.from_numpy(np.stack(matrices)),
        "tile_places": torch.tensor([(canvas, *tile.tile) for canvas, tile in tiles]),
        "tile_colours": torch.tensor(colours, dtype=torch.float32),
        "tile_fills": torch.tensor([tile.fill for _, tile in tiles], dtype=torch.float32),
    }


def _targets(
    layer: SampleParameters, tiles: Sequence[TileSource], settings: AugmentSettings
) -> Targets:
    targets = joined_targets([tile.targets for tile in tiles])
    if not layer.cutouts:
        return targets
    return targets.take(uncovered(targets.boxes_xyxy, rectangles_of(layer), settings.min_visible))


def _mixed(targets: Targets, sample: SampleParameters, behind: Targets | None) -> Targets:
    if behind is None:
        return targets
    return joined_targets([targets.weighted(sample.share), behind.weighted(1 - sample.share)])
