"""Darknet's files: built, read and written as Darknet and an independent reader have them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from opencv_darknet import randomised, worst_difference_to_opencv

from tilth.errors import LabelError, SettingsError
from tilth.models.darknet import Darknet, MaxPool, Reorg, read_cfg
from tilth.models.darknet_cfg import CfgSection, parse_cfg, with_classes
from tilth.models.darknet_specs import SPECS, built_in_cfg
from tilth.models.darknet_weights import (
    WeightsHeader,
    convolution_arrays,
    load_weights,
    save_weights,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights" / "yolo-fastest"
needs_weights = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
FASTEST = {"yolo-fastest-1.1": 346_062, "yolo-fastest-1.1-xl": 923_486}

SMALL = """[net]
# a small network
width=32
height = 32
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
filters=21
size=1
activation=linear

[yolo]
mask = 0,1,2
anchors = 4,4, 8,8, 16,16
classes=2
num=3
; the end
"""


def num_floats(model: Darknet, before: int = 10_000) -> int:
    return sum(
        array.numel()
        for index, layer in model.weighted_layers()
        if index < before
        for array in convolution_arrays(layer)
    )


@pytest.mark.parametrize(
    ("name", "file_bytes", "millions"),
    [
        ("yolov4", 257_717_640, 64.363),
        ("yolov4-tiny", 24_251_276, 6.057),
        ("yolov4-tiny-3l", None, 6.33),
        ("yolov4-csp", 211_944_840, 52.92),
    ],
)
def test_parameter_counts_of_the_published_files(
    name: str, file_bytes: int | None, millions: float
) -> None:
    """Sizes of the published weight files, and the published parameter counts."""
    model = Darknet(built_in_cfg(name, 80))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.005)
    if file_bytes is not None:
        assert WeightsHeader().num_bytes + 4 * num_floats(model) == file_bytes


def test_layer_counts_of_yolov4() -> None:
    cfg = built_in_cfg("yolov4", 80)
    kinds = [layer.kind for layer in cfg.layers]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {
        "convolutional": 110,
        "shortcut": 23,
        "route": 21,
        "maxpool": 3,
        "upsample": 2,
        "yolo": 3,
    }
    assert cfg.heads == (139, 150, 161)
    assert built_in_cfg("yolov4-tiny", 80).heads == (30, 37)
    # The published partial files, yolov4.conv.137 and yolov4-tiny.conv.29.
    assert 20 + 4 * num_floats(Darknet(cfg), before=137) == 170_038_676
    assert 20 + 4 * num_floats(Darknet(built_in_cfg("yolov4-tiny", 80)), before=29) == 19_789_716


@pytest.mark.parametrize("name", list(SPECS))
def test_a_built_in_network_runs_for_any_number_of_classes(name: str) -> None:
    model = Darknet(built_in_cfg(name, 3, size=64)).eval()
    with torch.no_grad():
        raw_maps = model(torch.zeros(2, 3, 64, 96))
    for raw, stride in zip(raw_maps, model.strides, strict=True):
        assert raw.shape == (2, 24, 64 // stride, 96 // stride)
    boxes, scores = model.decode(raw_maps)
    assert boxes.shape[:2] == scores.shape[:2]
    assert scores.shape[2] == model.num_classes == 3
    assert torch.isfinite(boxes).all()


@pytest.mark.parametrize(
    ("name", "size"),
    [("yolov4-tiny", 96), ("yolov4-tiny-3l", 96), ("yolov4", 64), ("yolov4-csp", 64)],
)
def test_random_networks_equal_opencv(name: str, size: int, tmp_path: Path) -> None:
    cfg = built_in_cfg(name, 7, size=size)
    model = randomised(Darknet(cfg, batch_norm_eps=1e-6))
    (tmp_path / "n.cfg").write_text(cfg.text)
    save_weights(model, tmp_path / "n.weights")
    worst = worst_difference_to_opencv(model, tmp_path / "n.cfg", tmp_path / "n.weights", size)
    assert worst <= 1e-5


@needs_weights
@pytest.mark.parametrize("name", list(FASTEST))
def test_real_weights_equal_opencv(name: str) -> None:
    cfg, weights = SHARED / f"{name}.cfg", SHARED / f"{name}.weights"
    model = Darknet(read_cfg(cfg), batch_norm_eps=1e-6).eval()
    load_weights(model, weights)
    assert worst_difference_to_opencv(model, cfg, weights, 320) <= 1e-5


@needs_weights
@pytest.mark.parametrize(("name", "floats"), list(FASTEST.items()))
def test_real_weights_are_consumed_exactly(name: str, floats: int, tmp_path: Path) -> None:
    model = Darknet(read_cfg(SHARED / f"{name}.cfg"))
    loaded = load_weights(model, SHARED / f"{name}.weights")
    assert (loaded.num_floats, loaded.missing) == (floats, ())
    save_weights(model, tmp_path / "again.weights", header=loaded.header)
    again = (tmp_path / "again.weights").read_bytes()
    assert again == (SHARED / f"{name}.weights").read_bytes()


@pytest.mark.parametrize("version", [(0, 2, 5), (0, 1, 0)])
def test_weights_are_written_back_to_the_byte(
    version: tuple[int, int, int], tmp_path: Path
) -> None:
    major, minor, revision = version
    header = WeightsHeader(major=major, minor=minor, revision=revision, seen=32_013_312)
    assert header.num_bytes == (20 if minor >= 2 else 16)
    first = randomised(Darknet(parse_cfg(SMALL)))
    save_weights(first, tmp_path / "a", header=header)
    second = Darknet(parse_cfg(SMALL))
    loaded = load_weights(second, tmp_path / "a")
    assert loaded.header == header
    assert loaded.layers == (0, 1)
    for ours, theirs in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert ours[0] == theirs[0]
        if "num_batches" not in ours[0]:
            assert torch.equal(ours[1], theirs[1])
    save_weights(second, tmp_path / "b", header=loaded.header)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_partial_weights_fill_whole_layers(tmp_path: Path) -> None:
    source = randomised(Darknet(built_in_cfg("yolov4-tiny", 80, size=64)))
    save_weights(source, tmp_path / "tiny.conv.29", cutoff=29)
    model = randomised(Darknet(built_in_cfg("yolov4-tiny", 3, size=64)), seed=5)
    head = model.layers[29].conv.weight.clone()
    loaded = load_weights(model, tmp_path / "tiny.conv.29")
    assert max(loaded.layers) < 29 <= min(loaded.missing)
    assert torch.equal(model.layers[0].conv.weight, source.layers[0].conv.weight)
    assert torch.equal(model.layers[29].conv.weight, head)


def test_foreign_weights_are_refused_with_sizes(tmp_path: Path) -> None:
    model = randomised(Darknet(parse_cfg(SMALL)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = tmp_path / "w"
    save_weights(model, path)
    whole = path.read_bytes()
    wanted = f"{len(whole)} bytes"
    for data, message in (
        (whole[:-8], "ends inside layer 1"),
        (whole + b"\0" * 4, "goes on behind the last layer"),
        (whole[:-1], "no whole number of floats"),
        (whole[:15], "ends in its header"),
        (b"PK\x03\x04" + whole, "not a Darknet weights file"),
        (b"", "not a Darknet weights file"),
    ):
        path.write_bytes(data)
        with pytest.raises(LabelError, match=message) as caught:
            load_weights(model, path)
        if "do not fit" in str(caught.value):
            assert wanted in (caught.value.expected or "")
            assert caught.value.got == f"{len(data)} bytes"
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), "a refused file changes nothing"
    with pytest.raises(LabelError, match="cannot be read"):
        load_weights(model, tmp_path / "missing")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_cfg_is_written_back_to_the_byte(ending: str, tmp_path: Path) -> None:
    text = SMALL.replace("\n", ending)
    (tmp_path / "n.cfg").write_bytes(text.encode())
    cfg = read_cfg(tmp_path / "n.cfg")
    assert cfg.text.encode() == text.encode()
    assert cfg.net.integer("height", 0) == 32
    assert [layer.kind for layer in cfg.layers] == ["convolutional", "convolutional", "yolo"]
    assert cfg.layers[0].lines["filters"] == 9


def test_with_classes_changes_only_the_heads() -> None:
    cfg = with_classes(parse_cfg(SMALL), 5)
    changed = [
        (old, new)
        for old, new in zip(SMALL.splitlines(), cfg.text.splitlines(), strict=True)
        if old != new
    ]
    assert changed == [("filters=21", "filters=30"), ("classes=2", "classes=5")]
    assert Darknet(cfg).num_classes == 5


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("stride=2", "stride two", 11, "cannot be read"),
        ("stride=2", "stride=two", 11, "a whole number"),
        ("stride=2", "filters=9", 11, "stands twice"),
        ("[yolo]", "[yoolo]", 20, r"did you mean \[yolo\]"),
        ("[yolo]", "[gru]", 20, r"unknown section \[gru\]"),
        ("filters=21", "filters=20", 20, "filters=21"),
        ("mask = 0,1,2", "mask = 0,1,3", 21, "numbers of the 3 anchors"),
        ("activation=leaky", "activation=lucky", 13, "mish"),
        ("filters=8", "filters=8\ngroups=5", 10, "a divisor of 3 and 8"),
        ("[net]", "[not]", None, "not a network file"),
    ],
)
def test_parse_names_the_line(old: str, new: str, line: int | None, message: str) -> None:
    with pytest.raises((LabelError, SettingsError), match=message) as caught:
        Darknet(parse_cfg(SMALL.replace(old, new, 1), where="n.cfg"))
    assert caught.value.where == ("n.cfg" if line is None else f"n.cfg:{line}")


@pytest.mark.parametrize("layers", ["1", "5", "-9"])
def test_a_route_to_no_layer_is_refused(layers: str) -> None:
    text = SMALL.replace("[yolo]", f"[route]\nlayers={layers}\n\n[yolo]")
    if layers == "1":
        assert Darknet(parse_cfg(text)).num_classes == 2
        return
    with pytest.raises(SettingsError, match="layers before this one"):
        Darknet(parse_cfg(text))


def test_reorg_equals_darknets_loop() -> None:
    """reorg_cpu of blas.c, forward = 0, element by element."""
    stride, channels, height, width = 2, 8, 4, 6
    features = torch.arange(channels * height * width, dtype=torch.float32)
    flat, out = features.tolist(), [0.0] * features.numel()
    fewer = channels // stride**2
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                offset, group = divmod(k, fewer)
                x = i * stride + offset % stride
                y = j * stride + offset // stride
                source = x + width * stride * (y + height * stride * group)
                out[i + width * (j + height * k)] = flat[source]
    section = CfgSection(kind="reorg", line=1, where="n.cfg", options={"stride": "2"})
    ours = Reorg(section)(features.view(1, channels, height, width))
    assert ours.shape == (1, 32, 2, 3)
    assert ours.flatten().tolist() == out


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_pooling_equals_padding_before(size: int, stride: int) -> None:
    """Darknet's size - 1 cells in all, the smaller part first."""
    for padding, cells in ((None, 13), (None, 14), (0, 12), (1, 13), (3, 12)):
        options = {"size": str(size), "stride": str(stride)}
        if padding is not None:
            options["padding"] = str(padding)
        total = size - 1 if padding is None else padding
        features = torch.randn(2, 3, cells, cells + 3)
        first, last = total // 2, total - total // 2
        padded = torch.full((2, 3, cells + total, cells + 3 + total), -torch.inf)
        padded[:, :, first : first + cells, first : first + cells + 3] = features
        expected = padded.unfold(2, size, stride).unfold(3, size, stride).amax(dim=(4, 5))
        section = CfgSection(kind="maxpool", line=1, where="n.cfg", options=options)
        ours = MaxPool(section)(features)
        assert ours.shape == expected.shape
        seen = expected > -torch.inf  # a window of nothing but padding has no maximum
        assert torch.equal(ours[seen], expected[seen]), (padding, last)


def test_a_picture_that_fits_no_grid_is_refused() -> None:
    model = Darknet(built_in_cfg("yolov4-tiny", 1, size=64))
    with pytest.raises(SettingsError, match="multiples of 32"):
        model(torch.zeros(1, 3, 60, 64))
