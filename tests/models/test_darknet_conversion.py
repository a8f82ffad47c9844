"""The readable YOLOv4 and its twin from a network file compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tilth.models.darknet import Darknet, read_cfg
from tilth.models.darknet_conversion import as_darknet
from tilth.models.darknet_weights import load_weights, save_weights
from tilth.models.yolov4 import ANCHORS, YoloV4


@torch.no_grad()
def with_statistics(model: YoloV4) -> YoloV4:
    """Normalisations that are no identity."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.8, 1.2)
            module.bias.normal_(0, 0.1)
    return model.eval()


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("yolov4", {"width": 0.25}),
        ("yolov4", {"width": 0.3, "depth": 0.34, "act": "leaky"}),
        ("yolov4-tiny", {"width": 0.5}),
        ("yolov4-tiny", {"width": 0.25, "act": "mish"}),
        ("yolov4-tiny", {"width": 0.25, "anchors": [((9.5, 8), (20, 30 / 7)), ((4, 4), (7, 5))]}),
    ],
)
def test_the_twin_computes_the_same(variant: str, options: dict, tmp_path: Path) -> None:
    model = with_statistics(YoloV4(3, variant=variant, **options))
    twin = as_darknet(model, size=96)
    assert twin.size == (96, 96)
    save_weights(twin, tmp_path / "t.weights")
    (tmp_path / "t.cfg").write_text(twin.cfg.text)
    read = Darknet(read_cfg(tmp_path / "t.cfg")).eval()
    load_weights(read, tmp_path / "t.weights")
    pictures = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = model.decode(model(pictures))
        for other in (twin, read):
            for ours, theirs in zip(other.decode(other(pictures)), expected, strict=True):
                assert torch.equal(ours, theirs)


def test_every_head_keeps_its_anchors() -> None:
    twin = as_darknet(YoloV4(2, variant="yolov4-tiny", width=0.25), size=416)
    expected = [[tuple(map(float, pair)) for pair in head] for head in ANCHORS["yolov4-tiny"]]
    assert [list(head) for head in twin.anchors] == expected
