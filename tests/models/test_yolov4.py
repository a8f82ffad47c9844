"""YOLOv4 is the published network to the last weight, small ones are its shape, and it learns."""

import math

import pytest
import torch
from torch import nn

from tilth.errors import SettingsError
from tilth.models.cspdarknet import CspDarknet53, CspStage, TinyBackbone
from tilth.models.detection_network import detect
from tilth.models.yolov4 import ANCHORS, SpatialPyramidPooling, YoloV4
from tilth.ops.anchor_grid import decode_map

# File sizes of yolov4.weights and yolov4-tiny.weights: a header of 20 bytes, then float32.
WEIGHTS_FILE_BYTES = {"yolov4": 257_717_640, "yolov4-tiny": 24_251_276}


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return {variant: YoloV4(80, variant=variant) for variant in ANCHORS}


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def small(num_classes=3, **settings):
    torch.manual_seed(0)
    return YoloV4(num_classes, variant="yolov4-tiny", width=0.25, **settings).eval()


@pytest.mark.parametrize(("variant", "millions"), [("yolov4", 64.363), ("yolov4-tiny", 6.057)])
def test_parameter_counts(published, variant, millions):
    count = sum(parameter.numel() for parameter in published[variant].parameters())
    assert round(count / 1e6, 3) == millions


@pytest.mark.parametrize("variant", ANCHORS)
def test_float_count_equals_the_published_file(published, variant):
    model = published[variant]
    floats = sum(parameter.numel() for parameter in model.parameters())
    floats += sum(b.numel() for name, b in model.named_buffers() if "running" in name)
    assert 20 + 4 * floats == WEIGHTS_FILE_BYTES[variant]


@pytest.mark.parametrize(
    ("variant", "total", "plain"), [("yolov4", 110, 3), ("yolov4-tiny", 21, 2)]
)
def test_convolution_counts(published, variant, total, plain):
    found = convolutions(published[variant])
    assert len(found) == total
    assert sum(conv.bias is not None for conv in found) == plain
    norms = [m for m in published[variant].modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == total - plain


def test_activations_are_those_of_the_file(published):
    model = published["yolov4"]
    counts = {
        kind: sum(isinstance(m, kind) for m in model.modules()) for kind in (nn.Mish, nn.LeakyReLU)
    }
    assert counts == {nn.Mish: 72, nn.LeakyReLU: 35}
    assert sum(isinstance(m, nn.Mish) for m in model.backbone.modules()) == 72
    with torch.device("meta"):
        leaky = YoloV4(80, act="leaky")
    assert not any(isinstance(m, nn.Mish) for m in leaky.modules())


def test_backbone_taps_have_strides_8_16_32(published):
    taps = published["yolov4"].backbone(torch.zeros(1, 3, 96, 64, device="meta"))
    assert [tuple(tap.shape) for tap in taps] == [
        (1, 256, 12, 8),
        (1, 512, 6, 4),
        (1, 1024, 3, 2),
    ]
    taps = published["yolov4-tiny"].backbone(torch.zeros(1, 3, 96, 64, device="meta"))
    assert [tuple(tap.shape) for tap in taps] == [(1, 256, 6, 4), (1, 512, 3, 2)]
    assert (CspDarknet53.strides, TinyBackbone.strides) == ((8, 16, 32), (16, 32))


def test_pyramid_order_is_13_9_5_input():
    features = torch.randn(1, 2, 15, 15, generator=torch.Generator().manual_seed(0))
    pooled = [
        torch.nn.functional.max_pool2d(features, size, stride=1, padding=size // 2)
        for size in (13, 9, 5)
    ]
    expected = torch.cat([*pooled, features], dim=1)
    assert torch.equal(SpatialPyramidPooling()(features), expected)


@pytest.mark.parametrize("variant", ANCHORS)
def test_heads_give_a_map_a_stride(published, variant):
    model = published[variant]
    maps = model(torch.zeros(2, 3, 128, 64, device="meta"))
    assert [tuple(raw.shape) for raw in maps] == [
        (2, 255, 128 // stride, 64 // stride) for stride in model.strides
    ]


def test_tiny_heads_and_masks(published):
    model = published["yolov4-tiny"]
    published_anchors = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]
    assert model.strides == (32, 16)
    assert list(model.anchors[0]) == published_anchors[3:6]
    assert list(model.anchors[1]) == published_anchors[1:4]
    assert model.grid_scales == (1.05, 1.05)


def test_yolov4_heads_are_finest_first(published):
    model = published["yolov4"]
    assert model.strides == (8, 16, 32)
    assert model.grid_scales == (1.2, 1.1, 1.05)
    sizes = [width * height for head in model.anchors for width, height in head]
    assert sizes[0] == min(sizes)
    assert sizes[-1] == max(sizes)


def test_tiny_block_reads_the_second_half_of_the_channels():
    block = TinyBackbone(width=0.25).blocks[0].eval()
    merged = torch.zeros(1)

    def output(scale_first, scale_second):
        def scaled(_module, _inputs, entered):
            first, second = entered.chunk(2, dim=1)
            return torch.cat([first * scale_first, second * scale_second], dim=1)

        handle = block.enter.register_forward_hook(scaled)
        merged, _ = block(torch.ones(1, 16, 8, 8))
        handle.remove()
        return merged

    merged = output(1.0, 1.0)
    assert torch.equal(output(5.0, 1.0), merged)
    assert not torch.equal(output(1.0, 5.0), merged)


def test_residual_blocks_follow_depth():
    def blocks(depth):
        with torch.device("meta"):
            stages = [
                m for m in YoloV4(1, width=0.25, depth=depth).modules() if isinstance(m, CspStage)
            ]
        return [len(stage.blocks) for stage in stages]

    assert blocks(1.0) == [1, 2, 8, 8, 4]
    assert blocks(0.5) == [1, 1, 4, 4, 2]
    assert blocks(0.01) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("variant", ANCHORS)
@pytest.mark.parametrize("width", [0.01, 0.3, 0.5, 1.25])
def test_every_width_makes_a_network(variant, width):
    with torch.device("meta"):
        model = YoloV4(2, variant=variant, width=width)
        maps = model(torch.zeros(1, 3, 64, 64))
    assert [raw.shape[1] for raw in maps] == [21] * len(model.strides)


def test_decode_lists_heads_then_anchors_then_lines():
    model = small()
    maps = [torch.randn(2, 24, 2, 3), torch.randn(2, 24, 4, 6)]
    boxes, scores = model.decode(maps)
    assert boxes.shape == (2, 3 * (6 + 24), 4)
    second = decode_map(maps[1], model.anchors[1], stride=16, grid_scale=1.05)
    row = 3 * 6 + (1 * 4 + 2) * 6 + 5  # second head, anchor 1, line 2, column 5
    assert torch.equal(boxes[1, row], second.boxes_xyxy[1, 1, 2, 5])
    expected = (
        second.objectness_logits[1, 1, 2, 5].sigmoid() * second.class_logits[1, 1, 2, 5].sigmoid()
    )
    torch.testing.assert_close(scores[1, row], expected)


@pytest.mark.parametrize("num_classes", [1, 20])
def test_a_new_network_sees_almost_nothing(num_classes):
    model = YoloV4(num_classes, variant="yolov4-tiny", width=0.25).eval()
    _, scores = model.decode(model(torch.rand(1, 3, 128, 128)))
    prior = 0.01 / max(2, num_classes)
    assert scores.max() < 3 * prior
    assert scores.mean().item() == pytest.approx(prior, rel=0.2)


def test_detect_gives_the_boxes_that_the_maps_hold():
    model = small()
    maps = [torch.full((2, 24, 2, 2), -20.0), torch.full((2, 24, 4, 4), -20.0)]
    slot = maps[1].unflatten(1, (3, 8))[1, 0, :, 2, 1]
    slot[:4] = 0.0
    slot[4], slot[6] = 20.0, math.log(0.8 / 0.2)
    model.forward = lambda images: maps
    nothing, found = detect(model, torch.zeros(2, 3, 64, 64))
    assert nothing[0].shape == (0, 4)
    boxes, scores, class_index = found
    width, height = model.anchors[1][0]
    expected = [24 - width / 2, 40 - height / 2, 24 + width / 2, 40 + height / 2]
    assert boxes.tolist() == [pytest.approx(expected)]
    assert scores.tolist() == [pytest.approx(0.8)]
    assert class_index.tolist() == [1]


def test_detect_is_bounded_sorted_and_keeps_the_mode():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = detect(model, torch.rand(2, 3, 64, 64), score_threshold=0.0, max_detections=7)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for boxes, scores, class_index in found:
        assert len(boxes) == len(scores) == len(class_index) == 7
        assert (scores.diff() <= 0).all()


def test_the_same_picture_alone_and_in_a_batch():
    model = small()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    boxes, scores = model.decode(model(images))
    alone_boxes, alone_scores = model.decode(model(images[1:2]))
    torch.testing.assert_close(alone_boxes[0], boxes[1])
    torch.testing.assert_close(alone_scores[0], scores[1])


def test_channels_last_and_bfloat16_change_little():
    model = small()
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    boxes, scores = model.decode(model(images))
    model = model.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = model(images.to(memory_format=torch.channels_last))
    half_boxes, half_scores = model.decode(maps)
    assert maps[0].dtype == torch.bfloat16
    assert half_boxes.dtype == half_scores.dtype == torch.float32
    torch.testing.assert_close(half_boxes, boxes, rtol=0.02, atol=1.0)
    torch.testing.assert_close(half_scores, scores, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 0}, "needs a class"),
        ({"variant": "yolov5"}, "unknown variant"),
        ({"width": 0.0}, "width and depth"),
        ({"depth": 0.5}, "no repeated blocks"),
        ({"anchors": [[(1, 2)]]}, "do not fit the heads"),
        ({"anchors": [[(1, 2)], []]}, "do not fit the heads"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        YoloV4(**{"num_classes": 2, "variant": "yolov4-tiny", **settings})


def test_a_picture_off_the_grid_is_refused():
    with pytest.raises(SettingsError, match="multiples of 32"):
        small()(torch.zeros(1, 3, 64, 50))


def test_own_anchors_set_the_number_of_outputs():
    model = small(2, anchors=[[(10, 10)], [(20, 30), (5, 5)]])
    assert [raw.shape[1] for raw in model(torch.zeros(1, 3, 32, 32))] == [7, 14]
