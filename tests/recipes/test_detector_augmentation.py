"""A detector trains on what the augmentation gives it, and goes on with the same after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_sets import draw_pictures
from safetensors.torch import load_file

from tilth.data.dataset import Dataset
from tilth.errors import DataError
from tilth.recipes.detect_settings import DetectSettings, ModelSettings
from tilth.recipes.detector_training import train_detector
from tilth.train.augment_settings import AugmentSettings
from tilth.train.loading import DetectionBatches
from tilth.train.loop_settings import LoopSettings
from tilth.train.sampling import SamplingSettings

FULL = AugmentSettings(
    jitter=0.2,
    rotation_degrees=10.0,
    contrast=0.2,
    mosaic=0.6,
    mixup=0.4,
    cutout=0.4,
    blur=0.3,
    multi_scale=2.0,
    multi_scale_every=1,
    close_mosaic=0.3,
)
TINY = DetectSettings(
    model=ModelSettings(width=0.125, size=64),
    train=LoopSettings(
        steps=6,
        optimiser="adamw",
        learning_rate=0.003,
        ema_decay=0.5,
        checkpoint_every=2,
        log_every=1,
        device="cpu",
    ),
    augment=FULL,
    batch_size=4,
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, list[Path]]:
    return draw_pictures(tmp_path_factory.mktemp("drawn"), 6)


def _train(drawn, run_dir: Path, settings: DetectSettings = TINY, **options: object):
    return train_detector(
        *drawn,
        settings=settings,
        root=run_dir.parent,
        run_dir=run_dir,
        digest="abc",
        seed=0,
        progress=False,
        **options,
    )


def test_a_run_that_is_killed_goes_on_with_the_same_mosaics(drawn, tmp_path: Path) -> None:
    whole = _train(drawn, tmp_path / "whole")
    made = DetectionBatches.batch

    def pulled_plug(self: DetectionBatches, step: int) -> dict:
        if step == 4:
            raise KeyboardInterrupt
        return made(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectionBatches, "batch", pulled_plug)
        with pytest.raises(KeyboardInterrupt):
            _train(drawn, tmp_path / "killed")
    again = _train(drawn, tmp_path / "killed")
    assert again.resumed_from in (2, 4)
    for name, weights in load_file(whole.last_weights).items():
        assert torch.equal(load_file(again.last_weights)[name], weights), name


def test_pixels_made_on_the_device_train_as_those_of_the_cpu(drawn, tmp_path: Path) -> None:
    there = replace(TINY, augment=replace(FULL, on_device=True))
    on_device, here = _train(drawn, tmp_path / "device", there), _train(drawn, tmp_path / "cpu")
    assert on_device.steps == here.steps == 6
    assert on_device.loss["total"] == pytest.approx(here.loss["total"], rel=0.2)


def test_pictures_are_sampled_as_the_settings_say(drawn, tmp_path: Path) -> None:
    by_cluster = replace(TINY, sampling=SamplingSettings(kind="cluster"))
    with pytest.raises(DataError, match="cannot be sampled"):
        _train(drawn, tmp_path / "none", by_cluster)
    clusters = np.array([0, 0, 0, 0, 0, 1])
    seen: list[int] = []
    made = DetectionBatches.batch

    def noted(self: DetectionBatches, step: int) -> dict:
        batch = made(self, step)
        seen.extend(batch["media_index"].tolist())
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectionBatches, "batch", noted)
        _train(drawn, tmp_path / "clusters", by_cluster, clusters=clusters)
    assert np.mean(np.array(seen) == 5) == pytest.approx(0.5, abs=0.1)
