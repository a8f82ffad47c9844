"""The families of detectors that a recipe can choose by one line, each behind the same verbs.

A family builds a network, starts it from weights, keeps what is needed to build it again, and says
how it is punished. Everything else - data, loop, evaluation, inference - is the same for all.
"""

from __future__ import annotations

from tilth.recipes.anchor_grid_families import DarknetNetworks, Yolo
from tilth.recipes.detector_family import DetectorFamily
from tilth.recipes.huggingface_family import HuggingFaceNetworks
from tilth.recipes.model_settings import ModelSettings

__all__ = ["FAMILIES", "family_of"]

FAMILIES: dict[str, DetectorFamily] = {
    "yolov4": Yolo(),
    "yolov4-tiny": Yolo(),
    "darknet": DarknetNetworks(),
    "d-fine": HuggingFaceNetworks(),
    "rt-detr": HuggingFaceNetworks(),
    "rt-detr-v2": HuggingFaceNetworks(),
    "deim-v2": HuggingFaceNetworks(),
}
"""Variant in the settings -> its family; a test holds both lists together."""


def family_of(settings: ModelSettings) -> DetectorFamily:
    """The family of a variant."""
    return FAMILIES[settings.variant]
