"""Exported graphs give what the network gives, for any number of pictures, suppressed or not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_darknet import FASTEST, SHARED, needs_weights, randomised
from test_pruning import KINDS, conv, network
from torch import Tensor, nn

from tilth.errors import MissingExtraError, SettingsError
from tilth.models.darknet import ACTIVATIONS, Darknet, read_cfg
from tilth.models.darknet_cfg import parse_cfg
from tilth.models.darknet_specs import built_in_cfg
from tilth.models.darknet_weights import load_weights
from tilth.models.detection_network import detect
from tilth.models.onnx_export import detector_graph
from tilth.models.onnx_int8 import float_nodes, quantised_graph
from tilth.models.onnx_network import OnnxNetwork, open_session
from tilth.models.onnx_suppression import with_suppression
from tilth.models.yolov4 import YoloV4
from tilth.ops.nms import Suppression

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

OUTPUTS = ["num_detections", "detection_boxes", "detection_scores", "detection_classes"]


class Scattered(nn.Module):
    """Boxes and scores that depend on the picture's colours alone; many overlap, some are equal."""

    def __init__(self, *, suppresses: bool = True, num_classes: int = 3) -> None:
        super().__init__()
        self.suppresses, self.num_classes = suppresses, num_classes
        generator = torch.Generator().manual_seed(3)
        self.corners = nn.Parameter(40 * torch.rand(60, 2, generator=generator))
        self.mixing = nn.Parameter(torch.randn(3, 60 * num_classes, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))

    def decode(self, colours: Tensor) -> tuple[Tensor, Tensor]:
        size = 12 + 8 * colours[:, :1, None]
        boxes = torch.cat([self.corners + 0 * size, self.corners + size], dim=-1)
        scores = (4 * colours @ self.mixing).sigmoid().unflatten(1, (60, self.num_classes))
        # In steps of 1/16, so that many are equally strong.
        return boxes, (scores * 16).round() / 16


@torch.no_grad()
def assert_same_outputs(model: nn.Module, size: tuple[int, int], batches=(1, 2, 3)) -> None:
    exported = OnnxNetwork(detector_graph(model, size=size))
    for count in batches:
        images = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(count))
        boxes, scores = model.decode(model(images))
        their_boxes, their_scores = exported.decode(exported(images))
        assert their_boxes.shape == boxes.shape
        scale = 1 + boxes.abs().amax(dim=-1, keepdim=True)
        assert float(((boxes - their_boxes).abs() / scale).max()) < 1e-4
        assert float((scores - their_scores).abs().max()) < 1e-4


@pytest.mark.parametrize("name", list(KINDS))
def test_every_kind_of_layer(name: str) -> None:
    assert_same_outputs(network(KINDS[name]), (32, 32), batches=(2,))


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation(activation: str) -> None:
    layers = [
        conv(8, 3, activation=activation),
        conv(8),
        f"[shortcut]\nfrom=-2\nactivation={activation}",
    ]
    assert_same_outputs(network(layers), (32, 32), batches=(2,))


@pytest.mark.parametrize("name", ["yolov4", "yolov4-tiny-3l", "yolov4-csp"])
def test_published_networks_on_oblong_pictures(name: str) -> None:
    assert_same_outputs(randomised(Darknet(built_in_cfg(name, 3, size=64))), (64, 96), batches=(2,))


def test_the_readable_network_of_any_width() -> None:
    torch.manual_seed(0)
    assert_same_outputs(YoloV4(2, variant="yolov4", width=0.125, depth=0.1).eval(), (64, 64))


def test_a_region_head_with_softmax() -> None:
    net = "[net]\nwidth=32\nheight=32\nchannels=3\n"
    head = conv(14, batch_normalize=0, activation="linear")
    region = "[region]\nanchors=1,1, 2,3\nclasses=2\nnum=2\nsoftmax=1\n"
    text = "\n".join([net, conv(8, 3, stride=2), head, region])
    assert_same_outputs(randomised(Darknet(parse_cfg(text))), (32, 32))


@needs_weights
@pytest.mark.parametrize("name", list(FASTEST))
def test_real_weights(name: str) -> None:
    model = Darknet(read_cfg(SHARED / f"{name}.cfg")).eval()
    load_weights(model, SHARED / f"{name}.weights")
    assert_same_outputs(model, (96, 96))


def test_normalisation_is_folded() -> None:
    graph = detector_graph(network(KINDS["residual"]), size=(32, 32))
    assert "BatchNormalization" not in {node.op_type for node in graph.graph.node}


SCATTERED = """
<ir_version: 8, opset_import: ["": 18]>
scattered (float[batch, 3, 32, 32] images)
  => (float[batch, 60, 4] boxes, float[batch, 60, 3] scores)
{
  grid = Constant <value_ints = [2, 3]> ()
  colours = ReduceMean <keepdims = 0> (images, grid)
  red = Constant <value_ints = [0]> ()
  reds = Gather <axis = 1> (colours, red)
  two = Constant <value_ints = [2]> ()
  deep = Unsqueeze (reds, two)
  eight = Constant <value_float = 8.0> ()
  twelve = Constant <value_float = 12.0> ()
  more = Mul (deep, eight)
  size = Add (more, twelve)
  far = Add (corners, size)
  near = Sub (far, size)
  boxes = Concat <axis = 2> (near, far)
  four = Constant <value_float = 4.0> ()
  bright = Mul (colours, four)
  mixed = MatMul (bright, mixing)
  flat = Sigmoid (mixed)
  shape = Constant <value_ints = [0, 60, 3]> ()
  exact = Reshape (flat, shape)
  steps = Constant <value_float = 16.0> ()
  many = Mul (exact, steps)
  whole = Round (many)
  scores = Div (whole, steps)
}
"""


@pytest.fixture(scope="module")
def scattered() -> tuple[Scattered, object]:
    model = Scattered().eval()
    graph = onnx.parser.parse_model(SCATTERED)
    for name, value in (("corners", model.corners[None]), ("mixing", model.mixing)):
        array = onnx.numpy_helper.from_array(value.detach().numpy(), name)
        graph.graph.initializer.append(array)
    onnx.checker.check_model(graph)
    return model, graph


def test_any_network_is_traced(scattered) -> None:
    model, written = scattered
    graph = detector_graph(model, size=(32, 32), metadata={"a": "b"})
    assert {p.key: p.value for p in graph.metadata_props} == {"a": "b"}
    for count in (1, 2, 3):
        images = torch.rand(count, 3, 32, 32)
        ours, theirs = OnnxNetwork(graph)(images), OnnxNetwork(written)(images)
        for one, other in zip(ours, theirs, strict=True):
            assert torch.allclose(one, other, atol=1e-4)
    assert assert_same_detections(model, graph, Suppression(), 0.25) > 20


def assert_same_detections(model, graph, suppression, score_threshold, *, suppresses=True) -> int:
    session = open_session(
        with_suppression(graph, suppression, score_threshold=score_threshold, suppresses=suppresses)
    )
    total = 0
    for count in (1, 2, 3, 5):
        # Every picture of a batch another one.
        images = torch.rand(count, 3, 1, 1).expand(count, 3, 32, 32).contiguous()
        expected = detect(
            model,
            images,
            score_threshold=score_threshold,
            iou_threshold=suppression.iou_threshold,
            max_detections=suppression.max_detections,
            class_agnostic=suppression.class_agnostic,
        )
        counts, boxes, scores, classes = session.run(OUTPUTS, {"images": images.numpy()})
        for row, (own_boxes, own_scores, own_classes) in enumerate(expected):
            kept = int(counts[row])
            assert kept == len(own_boxes)
            np.testing.assert_allclose(boxes[row, :kept], own_boxes, rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose(scores[row, :kept], own_scores, atol=1e-6)
            np.testing.assert_array_equal(classes[row, :kept], own_classes)
            assert not boxes[row, kept:].any()
            assert not scores[row, kept:].any()
            assert (classes[row, kept:] == -1).all()
            total += kept
    return total


@pytest.mark.parametrize(
    ("options", "score_threshold"),
    [
        ({"iou_threshold": 0.45}, 0.25),
        ({"iou_threshold": 0.0}, 0.0),
        ({"iou_threshold": 0.6, "max_detections": 4}, 0.1),
        ({"iou_threshold": 0.3, "class_agnostic": True}, 0.25),
        ({"iou_threshold": 1.0}, 0.5),
    ],
)
def test_suppression_keeps_the_same_boxes_in_the_same_order(
    scattered, options: dict, score_threshold: float
) -> None:
    model, graph = scattered
    torch.manual_seed(0)
    assert assert_same_detections(model, graph, Suppression(**options), score_threshold) > 20


def test_a_network_that_suppresses_nothing_keeps_all_its_boxes(scattered) -> None:
    _, graph = scattered
    model = Scattered(suppresses=False).eval()
    total = assert_same_detections(
        model, graph, Suppression(max_detections=50), 0.25, suppresses=False
    )
    assert total > 200


def test_no_detection_at_all(scattered) -> None:
    model, graph = scattered
    assert assert_same_detections(model, graph, Suppression(), 1.0) == 0


def test_distance_suppression_is_no_standard_operator(scattered) -> None:
    with pytest.raises(SettingsError, match="plain overlap"):
        with_suppression(
            scattered[1], Suppression(kind="diou"), score_threshold=0.1, suppresses=True
        )


def test_metadata_goes_through_every_step() -> None:
    model = network(KINDS["plain"])
    graph = detector_graph(model, size=(32, 32), metadata={"class_names": '["a", "b"]'})
    smaller = quantised_graph(graph, noise(2), calibration="mean")
    for each in (
        graph,
        smaller,
        with_suppression(smaller, Suppression(), score_threshold=0.1, suppresses=True),
    ):
        assert {p.key: p.value for p in each.metadata_props} == {"class_names": '["a", "b"]'}


def noise(count: int):
    rng = np.random.default_rng(0)
    return (rng.random((1, 3, 32, 32), dtype=np.float32) for _ in range(count))


@pytest.mark.parametrize("calibration", ["mean", "minmax", "percentile"])
def test_integers_come_near_and_heads_stay_in_floats(calibration: str) -> None:
    model = network([*KINDS["pyramid"], *KINDS["residual"]])
    graph = detector_graph(model, size=(32, 32))
    kept = float_nodes(graph)
    head = max(index for index, _ in model.weighted_layers())
    assert f"layer_{head}/conv" in kept
    assert sum("/conv" in name for name in kept) == 1
    smaller = quantised_graph(graph, noise(8), calibration=calibration)
    quantised = {
        node.input[0]
        for node in smaller.graph.node
        if node.op_type == "Conv" and "dequantize" in node.input[0].lower()
    }
    assert len(quantised) >= 5
    exact, near = OnnxNetwork(graph), OnnxNetwork(smaller)
    for count in (1, 3):
        images = torch.rand(count, 3, 32, 32)
        ours, theirs = exact(images)[1], near(images)[1]
        assert ours.shape == theirs.shape
        assert 0 < float((ours - theirs).abs().max()) < 0.1


def test_quantising_leaves_the_graph_as_it_was() -> None:
    graph = detector_graph(network(KINDS["plain"]), size=(32, 32))
    before = graph.SerializeToString()
    quantised_graph(graph, noise(2), calibration="mean")
    assert graph.SerializeToString() == before


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("tilth.lazy.importlib.import_module", without)
    for call in (
        lambda: detector_graph(network(KINDS["plain"]), size=(32, 32)),
        lambda: OnnxNetwork(b""),
    ):
        with pytest.raises(MissingExtraError, match="not installed") as caught:
            call()
        assert "tilth[onnx]" in str(caught.value)


def test_rows_are_anchors_times_cells_of_all_heads() -> None:
    graph = detector_graph(Darknet(built_in_cfg("yolov4-tiny", 2, size=64)), size=(64, 96))
    rows = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    assert rows == 3 * (math.prod((2, 3)) + math.prod((4, 6)))
