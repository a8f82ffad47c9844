"""Settings that no run could use are refused where they are given."""

from __future__ import annotations

import pytest

from tilth.errors import SettingsError
from tilth.recipes.detect_settings import settings


@pytest.mark.parametrize(
    "override",
    [
        "batch_size=0",
        "model.size=100",
        "model.size=0",
        "experiment.workers=-1",
        "experiment.examples=-2",
        "experiment.holdout=1.0",
        "experiment.score_threshold=7",
        "experiment.seeds=[]",
        "experiment.seeds=[1, 1]",
        "train.steps=0",
    ],
)
def test_a_value_that_cannot_be_used(override: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(overrides=[override])
    name = override.split("=")[0]
    assert name.split(".")[-1] in str(caught.value)


def test_files_and_overrides_fill_the_same_names() -> None:
    values = {"train": {"steps": 70}, "experiment": {"seeds": [4, 5]}, "clusters": {"k": "auto"}}
    chosen = settings(values, ["train.steps=90", "rebalance.target=30"])
    assert chosen.train.steps == 90
    assert chosen.experiment.seeds == (4, 5)
    assert chosen.clusters.k == "auto"
    assert chosen.rebalance.target == 30


def test_a_name_that_does_not_exist_is_told_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        settings(overrides=["train.step=70"])
    assert "steps" in str(caught.value)
