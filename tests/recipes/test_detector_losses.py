"""What a run's settings say of its loss reaches the loss, and is part of what the run is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from drawn_sets import draw_pictures

from tilth.errors import SettingsError, TrainingError
from tilth.losses.detection import DetectionLoss
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.recipes.detect_settings import DetectSettings, ModelSettings
from tilth.recipes.detector_training import train_detector
from tilth.train.adversarial_settings import AdversarialSettings
from tilth.train.augment_settings import AugmentSettings
from tilth.train.loop_settings import LoopSettings

SETTINGS = DetectSettings(
    model=ModelSettings(width=0.25, size=64),
    train=LoopSettings(steps=4, ema_decay=0.0, log_every=1, device="cpu"),
    augment=AugmentSettings(mixup=0.5),
    batch_size=4,
)
DARKNET = DetectionLossSettings(gradient="darknet", class_weights="balanced")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("drawn"), 6)


def train(drawn, run_dir, settings=SETTINGS):
    options = {"digest": "abc", "seed": 3, "progress": False}
    return train_detector(
        *drawn, settings=settings, root=run_dir.parent, run_dir=run_dir, **options
    )


def test_settings_of_the_loss_are_part_of_the_run(drawn, tmp_path):
    done = train(drawn, tmp_path / "run", replace(SETTINGS, loss=DARKNET))
    assert done.loss["num_positives"] > 0
    kept = json.loads((tmp_path / "run" / "run.json").read_bytes())
    assert kept["data"]["loss"]["gradient"] == "darknet"
    with pytest.raises(TrainingError, match="another run"):
        train(drawn, tmp_path / "run")


def test_a_run_that_changes_its_own_pictures_is_another_run(drawn, tmp_path):
    adversarial = AdversarialSettings(learning_rate=100.0, share=1.0)
    changed = train(drawn, tmp_path / "changed", replace(SETTINGS, adversarial=adversarial))
    plain = train(drawn, tmp_path / "plain")
    assert changed.last_weights.read_bytes() != plain.last_weights.read_bytes()
    with pytest.raises(TrainingError, match="another run"):
        train(drawn, tmp_path / "changed")


def test_weights_of_boxes_and_regions_reach_the_loss(drawn, tmp_path, monkeypatch):
    given = []
    original = DetectionLoss.forward

    def forward(self, *arguments, **named):
        given.append(named)
        return original(self, *arguments, **named)

    monkeypatch.setattr(DetectionLoss, "forward", forward)
    train(drawn, tmp_path / "run")
    assert any((named["box_weights"] < 1).any() for named in given)  # of mixed pictures
    assert all(named["ignore_boxes_xyxy"] is not None for named in given)


def test_class_weights_of_another_number_of_classes_are_refused(drawn, tmp_path):
    loss = DetectionLossSettings(class_weights=(1.0, 2.0, 3.0, 4.0, 5.0))
    with pytest.raises(SettingsError, match="one a class"):
        train(drawn, tmp_path / "run", replace(SETTINGS, loss=loss))
