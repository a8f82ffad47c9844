"""A run is pruned into another, which is scored, trained on and read by Darknet's readers."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from drawn_sets import drawn_project
from small_experiment import SMALL
from torch import nn

from tilth.data.project import Project
from tilth.errors import DataError, SettingsError
from tilth.models.darknet import Darknet
from tilth.models.pruning import PruningSettings
from tilth.recipes.detect_settings import settings
from tilth.recipes.detector import load_detector
from tilth.recipes.detector_evaluation import evaluate
from tilth.recipes.detector_pruning import darknet_of, prune_run
from tilth.recipes.detector_runs import train

HALF = PruningSettings(keep_flops=0.6, granularity=2, min_filters=4)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = drawn_project(tmp_path_factory.mktemp("pruning") / "project", train=6, test=3)
    train(project.root, settings=SMALL, name="first", progress=False)
    return project


@pytest.fixture(scope="module")
def report(project: Project) -> dict:
    return prune_run(project.root, run="first", name="pruned", settings=HALF)


def test_sizes_are_told_layer_by_layer(project: Project, report: dict) -> None:
    assert 0 < report["flops_after"] <= 0.6 * report["flops_before"]
    for what in ("filters", "parameters", "flops"):
        for side in ("before", "after"):
            key = f"{what}_{side}"
            assert report[key] == sum(layer[key] for layer in report["layers"])
    assert report["file_bytes_after"] == (report["folder"] / "network.weights").stat().st_size
    pruned = load_detector(report["folder"])
    parameters = sum(parameter.numel() for parameter in pruned.model.parameters())
    assert parameters == report["parameters_after"] < report["parameters_before"]
    assert pruned.class_names == load_detector(project.runs / "first").class_names


def test_the_pruned_run_is_scored_as_held_out(project: Project, report: dict) -> None:
    scores = evaluate(project.root, run="pruned", split="test", progress=False)
    assert scores["held_out"] is True
    assert scores["trained_on"] == load_detector(project.runs / "first").digest


def test_training_goes_on_from_the_pruned_network(project: Project, report: dict) -> None:
    values = tomllib.loads((report["folder"] / "retrain.toml").read_text())
    again = replace(SMALL, model=settings(values).model)
    result = train(project.root, settings=again, name="retrained", progress=False)
    assert result["steps"] == SMALL.train.steps
    before, after = (load_detector(project.runs / name) for name in ("pruned", "retrained"))
    assert after.model.cfg.text == before.model.cfg.text
    moved = 0
    for name, value in after.model.state_dict().items():
        start = before.model.state_dict()[name]
        assert value.shape == start.shape
        if name.endswith("conv.weight"):
            # A few steps from where it was, not from random weights.
            assert float((value - start).norm()) < 0.8 * float(start.norm()), name
            moved += not torch.equal(value, start)
    assert moved > 0


def test_darknets_readers_take_the_pruned_files(report: dict) -> None:
    folder = report["folder"]
    net = cv2.dnn.readNetFromDarknet(str(folder / "network.cfg"), str(folder / "network.weights"))
    detector = load_detector(folder)
    picture = torch.rand(1, 3, detector.settings.size, detector.settings.size)
    net.setInput(picture.numpy())
    outputs = net.forward(net.getUnconnectedOutLayersNames())
    with torch.no_grad():
        raw_maps = detector.model(picture)
    for output, raw, anchors in zip(outputs, raw_maps, detector.model.anchors, strict=True):
        ours = raw.unflatten(1, (len(anchors), -1))[0, :, 4].permute(1, 2, 0).sigmoid()
        theirs = torch.from_numpy(output).reshape(-1, output.shape[-1])[:, 4]
        # OpenCV adds 1e-6 to the variance, Darknet and Tilth 1e-5.
        assert float((ours.flatten() - theirs).abs().max()) < 1e-2


def test_a_network_file_takes_the_size_of_the_settings(project: Project, report: dict) -> None:
    model = load_detector(report["folder"]).model
    assert isinstance(model, Darknet)
    larger = darknet_of(model, size=2 * model.size[0])
    assert larger.size == (2 * model.size[0], 2 * model.size[0])
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(model(picture), larger(picture), strict=True):
            assert torch.equal(one, other)


def test_what_cannot_be_pruned_is_refused(project: Project, report: dict) -> None:
    with pytest.raises(SettingsError, match="already"):
        prune_run(project.root, run="first", name="pruned", settings=HALF)
    with pytest.raises(DataError, match="no trained detector"):
        prune_run(project.root, run="nowhere", name="other", settings=HALF)
    with pytest.raises(SettingsError, match="network file of Darknet"):
        darknet_of(nn.Linear(1, 1), size=64)
    assert not Path(project.runs / "other").exists()
