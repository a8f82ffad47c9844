"""The changes of `augment_pixels` as tensor arithmetic, for batches whose pixels are on a GPU.

The parameters are the same, drawn and logged in the same way; the pixels agree within a few grey
levels, since OpenCV keeps hue in 180 steps and coordinates in 32nds of a pixel, and this does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, grid_sample, pad

from tilth.train.loop import Loss

__all__ = ["rendered", "rendering"]

_CHUNK = 64  # tiles at once: their sampling grids take memory


def rendered(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch with ``images`` float32 [b, 3, s, s] in 0..1, made where its tiles lie.

    A batch that has its images already comes back as it is.

    Args:
        batch: of `DetectionBatches.batch`; see `device_batch`.
    """
    if "images" in batch:
        return batch
    with torch.no_grad(), torch.autocast(batch["tile_pixels"].device.type, enabled=False):
        canvases = _drawn(batch)
        for (canvas, x0, y0, x1, y1), fill in zip(
            batch["cutouts"].tolist(), batch["cutout_fills"], strict=True
        ):
            canvases[canvas, :, y0:y1, x0:x1] = fill[:, None, None]
        images = _blurred(_mixed(canvases, batch), batch["blur_sigma"].tolist())
        images = images.div_(255).contiguous(memory_format=torch.channels_last)
    return {**batch, "images": images}


def rendering(loss: Loss) -> Loss:
    """``loss`` of batches whose images are still to be made."""

    def loss_of_rendered(network: nn.Module, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        return loss(network, rendered(batch))

    return loss_of_rendered


def _drawn(batch: Mapping[str, Any]) -> Tensor:
    """float32 [c, 3, s, s]: every tile warped into its place on its canvas, levels 0 to 255."""
    number, size = batch["canvas_size"].tolist()
    pixels = batch["tile_pixels"]
    canvases = torch.zeros(number, 3, size, size, device=pixels.device)
    for start in range(0, len(pixels), _CHUNK):
        part = slice(start, start + _CHUNK)
        sources = pixels[part].float()
        fills = batch["tile_fills"][part][:, :, None, None]
        sources = _recoloured(sources, batch["tile_colours"][part]) - fills
        sources = sources * _within(batch["tile_shapes"][part], sources.shape[-2:])
        grid = _grid(batch["tile_matrices"][part], size, sources.shape[-2:])
        warped = grid_sample(sources, grid, mode="bilinear", align_corners=False) + fills
        places = batch["tile_places"][part]
        shown = warped * _tile_masks(places[:, 1:], size)
        # The tiles of a canvas do not overlap, and cover it.
        canvases.index_add_(0, places[:, 0], shown)
    return canvases


def _grid(matrices: Tensor, size: int, shape: torch.Size) -> Tensor:
    """float32 [t, s, s, 2]: where in its source each pixel comes from, -1 to 1 from edge to edge.

    Worked out in float64, as on the CPU: a coordinate of 600 pixels has 5e-5 in float32.
    """
    middles = torch.arange(size, device=matrices.device, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    moved = torch.einsum("tij,hwj->thwi", matrices, points)
    edges = moved[..., :2] / moved[..., 2:]
    sides = edges.new_tensor([shape[1], shape[0]])
    return (2 * edges / sides - 1).float()


def _within(shapes: Tensor, shape: torch.Size) -> Tensor:
    """bool [t, 1, h, w]: which pixels are the picture's, and which its padding."""
    rows = torch.arange(shape[0], device=shapes.device)[None, :, None] < shapes[:, 0, None, None]
    columns = torch.arange(shape[1], device=shapes.device)[None, None] < shapes[:, 1, None, None]
    return (rows & columns)[:, None]


def _tile_masks(rectangles: Tensor, size: int) -> Tensor:
    """bool [t, 1, s, s]"""
    places = torch.arange(size, device=rectangles.device)
    x0, y0, x1, y1 = (rectangles[:, side, None] for side in range(4))
    columns, rows = (places >= x0) & (places < x1), (places >= y0) & (places < y1)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _recoloured(levels: Tensor, colours: Tensor) -> Tensor:
    """As `augment_pixels.recoloured`: hue, saturation and value changed, in levels 0 to 255."""
    hue, saturation, brightness, contrast = (colours[:, row, None, None] for row in range(4))
    red, green, blue = levels.unbind(dim=1)
    value, least = levels.amax(dim=1), levels.amin(dim=1)
    spread = (value - least).clamp(min=1e-6)
    sixths = torch.where(
        value == red,
        (green - blue) / spread,
        torch.where(value == green, 2 + (blue - red) / spread, 4 + (red - green) / spread),
    )
    new_hue = (sixths + 6 * hue) % 6
    colourful = ((value - least) / value.clamp(min=1e-6) * saturation).clamp(0, 1)
    new_value = (((value - 127.5) * contrast + 127.5) * brightness).clamp(0, 255)
    channels = []
    for place in (5, 3, 1):
        part = (place + new_hue) % 6
        channels.append(new_value * (1 - colourful * torch.minimum(part, 4 - part).clamp(0, 1)))
    return torch.stack(channels, dim=1)


def _mixed(canvases: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """float32 [b, 3, s, s]: each sample with what shines through it."""
    behind = batch["canvas_of"]
    images = canvases[: len(behind)]
    share = batch["shares"][:, None, None, None]
    return torch.where(
        behind[:, None, None, None] >= 0,
        images * share + canvases[behind.clamp(min=0)] * (1 - share),
        images,
    )


def _blurred(images: Tensor, sigmas: list[float]) -> Tensor:
    for row, sigma in enumerate(sigmas):
        if sigma > 0:
            radius = max(1, math.ceil((round(6 * sigma + 1) | 1) / 2 - 0.5))
            places = torch.arange(-radius, radius + 1, device=images.device)
            weights = torch.exp(-0.5 * (places / sigma) ** 2)
            weights = (weights / weights.sum())[None, None]
            one = images[row][:, None]
            one = conv2d(pad(one, (radius, radius, 0, 0), mode="reflect"), weights[:, :, None])
            one = conv2d(pad(one, (0, 0, radius, radius), mode="reflect"), weights[..., None])
            images[row] = one[:, 0]
    return images
