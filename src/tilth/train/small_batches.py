"""Batches too small for batch normalisation, which learns its mean and variance from them."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tilth.errors import SettingsError
from tilth.train.freeze_settings import FreezeSettings
from tilth.train.freezing import frozen_parameters

__all__ = ["small_batch_warning"]

FEW = 4  # pictures; below it ports of YOLOv4 are reported not to learn


def small_batch_warning(
    model: nn.Module, freeze: FreezeSettings, *, batch_size: int, smallest_map: int
) -> str | None:
    """What to say about batches of ``batch_size`` pictures; None where they are large enough.

    Args:
        smallest_map: cells of the coarsest map of one picture.

    Raises:
        SettingsError: a channel would have a single value, whose variance nothing can be learned
            from; torch cannot even compute it.
    """
    frozen = set(frozen_parameters(model, freeze)) if not freeze.until_step else set()
    trained = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and f"{name}.weight" not in frozen
    ]
    if not trained or batch_size >= FEW:
        return None
    if batch_size * smallest_map < 2:
        raise SettingsError(
            "batch normalisation cannot learn from one value a channel",
            expected="a batch of two pictures, or a larger model.size",
            got=f"batches of {batch_size}, whose coarsest map has {smallest_map} cell",
        )
    pictures = "one picture" if batch_size == 1 else f"{batch_size} pictures"
    return (
        f"{len(trained)} normalisations take their mean and variance from {pictures} at a time; "
        f"detectors often fail to learn from batches below {FEW}. Accumulating does not help: "
        "raise batch_size, lower model.size, or freeze the layers (train.freeze.layers)"
    )
