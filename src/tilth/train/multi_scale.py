"""The network's size in every batch, where it changes: a pure function of the batch's number.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection,
    arXiv 2004.10934v1; the rule is that of the authors' program, Darknet (``random=1``).
Follows: a factor uniform in 1/1.4 to 1.4, every 10 iterations -> `network_size`.
Symbols: multi_scale = 1.4; multi_scale_every = 10.
Differs: Darknet rounds up by one more cell than it says (round(f * size / 32 + 1) * 32); here it is
    the nearest multiple of 32, so that the sizes lie around the one that is used afterwards.
Checked by: `test_sizes_are_multiples_within_the_range`, `test_size_lasts_for_its_steps`
"""

from __future__ import annotations

from tilth.seeding import generator
from tilth.train.augment_settings import AugmentSettings

__all__ = ["largest_size", "network_size"]

_CELL = 32  # the coarsest stride


def network_size(
    batch: int, *, size: int, seed: int, settings: AugmentSettings, batches_per_step: int = 1
) -> int:
    """Side in pixels of the pictures of batch number ``batch``.

    Args:
        size: the one of the settings, around which it changes.
        batches_per_step: of all processes together; they are then of one size in every step.

    >>> network_size(70, size=416, seed=0, settings=AugmentSettings())
    416
    """
    if settings.multi_scale == 1:
        return size
    change = batch // (settings.multi_scale_every * batches_per_step)
    low, high = 1 / settings.multi_scale, settings.multi_scale
    factor = low + (high - low) * generator(seed, "multi-scale", change).random()
    return max(_CELL, round(factor * size / _CELL) * _CELL)


def largest_size(size: int, settings: AugmentSettings) -> int:
    """The largest side that `network_size` gives; memory has to last for it."""
    if settings.multi_scale == 1:
        return size
    return max(_CELL, round(settings.multi_scale * size / _CELL) * _CELL)
