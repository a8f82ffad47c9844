"""Self-adversarial training: what it changes in pictures, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_training import Blobs, network, squared_error

from tilth.errors import SettingsError
from tilth.losses.detection import DetectionLoss
from tilth.models.yolov4 import YoloV4
from tilth.train.adversarial import NumberedBatches, hidden, self_adversarial
from tilth.train.adversarial_settings import AdversarialSettings
from tilth.train.checkpoint import load_weights
from tilth.train.loop import LoopSettings, fit

SIDE = 64
SETTINGS = AdversarialSettings(learning_rate=1.0)


def detection_loss(model):
    loss = DetectionLoss.of_network(model)

    def batch_loss(network, batch):
        names = ("boxes_xyxy", "class_index", "image_index", "box_weights")
        return loss(network(batch["images"]), *(batch[name] for name in names))

    return batch_loss


class Squares:
    """A bright square on a dark ground in every picture."""

    def __init__(self):
        self.identity = {"data": "squares"}

    def batch(self, step):
        draw = torch.Generator().manual_seed(step)
        images = 0.3 * torch.rand(4, 3, SIDE, SIDE, generator=draw)
        corners = torch.randint(0, SIDE - 24, (4, 2), generator=draw)
        for image, (x, y) in zip(images, corners.tolist(), strict=True):
            image[:, y : y + 24, x : x + 24] = 0.9
        return {
            "images": images,
            "boxes_xyxy": torch.cat([corners, corners + 24], dim=1).float(),
            "class_index": torch.zeros(4, dtype=torch.int64),
            "image_index": torch.arange(4),
            "box_weights": torch.ones(4),
        }


def small_detector():
    torch.manual_seed(0)
    anchors = [[(24, 24), (40, 40), (60, 60)], [(12, 12), (24, 16), (16, 24)]]
    return YoloV4(1, variant="yolov4-tiny", width=0.125, anchors=anchors)


@pytest.fixture(scope="module")
def trained():
    """A detector that has seen enough squares to find them."""
    model = small_detector()
    loss, squares = detection_loss(model), Squares()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        optimiser.zero_grad()
        loss(model, squares.batch(step))["total"].backward()
        optimiser.step()
    optimiser.zero_grad()
    return model


def strength(model, images):
    """The strongest score of each picture."""
    model.eval()
    with torch.no_grad():
        scores = model.decode(model(images))[1].flatten(1).amax(dim=1)
    model.train()
    return scores


def test_hidden_pictures_hold_fewer_objects(trained):
    batch = Squares().batch(1000)
    before = strength(trained, batch["images"])
    assert before.min() > 0.3
    images = hidden(detection_loss(trained), trained, batch, rate=1.0, max_change=0.1)
    after = strength(trained, images)
    assert (after < before).all()
    # The same changes at other places of the pictures hide next to nothing: where they lie is
    # what does it. (How much they hide depends on the machine's rounding: 15% to 60%.)
    changes = (images - batch["images"]).flatten(1)
    elsewhere = changes[:, torch.randperm(changes.shape[1])].view_as(images)
    shuffled = strength(trained, (batch["images"] + elsewhere).clamp(0, 1))
    assert (before - after).mean() > 5 * (before - shuffled).abs().mean()


@pytest.mark.parametrize("rate", [1e-3, 1.0, 1e6])
def test_changes_are_bounded(trained, rate):
    batch = Squares().batch(7)
    images = hidden(detection_loss(trained), trained, batch, rate=rate, max_change=0.05)
    assert (images - batch["images"]).abs().max() <= 0.05 + 1e-6
    assert images.min() >= 0
    assert images.max() <= 1
    assert not torch.equal(images, batch["images"])


def test_a_picture_is_changed_alike_in_any_batch(trained):
    batch, loss = Squares().batch(8), detection_loss(trained)
    alone = {name: value[:1] for name, value in batch.items()}
    together = hidden(loss, trained, batch, rate=0.5, max_change=0.1)[:1]
    torch.testing.assert_close(hidden(loss, trained, alone, rate=0.5, max_change=0.1), together)


def test_gradients_are_those_of_the_second_stage_alone(trained):
    batch = {**Squares().batch(9), "batch_number": 50}
    loss, settings = detection_loss(trained), replace(SETTINGS, share=1.0)
    options = {"steps": 100, "warmup_steps": 10, "batches_per_step": 1, "seed": 0}
    state = {name: value.clone() for name, value in trained.state_dict().items()}
    self_adversarial(loss, settings, **options)(trained, batch)["total"].backward()
    found = [parameter.grad.clone() for parameter in trained.parameters()]

    trained.zero_grad()
    trained.load_state_dict(state)
    images = hidden(loss, trained, batch, rate=0.5, max_change=0.1)
    assert all(parameter.grad is None for parameter in trained.parameters())
    unchanged = trained.state_dict()
    assert all(torch.equal(value, unchanged[name]) for name, value in state.items())
    loss(trained, {**batch, "images": images})["total"].backward()
    for parameter, gradient in zip(trained.parameters(), found, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    trained.zero_grad()


def test_modules_keep_the_mode_in_which_they_were(trained):
    frozen = next(module for module in trained.modules() if isinstance(module, nn.BatchNorm2d))
    frozen.eval()
    hidden(detection_loss(trained), trained, Squares().batch(1), rate=1.0, max_change=0.1)
    assert not frozen.training
    others = [module for module in trained.modules() if module is not frozen]
    assert all(module.training for module in others)
    frozen.train()


def recorded(settings, numbers, **options):
    """Whether the picture of each batch was changed before it was learned."""
    changed = []

    def loss(model, batch):
        if len(batch["boxes_xyxy"]):
            changed.append(bool((batch["images"] != 0.5).any()))
        return {"total": model(batch["images"]).square().mean()}

    usual = {"steps": 100, "warmup_steps": 10, "batches_per_step": 1, "seed": 3}
    wrapped = self_adversarial(loss, settings, **{**usual, **options})
    model = nn.Conv2d(3, 1, 1)
    for number in numbers:
        batch = {
            "images": torch.full((1, 3, 2, 2), 0.5),
            "boxes_xyxy": torch.ones(1, 4),
            "batch_number": number,
        }
        wrapped(model, batch)
    return changed


def test_half_of_the_steps_after_the_burn_in_change_their_pictures():
    changed = recorded(SETTINGS, range(100))
    assert not any(changed[:10])
    assert 30 < sum(changed) < 60
    assert recorded(SETTINGS, range(100)) == changed
    assert recorded(SETTINGS, range(40, 100)) == changed[40:]
    assert all(recorded(replace(SETTINGS, share=1.0), range(10, 40)))


def test_all_batches_of_a_step_are_treated_alike():
    by_batch = recorded(SETTINGS, range(400), batches_per_step=4)
    assert by_batch[::4] == by_batch[3::4] == recorded(SETTINGS, range(100))


def test_learning_rate_zero_is_the_loss_itself():
    def loss(model, batch):
        return {}

    options = {"steps": 9, "warmup_steps": 0, "batches_per_step": 1, "seed": 0}
    assert self_adversarial(loss, AdversarialSettings(), **options) is loss


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_resumed_run_changes_the_same_pictures(tmp_path, precision):
    settings = LoopSettings(
        steps=6, learning_rate=0.01, checkpoint_every=2, log_every=1, precision=precision,
        device="cpu", ema_decay=0.0,
    )  # fmt: skip
    changes = AdversarialSettings(learning_rate=1.0, share=0.7)

    def run(folder, stop_at=None):
        model = small_detector()
        batches = NumberedBatches(source=Squares(), settings=changes)
        loss = self_adversarial(
            detection_loss(model), changes, steps=6, warmup_steps=1, batches_per_step=1, seed=0
        )

        def stopping(network, batch):
            if stop_at is not None and batch["batch_number"] >= stop_at:
                raise KeyboardInterrupt
            return loss(network, batch)

        return fit(model, stopping, batches, settings=settings, run_dir=folder, progress=False)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop_at=4)
    again = run(tmp_path / "parts")
    assert again.resumed_from == 4
    assert again.last_weights.read_bytes() == whole.last_weights.read_bytes()


def test_other_settings_are_another_run():
    one = NumberedBatches(source=Squares(), settings=SETTINGS)
    other = NumberedBatches(source=Squares(), settings=AdversarialSettings())
    assert one.identity != other.identity
    assert one.identity["data"] == "squares"
    assert one.batch(5)["batch_number"] == 5


@pytest.mark.parametrize("name", ["learning_rate", "share", "max_change"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_settings_that_cannot_be_used_are_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        AdversarialSettings(**{name: value})


def toy_run(run_dir, *, batch_size=4, processes=2):
    """A run of which every step changes its pictures; also called in every process of torchrun."""
    settings = LoopSettings(
        steps=6, learning_rate=0.1, accumulate=2, log_every=1, ema_decay=0.0, device="cpu"
    )
    changes = AdversarialSettings(learning_rate=5.0, share=0.7)
    loss = self_adversarial(
        squared_error, changes, steps=6, warmup_steps=1, batches_per_step=2 * processes, seed=0
    )
    batches = NumberedBatches(source=Blobs(batch_size), settings=changes)
    model = network(normalised=False)  # batch statistics are those of a process, on purpose
    fit(model, loss, batches, settings=settings, run_dir=Path(run_dir), progress=False)
    return model


@pytest.mark.cluster
def test_two_processes_change_what_one_with_double_batches_does(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, __file__, str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    two, one = network(normalised=False), toy_run(tmp_path / "one", batch_size=8, processes=1)
    load_weights(tmp_path / "two" / "last.safetensors", two)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    toy_run(sys.argv[1])
