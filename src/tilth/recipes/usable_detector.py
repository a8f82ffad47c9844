"""A network with what is needed to use it; `tilth.recipes.detector` makes, trains and loads one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from tilth.models.deployed import DeployedNetwork, InferencePrecision, deployed
from tilth.recipes.model_settings import ModelSettings

__all__ = ["Detector", "for_inference"]


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A network with what is needed to use it.

    Attributes:
        model: a `DetectionNetwork`, in eval mode unless it is being trained.
        settings: what built it.
        class_names: in the order of its outputs.
        digest: of the data set version it was trained on, "" for random weights.
    """

    model: nn.Module
    settings: ModelSettings
    class_names: tuple[str, ...]
    digest: str = ""


def for_inference(detector: Detector, *, precision: InferencePrecision = "float32") -> Detector:
    """The same detector with its network `deployed`, a copy; as it is where that is done already.

    Args:
        precision: float32 where numbers are to be compared; "auto" is the fastest of the machine.
    """
    if isinstance(detector.model, DeployedNetwork):
        return detector
    return replace(detector, model=deployed(detector.model, precision=precision))
