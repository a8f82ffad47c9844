"""A detector is trained by a metric of its boxes: what it is shown, what reaches the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_sets import draw_pictures, drawn_project
from learned_metrics import written_metrics

from tilth.errors import SettingsError, TrainingError
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.losses.metric_loss import MetricLoss
from tilth.models.yolov4 import YoloV4
from tilth.ops.boxes import pairwise_iou
from tilth.recipes import detector_runs
from tilth.recipes.detect_settings import DetectSettings, ModelSettings, settings
from tilth.recipes.detected_boxes import detected_boxes, found_boxes, true_boxes
from tilth.recipes.detector_loss_settings import (
    DetectorLossSettings,
    metric_of_loss,
    ordinary_loss,
)
from tilth.recipes.detector_training import train_detector
from tilth.recipes.metric_record import METRIC_PAGE, read_metric_watch
from tilth.seeding import seed_everything
from tilth.train.augment_settings import AugmentSettings
from tilth.train.loop_settings import LoopSettings
from tilth.train.run import Run
from tilth.train.trackers import read_records

SETTINGS = DetectSettings(
    model=ModelSettings(width=0.25, size=64),
    train=LoopSettings(
        steps=9,
        optimiser="adamw",
        learning_rate=0.003,
        warmup_steps=0,
        checkpoint_every=6,
        log_every=1,
        device="cpu",
    ),
    batch_size=4,
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("drawn"), 8)


@pytest.fixture(scope="module")
def by_metric(tmp_path_factory):
    """Settings whose metric joins in at the fifth of nine steps."""
    path = written_metrics(tmp_path_factory.mktemp("metrics"))
    metric = settings(
        overrides=[
            *(f"loss.metric={path}:missed", "loss.low=0", "loss.workers=0", "loss.begin=0.4"),
            *("loss.look_every=1", "loss.calls_per_look=4", "loss.network.fit_steps=20"),
            *("loss.network.members=1", "loss.refresh_steps=2", "loss.ramp=0"),
        ]
    ).loss
    return replace(SETTINGS, loss=metric)


@pytest.fixture
def network():
    seed_everything(0)
    return YoloV4(2, variant="yolov4-tiny", width=0.25).eval()


def train(drawn, run_dir, options):
    dataset, paths = drawn
    return train_detector(
        dataset,
        paths,
        settings=options,
        root=run_dir.parent,
        run_dir=run_dir,
        digest="abc",
        seed=3,
        progress=False,
    )


def test_found_boxes_are_those_of_the_network(network):
    """Every row is one that `decode` gives, and no two of a class overlap by half."""
    raw_maps = network(torch.rand(2, 3, 64, 64))
    found = found_boxes(raw_maps, network, most=12)
    boxes, scores = network.decode(raw_maps)
    assert found.shape == (2, 12, 7)
    for picture in range(2):
        rows = found[picture]
        place = torch.cdist(rows[:, :4], boxes[picture]).argmin(dim=1)
        assert torch.allclose(boxes[picture][place], rows[:, :4], atol=1e-4)
        assert torch.allclose(scores[picture][place], rows[:, 4:5] * rows[:, 5:], atol=1e-5)
        kinds = rows[:, 5:].argmax(dim=1)
        overlap = pairwise_iou(rows[:, :4], rows[:, :4]).fill_diagonal_(0)
        assert (overlap[kinds[:, None] == kinds[None]] <= 0.5).all()
        strength = rows[:, 4] * rows[:, 5:].amax(dim=1)
        assert (strength.diff() <= 0).all()


def test_gradient_of_every_kept_number_reaches_the_network(network):
    images = torch.rand(1, 3, 64, 64)
    for column in range(7):
        network.zero_grad()
        found_boxes(network(images), network)[..., column].sum().backward()
        gradients = [each.grad for each in network.parameters() if each.grad is not None]
        assert any((gradient != 0).any() for gradient in gradients)
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_true_boxes_are_padded_a_picture():
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 9, 9]])
    padded = true_boxes(boxes, torch.tensor([1, 0, 1]), torch.tensor([2, 0, 2]), 3)
    assert padded.shape == (3, 2, 5)
    assert padded[2].tolist() == [[0, 0, 2, 2, 1], [5, 5, 9, 9, 1]]
    assert padded[0].tolist() == [[1, 1, 3, 3, 0], [0, 0, 0, 0, 0]]
    assert padded[1].eq(0).all()
    nothing = true_boxes(boxes[:0], torch.zeros(0).long(), torch.zeros(0).long(), 2)
    assert nothing.shape == (2, 1, 5)


def test_outputs_take_a_batch_as_the_trainer_makes_it(network):
    batch = {
        "images": torch.rand(2, 3, 64, 64),
        "boxes_xyxy": torch.tensor([[4.0, 4, 20, 20]]),
        "class_index": torch.tensor([1]),
        "image_index": torch.tensor([0]),
    }
    found, truths = detected_boxes(network)(network, batch)
    assert len(found) == len(truths) == 2
    assert found.requires_grad


def test_run_is_taught_watched_and_written(drawn, tmp_path, by_metric):
    done = train(drawn, tmp_path / "run", by_metric)
    ordinary = train(drawn, tmp_path / "ordinary", SETTINGS)
    assert done.last_weights.read_bytes() != ordinary.last_weights.read_bytes()
    records = [line["loss"] for line in read_records(done.metrics)]
    assert records[-1]["metric_loss"] != 0
    assert {"box", "objectness", "class", "metric_true"} <= set(records[-1])
    # Before the metric joins in, the steps are those of the ordinary loss.
    assert records[1]["total"] == read_records(ordinary.metrics)[1]["loss"]["total"]
    watch = read_metric_watch(tmp_path / "run")
    assert watch["cost"]["calls"] == 9 * 4
    assert watch["readings"]
    assert (tmp_path / "run" / METRIC_PAGE).is_file()
    assert read_metric_watch(tmp_path / "ordinary") is None


class Killed(Exception):
    pass


@pytest.mark.parametrize("on_device", [False, True])
def test_run_resumes_bit_for_bit(drawn, tmp_path, by_metric, on_device, monkeypatch):
    options = replace(by_metric, augment=AugmentSettings(on_device=on_device))
    whole = train(drawn, tmp_path / "a", options)

    def save_and_die(run, save=Run.save):
        save(run)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", save_and_die)
        with pytest.raises(Killed):
            train(drawn, tmp_path / "b", options)
    resumed = train(drawn, tmp_path / "b", options)
    assert resumed.resumed_from == 6
    assert resumed.last_weights.read_bytes() == whole.last_weights.read_bytes()
    readings = [read_metric_watch(tmp_path / name)["readings"] for name in "ab"]
    assert readings[0] == readings[1]


def test_processes_end_with_a_run_that_fails(drawn, tmp_path, by_metric, monkeypatch):
    closed = []
    monkeypatch.setattr(MetricLoss, "close", lambda loss: closed.append(loss))
    broken = replace(by_metric.loss, metric=by_metric.loss.metric.replace("missed", "broken"))
    with pytest.raises(TrainingError, match="the metric gave nan"):
        train(drawn, tmp_path / "run", replace(by_metric, loss=broken))
    assert len(closed) == 1


def test_settings_of_the_metric_are_part_of_the_run(drawn, tmp_path, by_metric):
    short = replace(by_metric, train=replace(by_metric.train, steps=1))
    train(drawn, tmp_path / "run", short)
    workers = replace(short, loss=replace(short.loss, workers=1))
    assert train(drawn, tmp_path / "run", workers).resumed_from == 1
    with pytest.raises(TrainingError, match="another run"):
        train(drawn, tmp_path / "run", replace(short, loss=replace(short.loss, weight=2.0)))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("model.variant=rt-detr-v2",), "rt-detr-v2"),
        (("adversarial.learning_rate=0.5",), "adversarial.learning_rate"),
        (("loss.weight=-1",), "loss.weight"),
        (("loss.box_gain=-1",), "loss.box_gain"),
        (("loss.boxgain=1",), "loss.boxgain"),
    ],
)
def test_what_cannot_be_judged_is_refused(overrides, words):
    with pytest.raises(SettingsError) as caught:
        settings(overrides=["loss.metric=a:b", *overrides])
    assert words in str(caught.value)


def test_one_table_holds_both_losses():
    both = settings(overrides=["loss.metric=a:b", "loss.box_gain=3", "loss.high=1"]).loss
    assert ordinary_loss(both) == DetectionLossSettings(box_gain=3.0)
    assert metric_of_loss(both).high == 1.0
    assert ordinary_loss(DetectorLossSettings()) == DetectionLossSettings()
    assert not metric_of_loss(DetectionLossSettings()).is_on


def test_sets_of_boxes_are_judged_together(drawn, tmp_path, by_metric):
    loss = replace(
        by_metric.loss,
        metric=f"{by_metric.loss.metric}_of_set",
        per="set",
        set_size=2,
        calls_per_look=2,
        begin=0.7,
    )
    train(drawn, tmp_path / "run", replace(by_metric, loss=loss))
    watch = read_metric_watch(tmp_path / "run")
    assert watch["per"] == "set"
    assert np.isfinite([each["true"] for each in watch["readings"]]).all()


def test_run_of_a_project_names_the_page_and_what_was_said(tmp_path, by_metric):
    project = drawn_project(tmp_path / "field", train=8, test=2)
    done = detector_runs.train(project.root, settings=by_metric, name="first", progress=False)
    assert done["metric_page"].is_file()
    assert any("learned from" in notice for notice in done["metric_notices"])
