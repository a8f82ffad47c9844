"""A detector's run ends in the same bits, however often it was stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from drawn_sets import draw_pictures, drawn_project
from safetensors.torch import load_file

from tilth.data.records import Split
from tilth.errors import SettingsError, TrainingError
from tilth.recipes import detector_training as recipe
from tilth.recipes.detect_settings import DetectSettings, ModelSettings
from tilth.recipes.detector import load_detector
from tilth.recipes.detector_training import train_detector
from tilth.train import batch_size
from tilth.train.augment_settings import AugmentSettings
from tilth.train.freeze_settings import FreezeSettings
from tilth.train.loading import DetectionBatches
from tilth.train.loop_settings import LoopSettings
from tilth.train.trackers import read_records

NUM_PICTURES = 10
SETTINGS = DetectSettings(
    model=ModelSettings(width=0.25, size=64),
    train=LoopSettings(
        optimiser="adamw",
        learning_rate=0.003,
        ema_decay=0.9,
        warmup_steps=2,
        checkpoint_every=3,
        log_every=2,
        device="cpu",
    ),
    augment=AugmentSettings(mosaic=0.5, mixup=0.3, multi_scale=1.4, multi_scale_every=2),
    epochs=4,
    batch_size=4,
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("drawn"), NUM_PICTURES)


def train(drawn, run_dir, settings=SETTINGS, **options):
    dataset, paths = drawn
    return train_detector(
        dataset,
        paths,
        settings=settings,
        root=run_dir.parent,
        run_dir=run_dir,
        digest="abc",
        seed=3,
        validation=drawn,
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def four_epochs(drawn, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("four") / "run"
    return train(drawn, run_dir)


def weights(result):
    return [path.read_bytes() for path in (result.last_weights, result.best_weights)]


def test_epochs_are_counted_and_each_is_scored(four_epochs):
    assert four_epochs.steps == 12  # 10 pictures in batches of 4 are 3 steps
    records = read_records(four_epochs.metrics)
    scored = [record for record in records if "evaluation" in record]
    assert [record["step"] for record in scored] == [3, 6, 9, 12]
    assert {"score", "ap", "ap50", "ap75"} <= scored[0]["evaluation"].keys()
    losses = [record["loss"] for record in records if "loss" in record]
    assert {"box", "objectness", "class", "total", "num_positives"} <= losses[0].keys()


@pytest.mark.parametrize("at", [5, 6, 7])
def test_two_and_two_epochs_are_four_bit_for_bit(drawn, four_epochs, tmp_path, monkeypatch, at):
    """With mosaic, mixup, random sizes, warm-up, cosine, moving average and evaluations."""
    make = DetectionBatches.batch

    def stopping(self, step):
        if step == at:
            raise InterruptedError
        return make(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(DetectionBatches, "batch", stopping)
        with pytest.raises(InterruptedError):
            train(drawn, tmp_path / "run")
    resumed = train(drawn, tmp_path / "run")
    assert resumed.resumed_from == 3 * (at // 3)
    assert weights(resumed) == weights(four_epochs)
    assert resumed.loss == four_epochs.loss
    assert resumed.evaluation == four_epochs.evaluation


def test_a_run_of_two_epochs_that_is_extended_is_one_of_four(drawn, tmp_path):
    """Where nothing depends on the length of the run: a constant rate, and mosaics to the end."""
    constant = replace(
        SETTINGS,
        train=replace(SETTINGS.train, schedule="constant"),
        augment=replace(SETTINGS.augment, close_mosaic=0.0),
    )
    whole = train(drawn, tmp_path / "whole", constant)
    train(drawn, tmp_path / "parts", replace(constant, epochs=2))
    with pytest.raises(TrainingError, match="another run"):
        train(drawn, tmp_path / "parts", constant)
    extended = train(drawn, tmp_path / "parts", constant, extend=True)
    assert extended.resumed_from == 6
    assert weights(extended) == weights(whole)


def test_a_frozen_backbone_does_not_move(drawn, tmp_path):
    freeze = FreezeSettings(names=("backbone",))
    settings = replace(SETTINGS, epochs=2, train=replace(SETTINGS.train, freeze=freeze))
    start = recipe.new_detector(settings.model, ("bright", "dark"), root=tmp_path, seed=3)[0]
    result = train(drawn, tmp_path / "run", settings)
    before, after = start.model.state_dict(), load_file(result.last_weights)
    moved = {name for name in after if not before[name].equal(after[name])}
    assert moved
    assert not any(name.startswith("backbone.") for name in moved)
    assert any(name.startswith("neck.") for name in moved)


def test_the_batch_size_that_was_measured_stays(drawn, tmp_path, monkeypatch):
    measured = []

    def peak(probe, size, *, device):
        measured.append((probe.size, size))
        return 100 * size

    monkeypatch.setattr(batch_size, "peak_memory", peak)
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 1000)
    settings = replace(SETTINGS, batch_size="auto", epochs=2)
    result = train(drawn, tmp_path / "run", settings)
    assert result.steps == 4  # 8 of 10 pictures a step
    assert measured == [(96, 2), (96, 4)]  # at the largest of the random sizes
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 150)
    assert train(drawn, tmp_path / "run", settings).resumed_from == 4
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["data"]["batch_size"] == 8


@pytest.mark.slow
def test_memory_of_a_detector_is_measured_in_a_process_of_its_own(drawn, tmp_path):
    settings = replace(SETTINGS, batch_size="auto", epochs=1)
    train(drawn, tmp_path / "run", settings)
    record = json.loads((tmp_path / "run" / "batch_size.json").read_text())
    assert record["batch_size"] == 8  # all that ten pictures fill
    assert record["measured"][1][1] > record["measured"][0][1] > 100 * 2**20


@pytest.mark.parametrize(("name", "value"), [("epochs", -1), ("batch_size", 0)])
def test_settings_that_cannot_be_used_are_named(name, value):
    with pytest.raises(SettingsError, match=f"'{name}'"):
        replace(SETTINGS, **{name: value})


@pytest.mark.slow
@pytest.mark.cluster
def test_torchrun_trains_and_scores_as_one_process_does(tmp_path):
    """The command itself: one voice, one writer, and the scores of a single process."""
    project = drawn_project(tmp_path / "field", train=12, test=21)
    media = project.catalogue.read().media
    tests = media.id[media.split == Split.TEST]
    project.catalogue.set_splits(tests, [Split.VAL] * len(tests))
    options = [*("--name", "two"), "--json"]
    for setting in ("model.width=0.25", "model.size=64", "train.steps=4", "batch_size=2"):
        options += ["--set", setting]
    for setting in ("evaluate_every=2", "threads=1", "device=cpu", "log_every=1"):
        options += ["--set", f"train.{setting}"]
    torchrun = [*("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "tilth", "detect", "train", *options],
        cwd=project.root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)  # one document, of one process
    assert told["steps"] == 4
    run_dir = project.root / "runs" / "two"
    assert len(project.catalogue.runs()) == 1
    assert len({record["step"] for record in read_records(run_dir / "metrics.jsonl")}) == 4
    best = load_detector(run_dir, device="cpu")
    best.model.to(memory_format=torch.channels_last)  # as in training: it adds in another order
    held_back = project.catalogue.read(version="two").of_split(Split.VAL)
    paths = [project.media_path(uri) for uri in held_back.media.uri]
    alone = recipe._Scorer(held_back, paths, best)(best.model)
    kept = [r["evaluation"] for r in read_records(run_dir / "metrics.jsonl") if "evaluation" in r]
    assert alone in kept
