"""What is frozen does not change by a bit, running statistics included, until it is let go."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy_training import Blobs, evaluate, network, squared_error

from tilth.errors import SettingsError
from tilth.train.checkpoint import load_weights
from tilth.train.freeze_settings import FreezeSettings
from tilth.train.freezing import Freezing, frozen_parameters, weighted_layers
from tilth.train.loop import LoopSettings, fit

SETTINGS = LoopSettings(
    steps=12, learning_rate=0.1, evaluate_every=3, checkpoint_every=5, ema_decay=0.9, device="cpu"
)
FIRST = FreezeSettings(layers=1)  # the convolution and its normalisation


def _fit(run_dir, freeze, *, model=None, batches=None, **changes):
    model = model or network()
    settings = replace(SETTINGS, freeze=freeze, **changes)
    fit(
        model,
        squared_error,
        batches or Blobs(),
        settings=settings,
        run_dir=run_dir,
        evaluate=evaluate,
        progress=False,
    )
    return model


def _changed(model):
    start = network().state_dict()
    return {
        name for name, value in model.state_dict().items() if not torch.equal(value, start[name])
    }


@pytest.mark.parametrize("freeze", [FIRST, FreezeSettings(names=("0", "1"))])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_frozen_tensors_do_not_change_by_a_bit(tmp_path, freeze, optimiser):
    model = _fit(tmp_path, freeze, optimiser=optimiser, weight_decay=0.1)
    assert _changed(model) == {"4.weight", "4.bias"}
    best = network()
    load_weights(tmp_path / "best.safetensors", best)  # of the moving average
    assert _changed(best) == {"4.weight", "4.bias"}


def test_a_frozen_normalisation_without_freezing_would_move():
    """What the claim above is worth: in training mode the running statistics do change."""
    model = network().requires_grad_(False).train()
    model(Blobs().batch(0)["images"])
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} == _changed(model)


def test_what_is_let_go_at_a_step_is_trained_from_there(tmp_path):
    seen = {}

    class Watched(Blobs):
        def batch(self, step):
            seen[step] = {name: value.clone() for name, value in model.state_dict().items()}
            return super().batch(step)

    model = network()
    freeze = replace(FIRST, until_step=7)
    _fit(tmp_path, freeze, model=model, batches=Watched(), workers=0)
    start = network().state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.running_mean"):
        assert torch.equal(seen[7][name], start[name])
        assert not torch.equal(seen[8][name], start[name])


@pytest.mark.parametrize("at", [6, 7, 8, 11])
def test_resumed_across_the_step_of_letting_go_to_the_same_bits(tmp_path, at):
    class Stopping(Blobs):
        def batch(self, step):
            if step == at:
                raise InterruptedError
            return super().batch(step)

    freeze = replace(FIRST, until_step=7)
    whole = _fit(tmp_path / "whole", freeze)
    with pytest.raises(InterruptedError):
        _fit(tmp_path / "cut", freeze, batches=Stopping())
    resumed = _fit(tmp_path / "cut", freeze)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_model_comes_back_trainable(tmp_path):
    model = _fit(tmp_path, FIRST)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_the_owner_froze_stays_frozen():
    model = network()
    model[0].requires_grad_(False)
    freezing = Freezing(model, FreezeSettings(names=("0", "1"), until_step=3))
    freezing.apply(5)
    assert not model[0].weight.requires_grad
    assert model[1].weight.requires_grad


def test_layers_are_kernels_with_what_follows_them():
    model = network()
    assert weighted_layers(model) == [
        ["0.weight", "0.bias", "1.weight", "1.bias"],
        ["4.weight", "4.bias"],
    ]
    assert frozen_parameters(model, FIRST) == weighted_layers(model)[0]


def test_a_pattern_and_a_prefix_choose_whole_parts():
    model = nn.ModuleDict({"stem": nn.Linear(1, 1), "stem_two": nn.Linear(1, 1)})
    chosen = frozen_parameters(model, FreezeSettings(names=("stem",)))
    assert chosen == ["stem.weight", "stem.bias"]
    assert frozen_parameters(model, FreezeSettings(names=("*.bias",))) == [
        "stem.bias",
        "stem_two.bias",
    ]


def test_unknown_parts_too_many_layers_and_nothing_left_are_refused():
    with pytest.raises(SettingsError, match="no part 'backbone'") as caught:
        frozen_parameters(network(), FreezeSettings(names=("backbone",)))
    assert "0, 1, 4" in caught.value.expected
    with pytest.raises(SettingsError, match="fewer layers") as caught:
        frozen_parameters(network(), FreezeSettings(layers=3))
    assert caught.value.expected == "0 to 2"
    with pytest.raises(SettingsError, match="nothing would be learned"):
        Freezing(network(), FreezeSettings(layers=2))
    with pytest.raises(SettingsError, match="until_step"):
        FreezeSettings(until_step=5)
    with pytest.raises(SettingsError, match="layers"):
        FreezeSettings(layers=-1)
