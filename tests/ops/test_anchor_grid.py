"""Boxes of a head's map, against the formulas written out for one slot at a time."""

import math

import pytest
import torch

from tilth.ops.anchor_grid import decode_map

ANCHORS = [(10, 20), (40.0, 30.0)]


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def test_decode_matches_plain_twin():
    raw = torch.randn(2, 2 * (5 + 3), 3, 4, generator=torch.Generator().manual_seed(0))
    decoded = decode_map(raw, ANCHORS, stride=16, grid_scale=1.1)
    for picture in range(2):
        for anchor, (anchor_w, anchor_h) in enumerate(ANCHORS):
            for y in range(3):
                for x in range(4):
                    slot = raw[picture, anchor * 8 : anchor * 8 + 8, y, x].tolist()
                    centre_x = (x + 1.1 * sigmoid(slot[0]) - 0.05) * 16
                    centre_y = (y + 1.1 * sigmoid(slot[1]) - 0.05) * 16
                    half_w, half_h = (
                        anchor_w * math.exp(slot[2]) / 2,
                        anchor_h * math.exp(slot[3]) / 2,
                    )
                    expected = [centre_x - half_w, centre_y - half_h]
                    expected += [centre_x + half_w, centre_y + half_h]
                    found = decoded.boxes_xyxy[picture, anchor, y, x].tolist()
                    assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)
                    assert decoded.objectness_logits[picture, anchor, y, x].item() == slot[4]
                    assert decoded.class_logits[picture, anchor, y, x].tolist() == slot[5:]


def test_centre_reaches_the_cell_border():
    # Without the grid scale the border is reached at infinity only (section 3.4).
    raw = torch.zeros(1, 6, 1, 1)
    raw[0, 0] = 4.0
    plain = decode_map(raw, [(8, 8)], stride=8, grid_scale=1.0).boxes_xyxy[0, 0, 0, 0]
    scaled = decode_map(raw, [(8, 8)], stride=8, grid_scale=1.2).boxes_xyxy[0, 0, 0, 0]
    assert (plain[0] + plain[2]) / 2 < 8 < (scaled[0] + scaled[2]) / 2


def test_half_precision_maps_are_decoded_in_float32():
    decoded = decode_map(torch.zeros(1, 6, 2, 2).bfloat16(), [(7, 9)], stride=32, grid_scale=1.0)
    assert decoded.boxes_xyxy.dtype == torch.float32
    assert decoded.boxes_xyxy[0, 0, 1, 1].tolist() == [44.5, 43.5, 51.5, 52.5]


def test_a_wild_step_stays_finite():
    decoded = decode_map(torch.full((1, 6, 1, 1), 1e4), [(459, 401)], stride=32, grid_scale=1.0)
    assert decoded.boxes_xyxy.isfinite().all()


def test_an_activated_map_is_read_as_shares():
    """Scaled-YOLOv4: x = 2 t - 0.5 cells, w = (2 t)² anchors, scores as they are."""
    raw = torch.tensor([0.5, 0.75, 0.5, 1.0, 0.25, 0.9]).view(1, 6, 1, 1)
    decoded = decode_map(raw, ((10, 20),), stride=8, grid_scale=2.0, is_activated=True)
    width, height, x, y = 10.0, 80.0, 0.5 * 8, 1.0 * 8
    expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    assert decoded.boxes_xyxy.flatten().tolist() == pytest.approx(expected)
    assert decoded.objectness_logits.sigmoid().item() == pytest.approx(0.25)
    assert decoded.class_logits.sigmoid().item() == pytest.approx(0.9)
