"""Batches from which normalisation learns little or nothing are named before training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tilth.errors import SettingsError
from tilth.train.freeze_settings import FreezeSettings
from tilth.train.small_batches import small_batch_warning


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def warning(network, batch_size, *, cells=100, **freeze):
    settings = FreezeSettings(**freeze)
    return small_batch_warning(network, settings, batch_size=batch_size, smallest_map=cells)


@pytest.mark.parametrize(("batch_size", "words"), [(1, "one picture"), (3, "3 pictures")])
def test_a_small_batch_is_named(network, batch_size, words):
    assert words in warning(network, batch_size)


def test_nothing_is_said_where_nothing_is_learned_from_the_batch(network):
    assert warning(network, 4) is None
    assert warning(network, 1, layers=1) is None
    assert warning(nn.Conv2d(3, 2, 1), 1) is None
    assert warning(network, 1, layers=1, until_step=10) is not None  # trained later


def test_one_value_a_channel_is_refused_as_torch_would(network):
    with pytest.raises(SettingsError, match="one value a channel"):
        warning(network, 1, cells=1)
    with pytest.raises(ValueError, match="more than 1 value"):
        network.train()(torch.zeros(1, 3, 1, 1))
    assert warning(network, 2, cells=1) is not None
