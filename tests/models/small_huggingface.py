"""Networks of transformers that are small enough for a test: 64 pixels, 24 queries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tilth.models.huggingface_architecture import HuggingFaceArchitecture, scaled_architecture
from tilth.models.huggingface_detector import HuggingFaceDetector
from tilth.models.huggingface_targets import DetectionTargets

__all__ = ["QUERIES", "SIDE", "pictures", "small_architecture", "small_detector", "truths"]

SIDE, QUERIES = 64, 24


def small_architecture(variant: str, **changes: Any) -> HuggingFaceArchitecture:
    """The smallest of its kind; ``changes`` are of the record, not of the configuration."""
    smallest = scaled_architecture(variant, width=0.125, depth=0.1)
    config = smallest.config | {"num_queries": QUERIES, "num_denoising": 10}
    return replace(smallest, config=config, **changes)


def small_detector(
    variant: str, num_classes: int = 3, *, seed: int = 0, **changes: Any
) -> HuggingFaceDetector:
    """In evaluation mode, with random weights that tell places apart.

    The library's initial weights are so small that without statistics of the data nothing of a
    picture arrives at the queries, and rounding alone decides which places become some.
    """
    torch.manual_seed(seed)
    model = HuggingFaceDetector(small_architecture(variant, **changes), num_classes)
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(pictures(8, seed=1))
        model.network.model.enc_score_head.weight.normal_()
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def pictures(count: int = 2, *, seed: int = 0) -> torch.Tensor:
    """float32 [count, 3, 64, 64]: noise in 0..1."""
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def truths(**changes: Any) -> DetectionTargets:
    """Two objects in the first picture, one in the second."""
    boxes = [[4.0, 8.0, 24.0, 40.0], [30.0, 30.0, 60.0, 50.0], [10.0, 10.0, 20.0, 20.0]]
    targets = DetectionTargets(
        boxes_xyxy=torch.tensor(boxes),
        class_index=torch.tensor([0, 2, 1]),
        image_index=torch.tensor([0, 0, 1]),
    )
    return targets._replace(**changes)
