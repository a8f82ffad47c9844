"""A run is exported, compared with what it was, and nothing wrong is ever written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_sets import drawn_project
from small_experiment import SMALL
from torch import nn

from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import DataError, SettingsError, TilthError
from tilth.models.darknet import Darknet, read_cfg
from tilth.models.darknet_weights import load_weights
from tilth.models.detection_network import detect
from tilth.models.pruning import PruningSettings
from tilth.ops.nms import Suppression
from tilth.recipes import detector_export
from tilth.recipes.detector import load_detector
from tilth.recipes.detector_export import ExportSettings, export_run
from tilth.recipes.detector_pruning import prune_run
from tilth.recipes.detector_runs import train
from tilth.recipes.export_parity import detection_parity, raw_parity

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = drawn_project(tmp_path_factory.mktemp("export") / "project", train=6, test=6)
    media = project.catalogue.read().media
    splits = media.split.copy()
    splits[np.flatnonzero(splits == Split.TEST)[:3]] = Split.VAL
    project.catalogue.set_splits(media.id, splits)
    train(project.root, settings=SMALL, name="first", progress=False)
    return project


@pytest.fixture(scope="module")
def report(project: Project) -> dict:
    settings = ExportSettings(
        nms=True,
        int8=True,
        score_threshold=0.001,
        suppression=Suppression(iou_threshold=0.5, max_detections=40),
        calibration_pictures=4,
    )
    return export_run(project.root, run="first", settings=settings)


def test_the_report_says_by_how_much_they_differ(project: Project, report: dict) -> None:
    assert [row["batch"] for row in report["parity"]] == [1, 2, 3]
    for row in report["parity"]:
        assert row["boxes_max_relative"] <= 1e-4
        assert row["scores_max_abs"] <= 1e-4
    assert report["parity_pictures"] == "of the project"
    found = [sum(row["detections"]) for row in report["detection_parity"]]
    assert min(found) > 0
    assert set(report["milliseconds"]) == {"torch", "onnxruntime"}
    folder = project.runs / "first" / "export"
    assert report["file"] == folder / "detector.onnx"
    assert report["file_bytes"] == report["file"].stat().st_size
    written = json.loads((folder / "detector.onnx.json").read_bytes())
    assert written["parity"] == report["parity"]
    assert written["class_names"] == ["bright", "dark"]


def test_the_file_finds_what_the_detector_finds(project: Project, report: dict) -> None:
    detector = load_detector(project.runs / "first", device="cpu")
    session = onnxruntime.InferenceSession(report["file"], providers=["CPUExecutionProvider"])
    images = torch.rand(4, 3, 64, 64)
    counts, boxes, scores, classes = session.run(
        ["num_detections", "detection_boxes", "detection_scores", "detection_classes"],
        {"images": images.numpy()},
    )
    expected = detect(
        detector.model, images, score_threshold=0.001, iou_threshold=0.5, max_detections=40
    )
    for row, (own_boxes, own_scores, own_classes) in enumerate(expected):
        kept = int(counts[row])
        assert kept == len(own_boxes) > 0
        np.testing.assert_allclose(scores[row, :kept], own_scores, atol=1e-4)
        np.testing.assert_allclose(boxes[row, :kept], own_boxes, rtol=1e-3, atol=1e-2)
        np.testing.assert_array_equal(classes[row, :kept], own_classes)


def test_the_file_says_how_to_use_it(report: dict) -> None:
    for path in (report["file"], report["int8"]["file"]):
        model = onnx.load(str(path))
        texts = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(texts["class_names"]) == ["bright", "dark"]
        assert texts["input_size"] == "64"
        assert texts["resize"] == "letterbox"
        assert "RGB, divided by 255" in texts["input"]
        assert texts["run"] == "first"
        assert len(texts["data_digest"]) > 10
        assert texts["iou_threshold"] == "0.5"


def test_integers_are_scored_beside_floats(report: dict) -> None:
    whole = report["int8"]
    assert whole["pictures"] == 3
    for name in ("float_ap", "float_ap50", "int8_ap", "int8_ap50"):
        assert 0 <= whole[name] <= 1
    assert whole["file_bytes"] < 0.6 * report["file_bytes"]


def test_all_boxes_without_suppression(project: Project, tmp_path: Path) -> None:
    made = export_run(project.root, run="first", settings=ExportSettings(), output=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"detector.onnx", "detector.onnx.json"}
    names = [output.name for output in onnx.load(str(made["file"])).graph.output]
    assert names == ["boxes", "scores"]
    assert "detection_parity" not in made


def test_darknets_files_hold_the_same_network(project: Project, tmp_path: Path) -> None:
    settings = ExportSettings(to="darknet")
    made = export_run(project.root, run="first", settings=settings, output=tmp_path)
    assert all(row["boxes_max_abs"] == row["scores_max_abs"] == 0 for row in made["parity"])
    assert made["opencv_objectness_max_abs"] < 1e-2
    assert (tmp_path / "detector.names").read_text() == "bright\ndark\n"
    read = Darknet(read_cfg(tmp_path / "detector.cfg")).eval()
    load_weights(read, tmp_path / "detector.weights")
    assert read.size == (64, 64)
    assert json.loads((tmp_path / "detector.cfg.json").read_bytes())["to"] == "darknet"


def test_a_pruned_run_is_exported_too(project: Project, tmp_path: Path) -> None:
    pruning = PruningSettings(keep_flops=0.7, granularity=2, min_filters=4)
    prune_run(project.root, run="first", name="slim", settings=pruning)
    made = export_run(
        project.root, run="slim", settings=ExportSettings(nms=True), output=tmp_path / "slim"
    )
    whole = export_run(
        project.root, run="first", settings=ExportSettings(nms=True), output=tmp_path / "whole"
    )
    assert made["file_bytes"] < whole["file_bytes"]


def test_what_differs_is_not_written(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = detector_export.detector_graph

    def of_other_weights(model: nn.Module, **named: object) -> object:
        with torch.no_grad():
            model.head_convolutions()[0].bias += 0.01
        graph = original(model, **named)
        with torch.no_grad():
            model.head_convolutions()[0].bias -= 0.01
        return graph

    monkeypatch.setattr(detector_export, "detector_graph", of_other_weights)
    with pytest.raises(TilthError, match="does not compute") as caught:
        export_run(project.root, run="first", settings=ExportSettings(), output=tmp_path)
    assert caught.value.where == "batch of 1"
    assert not list(tmp_path.iterdir())


class Brightness(nn.Module):
    """Two boxes, as strong as the picture is bright."""

    suppresses = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))

    def decode(self, brightness: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        corners = torch.tensor([[0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 12.0, 12.0]])
        scores = torch.stack([brightness, brightness / 2], dim=1)[..., None]
        return corners.expand(len(brightness), 2, 4), scores


def test_a_graph_that_answers_for_the_first_picture_alone_is_found_out() -> None:
    """The mistake of many exporters: suppression that looks at one picture of a batch."""
    model = Brightness()
    images = torch.tensor([0.2, 0.6, 0.9])[:, None, None, None].expand(3, 3, 8, 8)

    def stacked(pictures: np.ndarray) -> list[np.ndarray]:
        found = detect(model, torch.from_numpy(pictures))
        parts = [np.stack([each[i].numpy() for each in found]) for i in range(3)]
        return [np.array([len(each[0]) for each in found]), *parts]

    def first_only(pictures: np.ndarray) -> list[np.ndarray]:
        return [np.stack([part[0]] * len(part)) for part in stacked(pictures)]

    named = {"suppression": Suppression(), "score_threshold": 0.001, "tolerance": 1e-4}
    (row,) = detection_parity(model, stacked, [images], **named)
    assert row == {"batch": 3, "detections": [2, 2, 2]}
    with pytest.raises(TilthError, match="does not compute") as caught:
        detection_parity(model, first_only, [images], **named)
    assert caught.value.where == "picture 1 of a batch of 3"


class Constant(nn.Module):
    """One box, one score."""

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def decode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(images)
        return torch.ones(count, 1, 4), torch.full((count, 1, 1), self.score)


def test_no_number_is_a_difference() -> None:
    batches = [torch.zeros(1, 3, 8, 8)]
    with pytest.raises(TilthError, match="does not compute"):
        raw_parity(Constant(0.5), Constant(float("nan")), batches, tolerance=1e-4)
    (row,) = raw_parity(Constant(0.5), Constant(0.50005), batches, tolerance=1e-4)
    assert row["scores_max_abs"] == pytest.approx(5e-5, rel=1e-2)


def test_an_empty_project_is_compared_on_noise(project: Project, tmp_path: Path) -> None:
    empty = Project.init(tmp_path / "empty")
    shutil.copytree(project.runs / "first", empty.runs / "first")
    made = export_run(
        empty.root, run="first", settings=ExportSettings(nms=True), output=tmp_path / "out"
    )
    assert made["parity_pictures"] == "noise"
    with pytest.raises(SettingsError, match="integers need pictures"):
        export_run(
            empty.root, run="first", settings=ExportSettings(int8=True), output=tmp_path / "out"
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score_threshold": 1.0}, "score_threshold"),
        ({"calibration_pictures": 0}, "calibration_pictures"),
        ({"to": "darknet", "nms": True}, "neither suppression nor integers"),
        ({"to": "darknet", "int8": True}, "neither suppression nor integers"),
    ],
)
def test_unusable_settings(changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(ExportSettings(), **changes)


def test_a_run_that_is_not_there(project: Project) -> None:
    with pytest.raises(DataError, match="no trained detector"):
        export_run(project.root, run="nowhere", settings=ExportSettings())
