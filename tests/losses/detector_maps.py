"""Two small heads, maps for them and rows of truths, for the tests of the detection loss."""

import torch

from tilth.losses.detection import DetectionLoss
from tilth.losses.detection_settings import DetectionLossSettings

ANCHORS = [[(8, 8), (16, 12)], [(30, 20), (24, 60)]]
STRIDES = [8, 16]
GRID_SCALES = [1.2, 1.05]
CLASSES = 3
SIDE = 64
PER_SLOT = 5 + CLASSES


def make_loss(*, is_activated=None, class_counts=None, **settings):
    return DetectionLoss(
        ANCHORS,
        STRIDES,
        CLASSES,
        grid_scales=GRID_SCALES,
        is_activated=is_activated,
        settings=DetectionLossSettings(**settings),
        class_counts=class_counts,
    )


def random_maps(batch=2, seed=0, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(batch, 2 * PER_SLOT, SIDE // stride, SIDE // stride, generator=draw)
        for stride in STRIDES
    ]


def quiet_maps(batch=2):
    """Maps that see nothing anywhere: objectness and classes far below zero."""
    maps = random_maps(batch, scale=0.0)
    for raw in maps:
        raw.unflatten(1, (2, PER_SLOT))[:, :, 4:] = -20.0
    return maps


def truths(*rows):
    """Rows of (picture, class, x0, y0, x1, y1)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return table[:, 2:], table[:, 1].long(), table[:, 0].long()
