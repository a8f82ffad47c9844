"""A detector from a run or from weights made elsewhere: with the classes that it really knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from drawn_sets import draw_pictures

from tilth.errors import DataError, SettingsError, TrainingError
from tilth.models.coco_classes import COCO_CLASSES
from tilth.models.darknet import Darknet
from tilth.models.darknet_specs import built_in_cfg
from tilth.models.darknet_weights import save_weights
from tilth.recipes.detector import find_objects, keep_detector, new_detector
from tilth.recipes.detector_source import open_detector, open_run, open_weights
from tilth.recipes.model_settings import ModelSettings
from tilth.train.checkpoint import save_weights as save_run_weights

WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights" / "yolo-fastest"


@pytest.fixture
def darknet_files(tmp_path: Path) -> Path:
    """``net.cfg`` of two classes at 64 pixels, its weights, and the names."""
    torch.manual_seed(0)
    cfg = built_in_cfg("yolov4-tiny", 2, size=64)
    (tmp_path / "net.cfg").write_text(cfg.text)
    save_weights(Darknet(cfg), tmp_path / "net.weights")
    (tmp_path / "net.names").write_text("bright\ndark\n")
    return tmp_path


def settings(**values: object) -> ModelSettings:
    named = {"variant": "darknet", "cfg": "net.cfg", "size": 64, "weights": "net.weights"}
    return ModelSettings(**{**named, "weights_classes": "net.names", **values})


def test_darknets_files_are_a_detector_with_all_their_weights(darknet_files: Path) -> None:
    opened = open_weights(settings(), root=darknet_files)
    assert opened.name == "net"
    assert opened.detector.class_names == ("bright", "dark")
    assert len(opened.weights_digest) == 64
    torch.manual_seed(0)
    expected = Darknet(built_in_cfg("yolov4-tiny", 2, size=64))
    state = opened.detector.model.state_dict()
    for name, value in expected.state_dict().items():
        assert torch.equal(state[name].cpu(), value), name
    assert not opened.detector.model.training
    _, paths = draw_pictures(darknet_files, 2)
    find_objects(opened.detector, paths)


def test_the_command_line_takes_size_and_resizing_from_the_network_file(
    darknet_files: Path,
) -> None:
    values = {"model": {"variant": "darknet", "cfg": "net.cfg", "weights": "net.weights"}}
    names = ("model.weights_classes=net.names",)
    opened = open_detector(darknet_files, run=None, model=values, overrides=names)
    of_file = opened.detector.settings
    assert (of_file.size, of_file.resize) == (64, "stretch"), "as Darknet does"
    said = (*names, "model.size=96", "model.resize=letterbox")
    opened = open_detector(darknet_files, run=None, model=values, overrides=said)
    assert (opened.detector.settings.size, opened.detector.settings.resize) == (96, "letterbox")


def test_weights_whose_classes_nobody_names_are_refused(darknet_files: Path) -> None:
    with pytest.raises(TrainingError, match="what the classes") as caught:
        open_weights(settings(weights_classes=""), root=darknet_files)
    assert "model.weights_classes" in str(caught.value.fix)


def test_a_partial_file_is_no_detector(darknet_files: Path) -> None:
    data = (darknet_files / "net.weights").read_bytes()
    (darknet_files / "net.weights").write_bytes(data[: 20 + 4 * (864 + 4 * 32)])
    with pytest.raises(TrainingError, match="whole detector"):
        open_weights(settings(), root=darknet_files)


def test_darknets_file_of_80_classes_is_a_readable_network_too(tmp_path: Path) -> None:
    save_weights(Darknet(built_in_cfg("yolov4-tiny", 80)), tmp_path / "yolov4-tiny.weights")
    made = ModelSettings(variant="yolov4-tiny", width=1.0, size=64, weights="yolov4-tiny.weights")
    opened = open_weights(made, root=tmp_path)
    assert opened.detector.class_names == COCO_CLASSES


def test_settings_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="without weights"):
        open_weights(ModelSettings(), root=tmp_path)


def test_a_runs_folder_is_opened_with_its_name_and_digest(tmp_path: Path) -> None:
    made = ModelSettings(width=0.125, size=64)
    detector, _ = new_detector(made, ["bright", "dark"], root=tmp_path, seed=1)
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    save_run_weights(run / "last.safetensors", detector.model)
    keep_detector(detector, run, seed=1)
    opened = open_run(run)
    assert (opened.name, opened.weights) == ("first", run / "last.safetensors")
    assert opened.detector.class_names == ("bright", "dark")
    # The same weights by settings: their classes are those of the run beside them.
    again = open_weights(ModelSettings(width=0.125, size=64, weights="runs/first"), root=tmp_path)
    assert again.detector.class_names == ("bright", "dark")
    assert again.weights_digest == opened.weights_digest


def test_a_folder_without_a_run_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_run(tmp_path / "none")
    assert caught.value.where == str(tmp_path / "none")


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the published weights are not here")
def test_published_weights_are_opened_with_cocos_classes() -> None:
    values = {
        "variant": "darknet",
        "cfg": str(WEIGHTS / "yolo-fastest-1.1.cfg"),
        "weights": str(WEIGHTS / "yolo-fastest-1.1.weights"),
    }
    opened = open_detector(WEIGHTS, run=None, model={"model": values})
    assert opened.name == "yolo-fastest-1.1"
    assert len(opened.detector.class_names) == 80
    assert opened.detector.class_names[0] == "person"
    assert opened.detector.settings.size == 320
