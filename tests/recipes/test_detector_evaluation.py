"""Scores of a run, of weights from elsewhere and of files: what is scored, named and refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bright_detector import bright_detector, picture_with
from drawn_sets import detected, drawn_project, labelled
from small_experiment import SMALL

from tilth.curate import rebalance
from tilth.data.formats import load_format
from tilth.data.images import write_jpeg
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import DataError, EmptyDatasetError, SettingsError
from tilth.metrics.average_precision import average_precision
from tilth.ops.nms import Suppression
from tilth.recipes.detector import load_detector
from tilth.recipes.detector_evaluation import (
    evaluate,
    evaluate_file,
    evaluate_predictions,
    evaluate_weights,
    score_detector,
    scores_of,
    write_class_table,
)
from tilth.recipes.detector_latency import latency
from tilth.recipes.detector_runs import train
from tilth.recipes.detector_source import OpenedDetector, open_weights
from tilth.recipes.evaluation_settings import CONSTANTS, EvaluationSettings, evaluation_settings
from tilth.recipes.model_settings import ModelSettings

BOXES = [(8, 10, 28, 30), (40, 36, 56, 60)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = drawn_project(tmp_path_factory.mktemp("runs") / "project", train=6, test=3)
    train(project.root, settings=SMALL, name="first", progress=False)
    return project


def resplit(project: Project, **splits: Split) -> None:
    """Move pictures, named by the number in their file's name: ``n00=Split.TEST``."""
    media = project.catalogue.read().media
    rows = [media.uri.index(f"pictures/{number[1:]}.jpg") for number in splits]
    codes = np.array(list(splits.values()), np.int8)
    project.catalogue.set_splits(media.id[rows], codes)


def test_evaluate_counts_and_names_what_it_scored(project: Project) -> None:
    scores = evaluate(project.root, run="first", split="test", progress=False)
    assert (scores["pictures"], scores["boxes"]) == (3, 4)
    assert scores["trained_on"] == project.catalogue.versions()[0].digest
    assert set(scores["per_class"]) == {"bright", "dark"}
    with pytest.raises(EmptyDatasetError, match="val split"):
        evaluate(project.root, run="first", split="val", progress=False)
    with pytest.raises(DataError, match="no trained detector"):
        evaluate(project.root, run="second", split="test", progress=False)


def test_evaluate_refuses_a_detector_of_other_classes(project: Project) -> None:
    record = project.runs / "first" / "detector.json"
    original = record.read_text()
    try:
        record.write_text(original.replace('"dark"', '"dim"'))
        with pytest.raises(DataError, match="other classes") as caught:
            evaluate(project.root, run="first", split="test", progress=False)
    finally:
        record.write_text(original)
    assert caught.value.expected == "bright, dark"
    assert caught.value.got == "bright, dim"


def test_evaluate_refuses_pictures_that_the_run_was_trained_on(project: Project) -> None:
    resplit(project, n03=Split.TEST, n01=Split.TEST)
    try:
        with pytest.raises(DataError, match="trained on pictures") as caught:
            evaluate(project.root, run="first", split="test", progress=False)
        assert caught.value.got == "2 of 5 that it has, pictures/01.jpg first"
        assert "tilth split" in str(caught.value.fix)
        # What is left of its training set may be scored, by that name.
        scores = evaluate(project.root, run="first", split="train", progress=False)
        assert (scores["pictures"], scores["held_out"]) == (4, False)
        # Without the kept data nobody can tell, and the result says so.
        record = project.runs / "first" / "detector.json"
        original = record.read_text()
        record.write_text(original.replace(scores["trained_on"], "0" * 64))
        try:
            unknown = evaluate(project.root, run="first", split="test", progress=False)
        finally:
            record.write_text(original)
        assert unknown["held_out"] is None
    finally:
        resplit(project, n03=Split.TRAIN, n01=Split.TRAIN)
    scores = evaluate(project.root, run="first", split="test", progress=False)
    assert (scores["pictures"], scores["held_out"]) == (3, True)


def test_derived_pictures_are_not_scored(tmp_path: Path) -> None:
    project = drawn_project(tmp_path / "p", train=4, test=2)
    train(project.root, settings=SMALL, name="first", progress=False)
    dataset = project.catalogue.read()
    plan = rebalance.random_plan(dataset, 3, name="more", seed=0)
    rebalance.run(project, plan, progress=False)
    assert (project.catalogue.read().media.parent_id >= 0).sum() == 3
    scores = evaluate(project.root, run="first", split="train", progress=False)
    assert scores["pictures"] == 4


@pytest.fixture
def bright(tmp_path: Path):
    """Two pictures with bright patches, their labels and files; one patch is not labelled."""
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    write_jpeg(paths[0], picture_with(BOXES))
    write_jpeg(paths[1], picture_with(BOXES[:1]))
    dataset = labelled([BOXES[:1], BOXES[:1]], [[0], [0]], class_names=("white", "blue"))
    return dataset, paths


def test_a_detector_of_other_classes_is_scored_by_name(bright) -> None:
    scores = score_detector(bright_detector(), *bright, EvaluationSettings(bootstrap=0))
    # Of three detections one is of an unlabelled patch, as bright as the others.
    assert scores["num_detections"] == 3
    assert scores["per_class_truths"] == {"white": 2, "blue": 0}
    assert scores["classes_without_truth"] == ["blue"]
    assert scores["ap50"] == pytest.approx(1.0, abs=0.4)
    renamed = replace(bright_detector(), class_names=("person", "red"))
    with pytest.raises(SettingsError, match="knows no class"):
        score_detector(renamed, *bright)
    mapped = score_detector(renamed, *bright, classes={"person": "white"})
    assert mapped["num_detections"] == 3


def test_the_protocol_is_stated(bright) -> None:
    settings = evaluation_settings(constants="darknet-map", mode="area", bootstrap=7)
    scores = score_detector(bright_detector(resize="stretch"), *bright, settings)
    assert scores["mode"] == "area"
    assert scores["protocol"] == {
        "mode": "area",
        "score_threshold": 0.005,
        "detector": {
            "size": 64,
            "resize": "stretch",
            "suppression": vars(Suppression(kind="diou", iou_threshold=0.45)),
        },
        "bootstrap": 7,
    }
    json.dumps(scores)


def test_weights_from_elsewhere_are_scored_on_a_project(project: Project) -> None:
    detector = replace(load_detector(project.runs / "first"), class_names=("dark", "person"))
    opened = OpenedDetector(
        detector=detector, name="other", weights=Path("other.weights"), weights_digest="abc"
    )
    scores = evaluate_weights(project.root, opened=opened, split="test")
    assert (scores["run"], scores["held_out"], scores["weights_digest"]) == ("other", None, "abc")
    assert scores["per_class_truths"].keys() == {"bright", "dark"}
    assert scores["per_class"]["bright"] == 0.0


def test_constants_are_those_of_the_programs() -> None:
    score, suppression = CONSTANTS["darknet-valid"]
    assert (score, suppression.kind, suppression.iou_threshold) == (0.001, "diou", 0.6)
    changed = evaluation_settings(constants="darknet-demo", iou_threshold=0.3, kind="iou")
    assert changed.score_threshold == 0.25
    assert changed.suppression == Suppression(kind="iou", iou_threshold=0.3)
    with pytest.raises(SettingsError, match="constants") as caught:
        evaluation_settings(constants="tao")
    assert "darknet-map" in str(caught.value.expected)
    with pytest.raises(SettingsError, match="threshold"):
        EvaluationSettings(score_threshold=1.5)
    with pytest.raises(SettingsError, match="bootstrap"):
        EvaluationSettings(bootstrap=-1)


def test_weak_detections_are_not_looked_at() -> None:
    truth = labelled([BOXES], [[0, 0]])
    found = detected(BOXES, [0.9, 0.1], [0, 0])
    settings = EvaluationSettings(score_threshold=0.5, bootstrap=0)
    scores = scores_of(truth, found, settings)
    assert (scores["num_detections"], scores["ar"]) == (1, 0.5)
    assert scores["best_f1"]["bright"] == {
        "score": pytest.approx(0.9),
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert scores["best_f1"]["dark"] is None


def test_a_table_of_the_classes_is_written(tmp_path: Path) -> None:
    truth = labelled([BOXES], [[0, 0]])
    scores = scores_of(truth, detected(BOXES, [0.9, 0.8], [0, 0]), EvaluationSettings(bootstrap=0))
    write_class_table(scores, tmp_path / "classes.csv")
    with (tmp_path / "classes.csv").open() as stream:
        bright, dark = csv.DictReader(stream)
    assert (bright["class"], bright["mode"], bright["truths"]) == ("bright", "coco", "2")
    assert float(bright["ap50"]) == pytest.approx(1.0)
    assert float(bright["score"]) == pytest.approx(0.8)
    assert (dark["truths"], dark["ap"], dark["f1"]) == ("0", "", "")


def test_latency_names_its_parts(bright) -> None:
    timed = latency(bright_detector(), bright[1])
    assert timed["pictures"] == 2
    assert set(timed["median_ms"]) == {"reading", "network", "suppression", "all"}
    assert all(value > 0 for value in timed["median_ms"].values())
    assert timed["slowest_ms"] >= timed["median_ms"]["all"] * 0.99
    with pytest.raises(EmptyDatasetError):
        latency(bright_detector(), [])


def write_results(path: Path, dataset, found) -> None:
    boxes = found.boxes_xyxy
    records = [
        {
            "image_id": int(dataset.media.id[media]),
            "category_id": dataset.categories[category].origin_id,
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "score": float(score),
        }
        for media, category, box, score in zip(
            found.media_index, found.category_index, boxes, found.score, strict=True
        )
    ]
    path.write_text(json.dumps(records))


def test_a_file_of_results_scores_as_the_detections_in_it(project: Project, tmp_path: Path) -> None:
    dataset = project.catalogue.read()
    test = dataset.of_split(Split.TEST)
    found = detected(
        test.annotations.boxes_xyxy + 1.5,
        np.linspace(0.9, 0.3, len(test.annotations)),
        test.annotations.category_index,
        test.annotations.media_index,
    )
    write_results(tmp_path / "results.json", test, found)
    scores = evaluate_predictions(project.root, predictions=tmp_path / "results.json", split="test")
    assert scores["ap"] == pytest.approx(average_precision(test, found).ap)
    assert (scores["detections_of_other_pictures"], scores["held_out"]) == (0, None)
    assert scores["protocol"]["detector"] is None
    # The same against a label file, without a project.
    load_format("coco").write(test, tmp_path / "labels.json")
    alone = evaluate_file(tmp_path / "labels.json", predictions=tmp_path / "results.json")
    assert alone["ap"] == pytest.approx(scores["ap"])
    # Of the whole project's detections those of the split are scored.
    everywhere = detected(
        dataset.annotations.boxes_xyxy,
        np.full(len(dataset.annotations), 0.5),
        dataset.annotations.category_index,
        dataset.annotations.media_index,
    )
    write_results(tmp_path / "all.json", dataset, everywhere)
    scores = evaluate_predictions(project.root, predictions=tmp_path / "all.json", split="test")
    assert scores["ap"] == pytest.approx(1.0)
    outside = len(dataset.annotations) - len(test.annotations)
    assert scores["detections_of_other_pictures"] == outside


PERSONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco-person"
FASTEST = PERSONS.parent / "weights" / "yolo-fastest" / "yolo-fastest-1.1-xl.cfg"


@pytest.mark.slow
@pytest.mark.skipif(
    not (PERSONS.is_dir() and FASTEST.is_file()), reason="the person set is not here"
)
def test_yolo_fastest_finds_persons_as_published() -> None:
    opened = open_weights(
        ModelSettings(
            variant="darknet",
            cfg=str(FASTEST),
            weights=str(FASTEST.with_suffix(".weights")),
            size=320,
            resize="stretch",
        ),
        root=Path("/"),
    )
    dataset, _ = load_format("coco").read(PERSONS / "instances.json", media_root=PERSONS / "images")
    dataset = dataset.take(np.arange(0, len(dataset.media), 11)[:200])
    images = [Path(uri) for uri in dataset.media.uri]
    settings = evaluation_settings(constants="darknet-valid", bootstrap=0)
    scores = score_detector(opened.detector, dataset, images, settings)
    # 0.53 on all 2,693 pictures in full size, by 0.001 and 0.6.
    assert 0.48 < scores["ap50"] < 0.58
    assert scores["num_truths"] > 700
