"""A run shows what it learned from, how it went and what it mixes up, in files that open alone."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from drawn_sets import CLASSES, detected, draw_pictures, labelled
from PIL import Image

from tilth.data.dataset import Dataset
from tilth.recipes.batch_pictures import IGNORED, batch_picture
from tilth.recipes.detect_settings import DetectSettings, ModelSettings
from tilth.recipes.detector_plots import plot_detections
from tilth.recipes.detector_training import train_detector
from tilth.recipes.report.line_figure import Curve, line_figure
from tilth.recipes.report.training_figures import loss_figure
from tilth.train.augment_settings import NO_AUGMENT
from tilth.train.loading import DetectionBatches
from tilth.train.loop_settings import LoopSettings
from tilth.train.results_table import results_table

SETTINGS = DetectSettings(
    model=ModelSettings(width=0.125, size=64),
    train=LoopSettings(steps=6, evaluate_every=3, log_every=1, ema_decay=0.0, device="cpu"),
    batch_size=4,
)
FIGURES = ("classes", "box-sizes", "loss", "scores", "precision-recall", "f1", "confusion")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, list[Path]]:
    return draw_pictures(tmp_path_factory.mktemp("drawn"), 6)


def run(drawn, run_dir: Path, **options):
    dataset, paths = drawn
    return train_detector(
        dataset,
        paths,
        settings=SETTINGS,
        root=run_dir.parent,
        run_dir=run_dir,
        digest="abc",
        seed=0,
        validation=drawn,
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def plotted(drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("plotted") / "run"
    run(drawn, run_dir, plots=True)
    return run_dir


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_a_drawing_that_loads_nothing(plotted: Path, name: str) -> None:
    text = (plotted / "plots" / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.get("aria-label")
    assert "var(" not in text  # picture viewers know no variables
    styled = "".join(style.text for style in root.findall(f"{SVG}style"))
    for mark in root.iter():
        for word in (mark.get("class") or "").split():
            assert word in {"plot"} or f".{word}" in styled, word
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_first_batches_are_pictures(plotted: Path) -> None:
    for number in range(3):
        with Image.open(plotted / "plots" / f"batch-{number}.jpg") as sheet:
            assert sheet.size == (128, 128)  # four pictures of 64


def test_a_run_that_is_gone_on_with_keeps_its_plots(drawn, plotted: Path) -> None:
    before = {path: path.read_bytes() for path in (plotted / "plots").iterdir()}
    run(drawn, plotted, plots=True)
    assert {path: path.read_bytes() for path in (plotted / "plots").iterdir()} == before


def test_no_plots_unless_they_are_asked_for(drawn, tmp_path: Path) -> None:
    run(drawn, tmp_path / "run")
    assert not (tmp_path / "run" / "plots").exists()


def test_plots_change_nothing_that_is_learned(drawn, plotted: Path, tmp_path: Path) -> None:
    plain = run(drawn, tmp_path / "run")
    assert plain.last_weights.read_bytes() == (plotted / "last.safetensors").read_bytes()


def test_results_are_a_row_an_evaluation(plotted: Path) -> None:
    with (plotted / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert [row["epoch"] for row in rows] == ["1.5", "3"]  # 6 pictures in batches of 4
    assert {"loss/total", "loss/num_positives", "evaluation/score", "learning_rate"} <= set(rows[0])


def test_without_an_evaluation_every_logged_line_is_a_row() -> None:
    records = [{"step": step, "loss": {"total": 1.0 / step}} for step in (2, 4)]
    names, rows = results_table(records, steps_an_epoch=2)
    assert names == ["step", "epoch", "loss/total"]
    assert rows == [[2, 1.0, 0.5], [4, 2.0, 0.25]]


def test_a_sheet_shows_each_box_where_it_is(drawn) -> None:
    dataset, paths = drawn
    batches = DetectionBatches(paths, dataset, size=64, batch_size=4, seed=0, settings=NO_AUGMENT)
    batch = batches.batch(0)
    plain = {**batch, "image_index": torch.full_like(batch["image_index"], 9)}
    changed = (batch_picture(batch, CLASSES) != batch_picture(plain, CLASSES)).any(axis=2)
    for box, number in zip(batch["boxes_xyxy"], batch["image_index"].tolist(), strict=True):
        y, x = 64 * (number // 2), 64 * (number % 2)
        _, bottom, right = box[1].item(), round(box[3].item()), round(box[2].item())
        # The lower right corner: the name covers the upper left one.
        assert changed[y + min(bottom, 63), x + min(right, 63)]


def test_regions_that_are_not_punished_are_grey() -> None:
    batch = {
        "images": torch.ones(1, 3, 64, 64),
        "boxes_xyxy": torch.zeros(0, 4),
        "class_index": torch.zeros(0, dtype=torch.int64),
        "image_index": torch.zeros(0, dtype=torch.int64),
        "box_weights": torch.zeros(0),
        "ignore_boxes_xyxy": torch.tensor([[10.0, 10.0, 50.0, 40.0]]),
        "ignore_image_index": torch.zeros(1, dtype=torch.int64),
    }
    sheet = batch_picture(batch, CLASSES)
    assert tuple(sheet[10, 30]) == IGNORED
    assert (sheet[25, 30] == 255).all()


def test_many_classes_and_strange_names_are_drawn(tmp_path: Path) -> None:
    names = ["<b>&", "a very long name of a class indeed", *(f"class {n}" for n in range(40))]
    boxes = [[[0, 0, 20, 20]]] * len(names)
    truth = labelled(boxes, [[row] for row in range(len(names))], class_names=names)
    found = detected([[0, 0, 20, 20]] * 3, [0.9, 0.8, 0.7], [0, 1, 1], media=[0, 1, 2])
    plot_detections(tmp_path, truth, found, names)
    for name in ("precision-recall", "f1", "confusion"):
        ElementTree.fromstring((tmp_path / "plots" / f"{name}.svg").read_text())


def test_nothing_found_and_nothing_labelled_are_drawn(tmp_path: Path) -> None:
    truth = labelled([[[0, 0, 20, 20]]], [[0]])
    nothing = detected(np.zeros((0, 4)), [], [])
    empty = truth.keep_annotations(np.zeros(1, bool))
    for data in (truth, empty):
        plot_detections(tmp_path, data, nothing, CLASSES)


def test_numbers_that_are_none_leave_a_gap() -> None:
    records = [{"step": 1, "loss": {"total": None}}, {"step": 2, "loss": {"total": 0.5}}]
    assert "circle" in loss_figure(records)  # a single point is a dot
    drawing = line_figure(
        [Curve(name="a", points=[(0, float("nan"))])], x_name="x", y_name="y", label="none"
    )
    assert "curve" not in drawing


def test_curves_end_with_names_that_do_not_overlap() -> None:
    ends = (0.0, 0.0, 0.0, 0.5, 0.501, 0.502)
    curves = [Curve(name=f"c{n}", points=[(0.0, 1.0), (1.0, end)]) for n, end in enumerate(ends)]
    root = ElementTree.fromstring(line_figure(curves, x_name="x", y_name="y", label="six"))
    heights = [float(t.get("y")) for t in root.iter("text") if t.text and t.text[0] == "c"]
    assert len(heights) == len(ends)
    assert (np.diff(sorted(heights)) >= 14).all()
    assert max(heights) < 340
