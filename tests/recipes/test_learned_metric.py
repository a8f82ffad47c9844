"""A classifier is trained by a metric of the user's by one line, and says whether that was true."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from learned_metrics import SHORT, cost_of, metric_settings, roads, written_metrics

from tilth.data.directories import images_from_directory
from tilth.errors import SettingsError, TrainingError
from tilth.losses.metric_calls import MetricCalls
from tilth.losses.metric_loss import MetricLoss
from tilth.losses.metric_settings import MetricSettings
from tilth.recipes.classify import labelled_rows, train_classifier
from tilth.recipes.classify_settings import ClassifySettings, settings
from tilth.recipes.learned_metric import class_probabilities, metric_identity, whole_sets
from tilth.recipes.metric_judge import judging
from tilth.recipes.metric_record import read_metric_watch
from tilth.train.run import Run
from tilth.train.trackers import read_records


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    return written_metrics(tmp_path_factory.mktemp("metrics"))


@pytest.fixture(scope="module")
def rows():
    return labelled_rows(roads(), settings(overrides=SHORT), progress=False)


@pytest.fixture(scope="module")
def done(metrics, rows, tmp_path_factory):
    return trained(rows, tmp_path_factory.mktemp("runs") / "by-cost", metric_settings(metrics))


def trained(rows, run_dir, options):
    return train_classifier(rows, run_dir=run_dir, settings=options, progress=False)


def cost_on(done, rows):
    return cost_of(done.classifier.probabilities(rows), rows.labels)


def test_text_run_betters_the_metric(done, rows, tmp_path):
    """By a fifth: where the text leaves it open, the careful answer is cheaper."""
    ordinary = trained(rows, tmp_path / "ordinary", settings(overrides=SHORT))
    assert cost_on(done, rows) < 0.85 * cost_on(ordinary, rows)
    assert ordinary.metric is None
    assert ordinary.metric_page is None


def test_picture_run_betters_the_metric(metrics, tmp_path):
    """A third of the dull pictures show a stop, and nothing tells which."""
    draws = np.random.default_rng(0)
    for number in range(90):
        kind = ("go", "stop", "dull")[number % 3]
        stops = kind == "stop" or (kind == "dull" and number % 9 == 2)
        level = {"go": 40, "stop": 210, "dull": 120}[kind]
        pixels = draws.integers(level - 20, level + 20, size=(16, 16, 3), dtype=np.uint8)
        path = tmp_path / "data" / ("stop" if stops else "go") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels)
    pictures = images_from_directory(tmp_path / "data", shuffle=False)
    base = (*SHORT, "picture.size=16", "picture.width=4", "picture.blocks=[1,1]", "batch_size=16")
    ordinary = trained(pictures, tmp_path / "ordinary", settings(overrides=base))
    careful = trained(pictures, tmp_path / "careful", metric_settings(metrics, base=base))
    costs = [_cost_of_predictions(each) for each in (ordinary, careful)]
    assert costs[1] < 0.9 * costs[0]


def _cost_of_predictions(done):
    table = done.predictions
    chances = [table[f"probability of {name}"].to_numpy() for name in ("go", "stop")]
    return cost_of(
        np.stack(chances, axis=1), [label == "stop" for label in table["label"].to_pylist()]
    )


def test_run_says_what_was_believed_and_what_it_cost(done):
    watch = read_metric_watch(done.fitted.run_dir)
    assert watch["metric"].endswith("costs.py:cost")
    assert watch["cost"]["calls"] == 16 * 30  # a look every other step
    assert watch["cost"]["seconds"] > 0
    assert watch["cost"]["share_of_training"] < 1
    assert watch["held_out"] == done.metric
    assert watch["alarms"] == sum(each["is_alarm"] for each in watch["readings"])
    assert [each["calls"] for each in watch["readings"]] == sorted(
        each["calls"] for each in watch["readings"]
    )
    assert any("learned from" in notice for notice in done.notices)
    assert done.notices == tuple(watch["notices"])
    page = done.metric_page.read_text()
    assert "Trained by a metric" in page
    assert "480" in page
    assert "<script" not in page
    assert f'href="{done.metric_page.name}"' in done.report.read_text()


def test_log_holds_the_terms_of_the_metric(done):
    records = [line["loss"] for line in read_records(done.fitted.metrics) if "loss" in line]
    assert {"total", "metric_loss", "metric_true", "metric_believed"} <= set(records[-1])
    assert records[0]["metric_loss"] == 0  # the ordinary loss is alone at first
    assert records[-1]["metric_calls"] > 0


def test_true_metric_chooses_the_weights(done):
    evaluations = [
        line["evaluation"] for line in read_records(done.fitted.metrics) if "evaluation" in line
    ]
    assert [each["score"] for each in evaluations] == [-each["metric"] for each in evaluations]
    assert done.fitted.best_score == max(each["score"] for each in evaluations)


class Killed(Exception):
    pass


def test_run_resumes_bit_for_bit(done, metrics, rows, tmp_path, monkeypatch):
    options = metric_settings(metrics)
    saves = []

    def save_and_die(run, save=Run.save):
        save(run)
        saves.append(run)
        if len(saves) in (1, 2):  # before the metric joins in, and after
            raise Killed

    monkeypatch.setattr(Run, "save", save_and_die)
    for _ in range(2):
        with pytest.raises(Killed):
            trained(rows, tmp_path / "run", options)
    resumed = trained(rows, tmp_path / "run", options)
    assert resumed.fitted.resumed_from == 40
    assert resumed.fitted.loss == done.fitted.loss
    assert resumed.predictions.equals(done.predictions)
    assert resumed.notices == done.notices
    whole = read_metric_watch(done.fitted.run_dir)
    assert read_metric_watch(tmp_path / "run")["readings"] == whole["readings"]


def test_workers_change_nothing_and_may_differ_in_a_resumed_run(done, metrics, rows):
    again = trained(rows, done.fitted.run_dir, metric_settings(metrics, "cost", "loss.workers=1"))
    assert again.fitted.resumed_from == 60
    assert again.predictions.equals(done.predictions)


def test_settings_of_the_metric_are_part_of_the_run(done, metrics, rows):
    with pytest.raises(TrainingError, match="another run"):
        trained(rows, done.fitted.run_dir, metric_settings(metrics, "cost", "loss.weight=2"))
    assert "metric" in json.loads((done.fitted.run_dir / "run.json").read_bytes())["data"]


def test_without_a_metric_a_run_is_what_it_was():
    assert metric_identity(ClassifySettings().loss) == {}
    assert not ClassifySettings().loss.is_on


@pytest.mark.parametrize("kind", ["gce", "elr", "mixup", "cicw_m"])
def test_works_beside_robust_losses(metrics, rows, tmp_path, kind):
    base = (*SHORT, "train.steps=12", f"robust.kind={kind}")
    options = metric_settings(metrics, "cost", "loss.network.fit_steps=10", base=base)
    assert np.isfinite(trained(rows, tmp_path / "run", options).metric)


def test_metric_of_sets_takes_whole_ones(metrics, rows, tmp_path):
    base = (*SHORT, "train.steps=20", "batch_size=30")
    more = ("loss.per=set", "loss.set_size=8", "loss.network.fit_steps=10", "loss.look_every=1")
    done = trained(
        rows, tmp_path / "run", metric_settings(metrics, "cost_of_set", *more, base=base)
    )
    assert read_metric_watch(tmp_path / "run")["per"] == "set"
    assert 0 <= done.metric <= 5


def test_ragged_ends_of_batches_are_dropped_or_filled():
    outputs = whole_sets(lambda model, batch: (model(batch["x"]), batch["label"]), 4)
    batch = {"x": torch.arange(10.0)[:, None], "label": torch.arange(10)}
    prediction, target = outputs(torch.nn.Identity(), batch)
    assert prediction[:, 0].tolist() == list(range(8))
    assert target.tolist() == list(range(8))
    few = {name: value[:3] for name, value in batch.items()}
    assert outputs(torch.nn.Identity(), few)[1].tolist() == [0, 1, 2, 0]


def test_probabilities_are_those_of_the_forward_pass():
    outputs = class_probabilities(lambda model, batch: model(batch["images"]))
    batch = {"images": torch.zeros(2, 3, requires_grad=True), "label": torch.tensor([0, 2])}
    prediction, target = outputs(torch.nn.Identity(), batch)
    assert prediction.allclose(torch.full((2, 3), 1 / 3))
    assert prediction.requires_grad
    assert target.tolist() == [0, 2]


def test_processes_end_with_a_run_that_fails(metrics, rows, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(MetricLoss, "close", lambda loss: closed.append(loss))
    monkeypatch.setattr(MetricCalls, "close", lambda calls: closed.append(calls))
    with pytest.raises(TrainingError, match="nan"):
        trained(rows, tmp_path / "run", metric_settings(metrics, "broken"))
    assert len(closed) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "the metric gave nan"),
        ("raising", "nothing to divide by"),
        ("constant", "the metric is 1 for all"),
    ],
)
def test_metric_that_cannot_teach_is_named(metrics, rows, tmp_path, name, words):
    with pytest.raises(TrainingError) as caught:
        trained(rows, tmp_path / "run", metric_settings(metrics, name))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("loss.metric=a:b", "robust.kind=co_teaching"), "co_teaching"),
        (("loss.metrics=a:b",), "loss.metrics"),
        (("loss.metric=a:b", "loss.weight=-1"), "loss.weight"),
        (("loss.metric=a:b", "loss.network.widht=3"), "loss.network.widht"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(overrides, words):
    with pytest.raises(SettingsError) as caught:
        settings(overrides=[*SHORT, *overrides])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("loss.metric=nowhere.at.all:cost",), "nowhere.at.all"),
        (("loss.metric=cost",), "package.module:function"),
        (("loss.per=set", "loss.set_size=500"), "loss.set_size"),
    ],
)
def test_wrong_names_and_sizes_are_refused_before_the_first_step(
    metrics, rows, tmp_path, changes, words
):
    with pytest.raises(SettingsError) as caught:
        trained(rows, tmp_path / "run", metric_settings(metrics, "cost", *changes))
    assert words in str(caught.value)


def test_judge_of_nothing_but_failures_says_so(metrics):
    chosen = MetricSettings(
        metric=f"{metrics}:broken", on_failure="skip", workers=0, goal="higher", window=4
    )
    with judging(chosen) as judge, pytest.raises(TrainingError, match="judge none"):
        judge.value(np.full((9, 2), 0.5), np.zeros(9, dtype=np.int64))


def test_judge_turns_the_score_with_the_goal(metrics):
    chosen = MetricSettings(metric=f"{metrics}:cost", goal="higher", workers=0, window=4)
    with judging(chosen) as judge:
        said = judge.evaluation(np.full((9, 2), 0.5), np.ones(9, dtype=np.int64))
    assert said == {"score": 2.5, "metric": 2.5}
