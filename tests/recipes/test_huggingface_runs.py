"""Detectors of transformers are trained, found again and used as every other one is."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from drawn_sets import draw_pictures

from tilth.data.dataset import Dataset
from tilth.errors import DataError, SettingsError, TrainingError
from tilth.metrics.average_precision import average_precision
from tilth.models.huggingface_architecture import MODEL_TYPES, scaled_architecture
from tilth.models.huggingface_weights import save_published
from tilth.recipes.detect_settings import DetectSettings, ModelSettings
from tilth.recipes.detector import find_objects, load_detector, new_detector
from tilth.recipes.detector_training import train_detector
from tilth.recipes.model_settings import SET_PREDICTION, Variant
from tilth.train.augment_settings import NO_AUGMENT, AugmentSettings
from tilth.train.loop_settings import LoopSettings

CLASSES = ("bright", "dark")
SMALL = DetectSettings(
    model=ModelSettings(variant="d-fine", hub="small/config.json", size=64),
    train=LoopSettings(steps=30, optimiser="adamw", learning_rate=0.001, log_every=1, device="cpu"),
    augment=NO_AUGMENT,
    batch_size=4,
)


def write_config(root: Path, variant: str = "d-fine") -> None:
    """A network small enough to be trained in a test."""
    smallest = scaled_architecture(variant, width=0.125, depth=0.1)
    config = smallest.config | {"num_queries": 20, "num_denoising": 10}
    (root / "small").mkdir(parents=True, exist_ok=True)
    (root / "small" / "config.json").write_text(json.dumps(config))


def train(drawn: tuple[Dataset, list[Path]], root: Path, name: str = "run", **changes: object):
    return train_detector(
        *drawn,
        settings=replace(SMALL, **changes),
        root=root,
        run_dir=root / name,
        digest="abc",
        seed=0,
        progress=False,
    )


def steps(count: int, **changes: object) -> dict[str, LoopSettings]:
    return {"train": replace(SMALL.train, steps=count, **changes)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, list[Path]]:
    return draw_pictures(tmp_path_factory.mktemp("drawn"), 4)


@pytest.fixture(scope="module")
def project(drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run; what its network was described by is gone."""
    root = tmp_path_factory.mktemp("project")
    write_config(root)
    train(drawn, root)
    shutil.rmtree(root / "small")
    return root


@pytest.fixture(scope="module")
def published(project: Path) -> Path:
    """The same network as transformers would write it."""
    save_published(load_detector(project / "run").model, CLASSES, project / "published")
    return project / "published"


def losses(root: Path) -> list[dict[str, float]]:
    lines = (root / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines if "loss" in json.loads(line)]


def test_the_settings_name_the_kinds_that_there_are() -> None:
    assert set(MODEL_TYPES) == set(SET_PREDICTION)
    assert set(SET_PREDICTION) < set(get_args(Variant))


def test_thirty_steps_lower_the_loss(project: Path) -> None:
    seen = losses(project)
    assert {"total", "class", "box_l1", "box_giou", "denoising"} <= set(seen[0])
    assert seen[-1]["total"] < 0.9 * seen[0]["total"]
    assert seen[-1]["box_l1"] < 0.8 * seen[0]["box_l1"]


def test_a_loaded_detector_is_the_trained_one_without_hub_or_folder(project: Path, drawn) -> None:
    dataset, paths = drawn
    first, second = load_detector(project / "run"), load_detector(project / "run")
    assert first.class_names == CLASSES
    assert not first.model.suppresses
    found, again = (find_objects(each, paths, labelled=dataset) for each in (first, second))
    assert len(found) > 0
    np.testing.assert_array_equal(found.boxes_xyxy, again.boxes_xyxy)
    np.testing.assert_array_equal(found.score, again.score)
    assert average_precision(dataset, found).ap50 is not None


def test_two_runs_of_one_seed_are_one_run_and_a_resumed_one_too(drawn, tmp_path: Path) -> None:
    weights = []
    for name, stops in (("straight", [4]), ("again", [4]), ("stopped", [2, 4])):
        root = tmp_path / name
        write_config(root)
        constant = {"warmup_steps": 0, "final_learning_rate_fraction": 1.0}
        for count in stops:
            train_detector(
                *drawn,
                settings=replace(SMALL, **steps(count, **constant)),
                root=root,
                run_dir=root / "run",
                digest="abc",
                seed=0,
                progress=False,
                extend=True,
            )
        weights.append((root / "run" / "last.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2]


@pytest.mark.slow
def test_learns_four_pictures_by_heart(drawn, tmp_path: Path) -> None:
    dataset, paths = drawn
    write_config(tmp_path)
    train(drawn, tmp_path, **steps(250, warmup_steps=10, weight_decay=0.0))
    found = find_objects(load_detector(tmp_path / "run"), paths)
    ap50 = average_precision(dataset, found).ap50
    assert ap50 is not None
    assert ap50 > 0.95


def test_starts_from_a_published_folder_with_the_classes_that_it_knows(published: Path) -> None:
    settings = replace(SMALL.model, hub=published.name)
    names = ("dark", "striped", "bright")
    detector, report = new_detector(settings, names, root=published.parent, seed=0)
    assert report is not None
    assert (report.classes, report.skipped) == (("dark", "bright"), ())
    source = load_detector(published.parent / "run").model.state_dict()
    scores = "network.model.enc_score_head.weight"
    own = detector.model.state_dict()[scores]
    torch.testing.assert_close(own[[2, 0]], source[scores])
    assert detector.model.num_classes == 3
    # The statistics of the backbone came with the weights.
    assert detector.model.architecture.source == published.name


def test_other_names_for_the_classes_of_a_folder(published: Path, tmp_path: Path) -> None:
    (published.parent / "names.txt").write_text("light\nblack\n")
    settings = replace(SMALL.model, hub=published.name, weights_classes="names.txt")
    _, report = new_detector(settings, ("black",), root=published.parent, seed=0)
    assert report is not None
    assert report.classes == ("black",)


def test_a_run_is_continued_as_the_start_of_another(project: Path, drawn) -> None:
    settings = ModelSettings(variant="d-fine", weights="run", size=64)
    detector, report = new_detector(settings, CLASSES, root=project, seed=3)
    assert report is not None
    assert not report.skipped
    first = load_detector(project / "run")
    found, again = (find_objects(each, drawn[1]) for each in (first, detector))
    np.testing.assert_allclose(found.score, again.score, rtol=1e-5)


def test_the_weights_are_part_of_what_a_run_is(published: Path, drawn, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(published, tmp_path / name)
    other = tmp_path / "two" / "model.safetensors"
    start = {"model": replace(SMALL.model, hub="start")}
    shutil.copytree(tmp_path / "one", tmp_path / "start")
    train(drawn, tmp_path, **start, **steps(1))
    content = bytearray((tmp_path / "one" / "model.safetensors").read_bytes())
    content[-4] ^= 1
    other.write_bytes(content)
    shutil.copy(other, tmp_path / "start" / "model.safetensors")
    with pytest.raises(TrainingError, match="another run"):
        train(drawn, tmp_path, **start, **steps(1))


def test_a_random_network_of_the_settings_own_width(drawn, tmp_path: Path) -> None:
    model = ModelSettings(variant="rt-detr-v2", width=0.1, depth=0.1, size=128)
    train(drawn, tmp_path, model=model, **steps(1))
    found = find_objects(load_detector(tmp_path / "run"), drawn[1])
    assert len(found) > 0


def test_the_variant_and_the_description_agree(drawn, tmp_path: Path) -> None:
    write_config(tmp_path, "rt-detr")
    with pytest.raises(SettingsError, match="names another kind") as caught:
        new_detector(SMALL.model, CLASSES, root=tmp_path, seed=0)
    assert (caught.value.expected, caught.value.got) == ("model_type d_fine", "rt_detr")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such detector") as caught:
        new_detector(SMALL.model, CLASSES, root=tmp_path, seed=0)
    assert caught.value.where == str(tmp_path / "small" / "config.json")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"variant": "yolov4", "hub": "owner/name"}, "model.hub"),
        ({"variant": "d-fine", "hub": "owner/name", "weights": "runs/first"}, "both say"),
        ({"variant": "d-fine", "anchors": ((3.0, 4.0),)}, "model.anchors"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        ModelSettings(**changes)


def test_mixup_is_refused_before_anything_is_read() -> None:
    with pytest.raises(SettingsError, match=r"augment\.mixup"):
        replace(SMALL, augment=AugmentSettings(mixup=0.1))


def test_a_record_of_another_network_than_the_weights(project: Path, tmp_path: Path) -> None:
    for name in ("detector.json", "network.json", "last.safetensors"):
        shutil.copy(project / "run" / name, tmp_path / name)
    record = json.loads((tmp_path / "network.json").read_text())
    record["config"]["decoder_layers"] = 3
    (tmp_path / "network.json").write_text(json.dumps(record))
    with pytest.raises(TrainingError, match="cannot be loaded"):
        load_detector(tmp_path)


def test_a_detector_is_not_loaded_without_its_library(project: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Exception, match="transformers is not installed"):
        load_detector(project / "run")
