"""A deployed detector finds what the network finds."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from normed_networks import networks, with_statistics, worst_relative_difference
from torch import Tensor, nn

from tilth.errors import SettingsError
from tilth.models import deployed as deployed_file
from tilth.models.darknet import Darknet, read_cfg
from tilth.models.darknet_weights import load_weights
from tilth.models.deployed import DeployedNetwork, deployed, has_fast_bfloat16
from tilth.models.detection_network import DetectionNetwork, detect
from tilth.models.packed_convolution import FUSED, PackedConvolution, can_pack
from tilth.models.yolov4 import YoloV4

# Eight bits of mantissa, through some dozens of layers: measured 0.005 of the greatest value.
BFLOAT16_TOLERANCE = 0.03


def pictures(count: int = 1, height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def tiny() -> nn.Module:
    return with_statistics(YoloV4(3, variant="yolov4-tiny", width=0.5))


@pytest.mark.parametrize(("name", "model"), networks(), ids=lambda value: str(value)[:12])
def test_float32_gives_the_networks_outputs(name: str, model: nn.Module) -> None:
    model = with_statistics(model)
    fast = deployed(model)
    assert fast.deployment.precision == "float32"
    with torch.no_grad():
        assert worst_relative_difference(fast(pictures()), model(pictures())) < 1e-5


@pytest.mark.parametrize(("name", "model"), networks(), ids=lambda value: str(value)[:12])
def test_bfloat16_stays_within_its_tolerance(name: str, model: nn.Module) -> None:
    model = with_statistics(model)
    fast = deployed(model, precision="bfloat16")
    with torch.no_grad():
        outputs, wanted = fast(pictures()), model(pictures())
        scores, wanted_scores = fast.decode(outputs)[1], model.decode(wanted)[1]
    assert all(raw.dtype == torch.float32 for raw in outputs)  # heads keep the order of scores
    assert worst_relative_difference(outputs, wanted) < BFLOAT16_TOLERANCE
    assert float((scores - wanted_scores).abs().max()) < BFLOAT16_TOLERANCE


def test_other_sizes_and_batches_after_the_first_give_the_same_numbers() -> None:
    model = tiny()
    fast = deployed(model)
    with torch.no_grad():
        for shape in ((1, 64, 64), (3, 64, 64), (2, 96, 160), (1, 64, 64)):
            images = pictures(*shape)
            assert worst_relative_difference(fast(images), model(images)) < 1e-5


def test_a_batch_gives_each_picture_its_own_answer() -> None:
    fast = deployed(tiny())
    images = pictures(3)
    with torch.no_grad():
        together = fast(images)
        alone = [fast(images[row : row + 1]) for row in range(3)]
    joined = [torch.cat(maps) for maps in zip(*alone, strict=True)]
    assert worst_relative_difference(together, joined) < 1e-5


def test_detections_are_those_of_the_network() -> None:
    model = tiny()
    fast = deployed(model)
    assert isinstance(fast, DetectionNetwork)
    pairs = zip(detect(fast, pictures(2)), detect(model, pictures(2)), strict=True)
    for (boxes, scores, classes), (wanted, wanted_scores, wanted_classes) in pairs:
        assert len(boxes) > 10
        torch.testing.assert_close(scores, wanted_scores, atol=1e-4, rtol=1e-4)
        # Scores that differ by rounding alone may come in either order.
        rows = torch.cat([boxes, 1000.0 * classes[:, None]], dim=1)
        wanted_rows = torch.cat([wanted, 1000.0 * wanted_classes[:, None]], dim=1)
        apart = torch.cdist(rows, wanted_rows, compute_mode="donot_use_mm_for_euclid_dist")
        assert apart.amin(dim=1).max() < 0.01
        assert apart.amin(dim=0).max() < 0.01


def test_the_model_can_be_trained_on_afterwards() -> None:
    model = tiny().train()
    before = copy.deepcopy(model.state_dict())
    deployed(model, precision="bfloat16")(pictures())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(pictures(2))[0].sum().backward()


@pytest.mark.parametrize("kind", list(FUSED), ids=lambda kind: kind.__name__)
def test_a_fused_activation_is_the_layers(kind: type[nn.Module]) -> None:
    convolution = nn.Conv2d(4, 8, 3, padding=1, stride=2).requires_grad_(False)
    if not can_pack(convolution):
        pytest.skip("this torch has no oneDNN operators")
    layer = nn.LeakyReLU(0.25) if kind is nn.LeakyReLU else kind()
    features = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    packed = PackedConvolution(convolution, layer, dtype=torch.float32)
    assert torch.allclose(packed(features), layer(convolution(features)), atol=1e-5)


def test_without_onednns_operators_the_answer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployed_file, "can_pack", lambda model: False)
    model = tiny()
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", BFLOAT16_TOLERANCE)):
        fast = deployed(model, precision=precision)
        assert fast.deployment.packed == 0
        with torch.no_grad():
            outputs = fast(pictures())
            assert worst_relative_difference(outputs, model(pictures())) < tolerance
        assert all(raw.dtype == torch.float32 for raw in outputs)


def test_automatic_precision_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_fast, wanted in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(
            deployed_file, "has_fast_bfloat16", lambda device, is_fast=is_fast: is_fast
        )
        assert deployed(tiny(), precision="auto").deployment.precision == wanted
    assert isinstance(has_fast_bfloat16(torch.device("cpu")), bool)


def test_a_missing_compiler_is_said_and_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    model = tiny()
    fast = deployed(model, compiled=True)
    assert "no C++ compiler" in fast.deployment.note
    assert not fast.deployment.compiled
    with torch.no_grad():
        assert worst_relative_difference(fast(pictures()), model(pictures())) < 1e-5


def test_a_compiler_that_fails_is_said_and_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: nn.Module) -> object:
        def run(images: Tensor) -> None:
            raise RuntimeError("internal compiler error\nand more")

        return run

    monkeypatch.setattr(deployed_file, "_compiled", broken)
    monkeypatch.setattr(deployed_file, "_why_not_compiled", lambda device: "")
    model = tiny()
    fast = deployed(model, compiled=True)
    with torch.no_grad():
        assert worst_relative_difference(fast(pictures()), model(pictures())) < 1e-5
    assert fast.deployment.note == "not compiled: internal compiler error"
    assert not fast.deployment.compiled


def test_pictures_of_a_wrong_size_are_refused_as_before() -> None:
    with pytest.raises(SettingsError, match="grids"):
        deployed(tiny())(torch.zeros(1, 3, 50, 64))


def test_other_networks_are_passed_through() -> None:
    class Outside(nn.Module):
        num_classes, suppresses = 2, False

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 6, 1)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images)

        def decode(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
            flat = outputs.float().flatten(2).movedim(1, 2)
            return flat[..., :4], flat[..., 4:]

    model = Outside()
    fast = deployed(model, precision="auto", compiled=True)
    assert isinstance(fast, DeployedNetwork)
    assert fast.deployment.precision == "float32"
    assert "not compiled" in fast.deployment.note
    assert torch.equal(fast(pictures()), model(pictures()))
    assert deployed(model, precision="bfloat16")(pictures()).dtype == torch.bfloat16


def test_real_weights_find_the_same_people_in_bfloat16(shared_data: Path) -> None:
    folder = shared_data / "weights" / "yolo-fastest"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    model = Darknet(read_cfg(folder / "yolo-fastest-1.1.cfg"))
    load_weights(model, folder / "yolo-fastest-1.1.weights")
    model.eval()
    images = pictures(1, 320, 320)
    with torch.no_grad():
        wanted = model(images)
        assert worst_relative_difference(deployed(model)(images), wanted) < 1e-4
        scores = model.decode(wanted)[1]
        fast = deployed(model, precision="bfloat16")
        assert float((fast.decode(fast(images))[1] - scores).abs().max()) < BFLOAT16_TOLERANCE
